"""Generation speed of the engines at full size, written to a JSON file part by part.

    python -m tests.gpu.engine_speed FOLDER OUT.json [--engine fast|vllm] [--requests 700]

FOLDER holds a model (random weights will do); a random LoRA of rank 16 on the seven projections is made for it. The
bandwidth limit is weights and key-value cache read once a step at 4.3 TB/s, which a device-to-device copy reaches on
an H200 counting bytes read and written.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.backends import PassTimes
from harness.engine import Engine, Request
from harness.orders import Message, Partner, Records, WorkOrder
from harness.records import Job
from harness.store import JobFile
from harness.suite import Adapter, Model, Sampling
from harness.workloads.generate_at_once import answer_all
from tests.gpu.random_adapter import write_random_adapter

BANDWIDTH = 4.3e12
PROMPT_TOKENS, NEW_TOKENS = 200, 128
PASSES = 3
WORDS = [
    "하늘",
    "바다",
    "학교",
    "시장",
    "아침",
    "저녁",
    "친구",
    "가족",
    "여행",
    "음악",
    "책상",
    "창문",
    "구름",
    "나무",
    "강물",
    "도시",
    "마을",
    "시간",
    "계절",
    "날씨",
]


def make_order(folder: Path, adapter: Path, prompts: dict[str, str], engine: str) -> WorkOrder:
    """Return an order that answers every prompt with the base and with the adapter."""
    model = Model(path=folder.name, dtype="bfloat16", prompt_format="plain", max_seq_length=1024)
    tuned = model.model_copy(update={"adapter": Adapter(path="random")})
    ids = tuple(prompts)
    batches = tuple(ids[start : start + 256] for start in range(0, len(ids), 256))
    job = Job(
        id="generate-base-tuned-0",
        kind="generate",
        model="base",
        partners=("tuned",),
        batches=batches or (("none",),),
        parameters={"engine": engine},
    )
    return WorkOrder(
        job=job,
        model=model,
        model_place=str(folder),
        model_hash="speed",
        partners=(Partner(name="tuned", model=tuned, adapter_place=str(adapter), adapter_hash="speed"),),
        sampling=Sampling(max_new_tokens=NEW_TOKENS),
        prompts=prompts,
        log_file="unused.log",
    )


def mixed_prompts(tokenizer: Any, count: int) -> dict[str, str]:
    """Return prompts of 60 to 300 tokens, evenly spread, of random words; longest first, as a plan lays them out."""
    chooser = random.Random(0)
    texts = []
    for number in range(count):
        wanted = 60 + number * 240 // max(1, count - 1)
        words = [chooser.choice(WORDS) for _ in range(wanted)]
        ids = tokenizer(" ".join(words), add_special_tokens=False)["input_ids"][:wanted]
        texts.append(tokenizer.decode(ids))
    return {f"p{number}": text for number, text in enumerate(reversed(texts))}


class Report:
    """The JSON file, written anew after every part."""

    def __init__(self, out: Path) -> None:
        self.out, self.parts = out, list[dict[str, Any]]()

    def add(self, part: str, **values: Any) -> None:
        self.parts.append({"part": part, **values})
        self.out.write_text(json.dumps(self.parts, indent=1) + "\n")
        print(part, json.dumps(values), flush=True)


def time_fixed_lengths(engine: Engine, report: Report, weight_bytes: int, token_bytes: int, batches: list[int]) -> None:
    for batch in batches:
        started = time.perf_counter()
        engine.time_pass(batch, PROMPT_TOKENS, NEW_TOKENS)
        first_pass = time.perf_counter() - started
        passes = [engine.time_pass(batch, PROMPT_TOKENS, NEW_TOKENS) for _ in range(PASSES)]
        decode = [batch * (NEW_TOKENS - 1) / (one.tokens[-1] - one.tokens[0]) for one in passes]
        whole = [batch * NEW_TOKENS / (one.tokens[-1] - one.start) for one in passes]
        held = batch * (PROMPT_TOKENS + NEW_TOKENS / 2) * token_bytes
        limit = batch * BANDWIDTH / (weight_bytes + held)
        report.add(
            "fixed lengths",
            batch=batch,
            decode_tokens_per_second=decode,
            tokens_per_second=whole,
            share_of_limit=statistics.median(whole) / limit,
            share_of_limit_decode=statistics.median(decode) / limit,
            first_token_seconds=[one.tokens[0] - one.start for one in passes],
            step_milliseconds=_median_step(passes) * 1000,
            warmup_seconds=engine.warmup_seconds(),
            first_pass_seconds=first_pass,
        )


def _median_step(passes: list[PassTimes]) -> float:
    return statistics.median(b - a for one in passes for a, b in itertools.pairwise(one.tokens))


def time_suite(
    engine: Engine,
    report: Report,
    prompts: list[str],
    variants: list[int],
    batch: int | str,
    limit_bytes: tuple[int, int],
) -> float:
    """Answer all prompts with the variants and report; return the seconds."""
    requests = [Request(prompt, variant) for prompt in prompts for variant in variants]
    sampling = Sampling.model_validate({"max_new_tokens": NEW_TOKENS, "batch_size": batch})
    warm_before, started = engine.warmup_seconds(), time.perf_counter()
    answers = [answer for _, answer in engine.answers(requests, sampling)]
    seconds = time.perf_counter() - started
    warmup = engine.warmup_seconds() - warm_before
    tokens = sum(answer.new_tokens for answer in answers)
    mean_length = sum(answer.prompt_tokens for answer in answers) / len(answers) + NEW_TOKENS / 2
    weight_bytes, token_bytes = limit_bytes
    rows = min(64 if batch == "auto" else int(batch), len(requests))
    limit = rows * BANDWIDTH / (weight_bytes + rows * mean_length * token_bytes)
    report.add(
        "mixed lengths",
        variants=variants,
        batch=batch,
        requests=len(requests),
        new_tokens=tokens,
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        seconds=seconds,
        of_these_warmup=warmup,
        tokens_per_second=tokens / (seconds - warmup),
        share_of_limit=tokens / (seconds - warmup) / limit,
    )
    return seconds - warmup


def measure_fast(folder: Path, adapter: Path, report: Report, count: int, short: bool = False) -> None:
    import torch

    from harness.backends.hf import load as load_model
    from harness.engine.fast import FastEngine

    started = time.perf_counter()
    loaded = load_model(make_order(folder, adapter, {}, "fast"))
    prompts = list(mixed_prompts(loaded.tokenizer, count).values())
    report.add("load", seconds=time.perf_counter() - started)
    plain = None if short else _plain_answers(loaded, prompts[:: max(1, count // 64)][:64], report)
    started = time.perf_counter()
    engine = FastEngine(loaded)
    report.add(
        "fast engine made",
        seconds=time.perf_counter() - started,
        warmup=engine.warmup_seconds(),
        distance=engine.logit_distance,
        rounding=engine.rounding,
    )
    config = loaded.model.config
    weight_bytes = sum(p.nbytes for p in engine.model.parameters()) - engine.model.get_input_embeddings().weight.nbytes
    heads, layers = config.num_key_value_heads, config.num_hidden_layers
    token_bytes = 2 * 2 * heads * layers * (config.hidden_size // config.num_attention_heads)
    sizes = (weight_bytes, token_bytes)
    time_fixed_lengths(engine, report, *sizes, [1, 64] if short else [1, 64, 256])
    if plain:
        _compare(engine, plain, prompts[:: max(1, count // 64)][:64], report)
    for batch in (64,) if short else (64, 128, 256):
        time_suite(engine, report, prompts, [0], batch, sizes)
    for batch in (64,):
        alone = time_suite(engine, report, prompts, [1], batch, sizes)
        both = time_suite(engine, report, prompts, [0, 1], batch, sizes)
        double = time_suite(engine, report, prompts, [0, 1], 2 * batch, sizes)
        report.add("base and tuned", batch=batch, same_rows=both / alone, double_rows=double / alone)
    report.add(
        "memory", peak_allocated=torch.cuda.max_memory_allocated(), peak_reserved=torch.cuda.max_memory_reserved()
    )


def _plain_answers(loaded: Any, prompts: list[str], report: Report) -> list[list[str]]:
    """Answer with the plain path, base then tuned; the second call is the one that is timed."""
    sampling = Sampling(max_new_tokens=NEW_TOKENS)
    texts = []
    for variant in (0, 1):
        with loaded.as_variant(variant):
            loaded.answer(prompts[:8], Sampling(max_new_tokens=4), 0, None)
            started = time.perf_counter()
            answers = loaded.answer(prompts, sampling, 0, None)
            seconds = time.perf_counter() - started
            tokens = sum(answer.new_tokens for answer in answers)
            report.add("plain path", variant=variant, batch=len(prompts), tokens_per_second=tokens / seconds)
            texts.append([answer.text for answer in answers])
    return texts


def _compare(engine: Engine, plain: list[list[str]], prompts: list[str], report: Report) -> None:
    sampling = Sampling(max_new_tokens=NEW_TOKENS, batch_size=2 * len(prompts))
    requests = [Request(prompt, variant) for variant in (0, 1) for prompt in prompts]
    texts = {index: answer.text for index, answer in engine.answers(requests, sampling)}
    expected = plain[0] + plain[1]
    same = sum(texts[index] == text for index, text in enumerate(expected))
    report.add("answers equal to the plain path (random weights)", same=same, of=len(expected))


def measure_vllm(folder: Path, adapter: Path, report: Report, count: int) -> None:
    from transformers import AutoTokenizer
    from vllm import SamplingParams

    from harness.engine.vllm import load

    prompts = mixed_prompts(AutoTokenizer.from_pretrained(folder), count)
    order = make_order(folder, adapter, prompts, "vllm")
    engine = load(order)
    report.add("vllm started", seconds=engine.warmup_seconds())
    records = engine.describe()
    report.add("vllm loaded", records=[record.model_dump(mode="json") for record in records])
    requests = [Request(prompt, variant) for prompt in prompts.values() for variant in (0, 1)]
    tokens_of = engine.texts.token_ids([request.prompt for request in requests])
    ids = [{"prompt_token_ids": tokens} for tokens in tokens_of]
    loras = [engine._lora(request.variant) for request in requests]
    params = SamplingParams(temperature=0, max_tokens=NEW_TOKENS)
    engine.llm.generate(ids[:128], params, lora_request=loras[:128], use_tqdm=False)
    for _ in range(2):
        for name in ("harness", "LLM.generate"):
            engine.llm.reset_prefix_cache()
            started = time.perf_counter()
            if name == "harness":
                tokens = _harness_to_disk(engine, order)
            else:
                outputs = engine.llm.generate(ids, params, lora_request=loras, use_tqdm=False)
                tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
            seconds = time.perf_counter() - started
            report.add(
                f"vllm, 1 of 2 with LoRA: {name}", seconds=seconds, tokens_per_second=tokens / seconds, tokens=tokens
            )
    time_fixed_lengths(engine, report, 16_060_522_496 - 1_050_673_152, 131_072, [1, 64, 256])


def _harness_to_disk(engine: Engine, order: WorkOrder) -> int:
    """Answer the order's prompts through the workload, records written as a run writes them; return new tokens."""
    tokens = 0
    with tempfile.TemporaryDirectory() as folder, JobFile(Path(folder) / "records.jsonl") as file:

        def send(message: Message) -> None:
            nonlocal tokens
            if isinstance(message, Records):
                file.append(message.records)
                tokens += sum(getattr(record, "new_tokens", 0) for record in message.records)

        answer_all(engine, order, send)
    return tokens


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine", choices=("fast", "vllm"), default="fast")
    parser.add_argument("--requests", type=int, default=700)
    parser.add_argument("--short", action="store_true", help="leave out the plain path and the largest batches")
    arguments = parser.parse_args()
    report = Report(arguments.out)
    adapter = arguments.out.parent / "random-adapter"
    write_random_adapter(arguments.folder, adapter)
    if arguments.engine == "fast":
        measure_fast(arguments.folder, adapter, report, arguments.requests, arguments.short)
    else:
        measure_vllm(arguments.folder, adapter, report, arguments.requests)


if __name__ == "__main__":
    main()
