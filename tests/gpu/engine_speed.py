"""Generation speed of the engines at full size, written to a JSON file part by part.

    python -m tests.gpu.engine_speed FOLDER OUT.json [--engine fast|vllm|generate_batch] [--requests 700]

FOLDER holds a model (random weights will do); a random LoRA of rank 16 on the seven projections is made for it. The
bandwidth limit is weights and key-value cache read once a step at the speed of a device-to-device copy, measured at the
start, bytes read and written both counted.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from harness.engine import Engine, Request
from harness.suite import Sampling
from tests.gpu.engine_others import measure_generate_batch, measure_vllm
from tests.gpu.engine_work import (
    NEW_TOKENS,
    Limit,
    Report,
    limit_of,
    make_order,
    mixed_prompts,
    time_fixed_lengths,
    time_suite,
)
from tests.gpu.random_adapter import write_random_adapter

ONE_PASS_ROWS = (8, 16, 32, 64)
ONE_PASS_ROUNDS = 4
"""Prompts for each row: enough that filling and emptying the rows matters little, few enough to be measured often."""
SUITE_LIKE = {"shortest": 60, "longest": 100, "new_tokens": 256}
"""Lengths of a suite of questions: short prompts, long answers."""


def measure_fast(folder: Path, adapter: Path, report: Report, limit: Limit, count: int, short: bool) -> None:
    """Measure the fast engine; `short` leaves out the plain path, the largest batches and all of one pass for two."""
    import torch

    from harness.backends.hf import load as load_model
    from harness.engine.fast import FastEngine

    started = time.perf_counter()
    loaded = load_model(make_order(folder, adapter, {}, "fast"))
    prompts = list(mixed_prompts(loaded.tokenizer, count).values())
    report.add("load", seconds=time.perf_counter() - started)
    compared = prompts[:: max(1, count // 64)][:64]
    plain = None if short else _plain_answers(loaded, compared, report)
    started = time.perf_counter()
    engine = FastEngine(loaded)
    report.add(
        "fast engine made",
        seconds=time.perf_counter() - started,
        warmup=engine.warmup_seconds(),
        distance=engine.logit_distance,
        rounding=engine.rounding,
    )
    time_fixed_lengths(engine, report, limit, [1, 64] if short else [1, 64, 256])
    for rows in (64,) if short else (64, 128, 256):
        time_suite(engine, report, prompts, [0], rows, limit)
    if plain:
        _compare(engine, plain, compared, report)
        _time_one_pass(engine, report, loaded.tokenizer, limit)
    report.add(
        "memory", peak_allocated=torch.cuda.max_memory_allocated(), peak_reserved=torch.cuda.max_memory_reserved()
    )


def _time_one_pass(engine: Engine, report: Report, tokenizer: Any, limit: Limit) -> None:
    """Base and tuned together against tuned alone: with the same rows for each, and with the same rows in all."""
    for name, lengths in (("mixed", {}), ("suite-like", SUITE_LIKE)):
        kept = {key: value for key, value in lengths.items() if key != "new_tokens"}
        new_tokens = lengths.get("new_tokens", NEW_TOKENS)
        for rows in ONE_PASS_ROWS:
            prompts = list(mixed_prompts(tokenizer, rows * ONE_PASS_ROUNDS, **kept).values())
            time_suite(engine, report, prompts[:rows], [0, 1], 2 * rows, limit, 4)  # compiles for these rows
            alone = time_suite(engine, report, prompts, [1], rows, limit, new_tokens)
            double = time_suite(engine, report, prompts, [0, 1], 2 * rows, limit, new_tokens)
            half = time_suite(engine, report, prompts[::2], [0, 1], rows, limit, new_tokens)
            report.add(
                "base and tuned in one pass",
                lengths=name,
                rows=rows,
                twice_the_answers_in_twice_the_rows=double / alone,
                as_many_answers_in_the_same_rows=half / alone,
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


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.engine_speed", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine", choices=("fast", "vllm", "generate_batch"), default="fast")
    parser.add_argument("--requests", type=int, default=700)
    parser.add_argument("--short", action="store_true", help="the fast engine's speed alone, at batch 1 and 64")
    arguments = parser.parse_args()
    report = Report(arguments.out)
    adapter = write_random_adapter(arguments.folder, arguments.out.parent / "random-adapter")
    limit = limit_of(arguments.folder)
    report.add(
        "limit", **vars(limit), batch_1=limit.tokens_per_second(1, 264), batch_64=limit.tokens_per_second(64, 264)
    )
    if arguments.engine == "fast":
        measure_fast(arguments.folder, adapter, report, limit, arguments.requests, arguments.short)
    elif arguments.engine == "vllm":
        measure_vllm(arguments.folder, adapter, report, limit, arguments.requests)
    else:
        measure_generate_batch(arguments.folder, report, limit, arguments.requests)


if __name__ == "__main__":
    main()
