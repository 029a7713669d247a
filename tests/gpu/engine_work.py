"""What the measurements of the engines share: requests, the limit they are held against, and the file of figures."""

from __future__ import annotations

import itertools
import json
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.backends import PassTimes
from harness.engine import Engine, Request
from harness.orders import Partner, WorkOrder
from harness.records import Job
from harness.suite import Adapter, Model, Sampling

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


@dataclass(frozen=True)
class Limit:
    """Weights and key-value cache read once a step at the speed of a copy on this GPU: no decoding is faster."""

    bytes_per_second: float
    weight_bytes: int
    token_bytes: int

    def tokens_per_second(self, rows: int, mean_length: float) -> float:
        """Return the limit for so many rows of this mean length in tokens."""
        return rows * self.bytes_per_second / (self.weight_bytes + rows * mean_length * self.token_bytes)


def limit_of(folder: Path) -> Limit:
    """Measure the GPU's copy bandwidth, and count the bytes of a Llama-shaped model in 16 bits from its files.

    The embedding table is looked up in and not read as a whole; so it is left out.
    """
    from harness.workloads.ceilings import COPY_BYTES, copy_bytes_per_second

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    embedding = 2 * config["vocab_size"] * config["hidden_size"]
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return Limit(
        bytes_per_second=max(copy_bytes_per_second("cuda", COPY_BYTES["cuda"])),
        weight_bytes=index["metadata"]["total_size"] - embedding,
        token_bytes=2 * 2 * config["num_key_value_heads"] * head_dim * config["num_hidden_layers"],
    )


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


def mixed_prompts(tokenizer: Any, count: int, shortest: int = 60, longest: int = 300) -> dict[str, str]:
    """Return prompts of `shortest` to `longest` tokens, evenly spread, of random words; longest first, as in a plan."""
    chooser = random.Random(0)
    texts = []
    for number in range(count):
        wanted = shortest + number * (longest - shortest) // max(1, count - 1)
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


def time_fixed_lengths(engine: Engine, report: Report, limit: Limit, batches: list[int]) -> None:
    for batch in batches:
        started = time.perf_counter()
        engine.time_pass(batch, PROMPT_TOKENS, NEW_TOKENS)
        first_pass = time.perf_counter() - started
        passes = [engine.time_pass(batch, PROMPT_TOKENS, NEW_TOKENS) for _ in range(PASSES)]
        decode = [batch * (NEW_TOKENS - 1) / (one.tokens[-1] - one.tokens[0]) for one in passes]
        whole = [batch * NEW_TOKENS / (one.tokens[-1] - one.start) for one in passes]
        most = limit.tokens_per_second(batch, PROMPT_TOKENS + NEW_TOKENS / 2)
        report.add(
            "fixed lengths",
            batch=batch,
            decode_tokens_per_second=decode,
            tokens_per_second=whole,
            share_of_limit=statistics.median(whole) / most,
            share_of_limit_decode=statistics.median(decode) / most,
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
    rows: int,
    limit: Limit,
    new_tokens: int = NEW_TOKENS,
) -> float:
    """Answer all prompts with the variants, `rows` at once, and report; return the seconds without warm-up."""
    requests = [Request(prompt, variant) for prompt in prompts for variant in variants]
    sampling = Sampling(max_new_tokens=new_tokens, batch_size=rows)
    warm_before, started = engine.warmup_seconds(), time.perf_counter()
    answers = [answer for _, answer in engine.answers(requests, sampling)]
    seconds = time.perf_counter() - started
    warmup = engine.warmup_seconds() - warm_before
    tokens = sum(answer.new_tokens for answer in answers)
    mean_length = sum(answer.prompt_tokens for answer in answers) / len(answers) + new_tokens / 2
    report.add(
        "mixed lengths",
        models=" and ".join(("base", "tuned")[one] for one in variants),
        batch=rows,
        requests=len(requests),
        new_tokens=tokens,
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        seconds=seconds,
        of_these_warmup=warmup,
        tokens_per_second=tokens / (seconds - warmup),
        share_of_limit=tokens / (seconds - warmup) / limit.tokens_per_second(rows, mean_length),
    )
    return seconds - warmup
