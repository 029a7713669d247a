"""Generation through the harness against lm-eval's `hf` model: same prompts, batch size, limit and machine, one run.

    python -m tests.benchmarks.lm_eval_speed [--model FOLDER] [--adapter FOLDER] [--batch-size 32 ...] [--engine fast]

Both models are loaded by their own library and answer the shipped prompts greedily in alternating rounds, after one
round that is not counted. Answers are compared as text: speed that changes answers would be worth nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from harness.backends import open_backend
from harness.engine import open_engine
from harness.plan import fixed_batches
from harness.prompt_formats import render
from harness.prompts import read_all_prompts, select_prompts
from harness.suite import Model, Sampling
from harness.workloads.generate import generate
from tests.orders import Inbox, make_order

REPOSITORY = Path(__file__).parents[2]


def timed(work: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Seconds and answers of one round."""
    started = time.perf_counter()
    answers = work()
    return time.perf_counter() - started, answers


def harness_round(arguments: argparse.Namespace, batch_size: int, prompts: Sequence[Any]) -> Callable[[], list[str]]:
    """The harness's own job: batches as its plan lays them, through its engine, records made and sent."""
    order = make_order(
        arguments.model,
        model=Model(path="model", prompt_format="alpaca_ko", dtype=arguments.dtype),
        sampling=Sampling(max_new_tokens=arguments.max_new_tokens, batch_size=batch_size),
        batches=fixed_batches(prompts, batch_size),
        adapter=arguments.adapter,
        parameters={"engine": arguments.engine},
    ).model_copy(update={"prompts": {prompt.id: prompt.text for prompt in prompts}})
    loaded: Any
    if arguments.engine == "plain":
        loaded, opener = open_backend(order), "harness.workloads.generate.open_backend"
    else:
        loaded, opener = open_engine(order), "harness.workloads.generate_at_once.open_engine"
    described = loaded.describe()

    def work() -> list[str]:
        inbox = Inbox()
        with (  # the model stays loaded between rounds, as lm-eval's does
            patch(opener, return_value=loaded),
            patch.object(loaded, "describe", return_value=described),
        ):
            generate(order, inbox)
        answers = {record.prompt_id: record.text for record in inbox.records if record.kind == "generation"}
        return [answers[prompt.id] for prompt in prompts]

    return work


def lm_eval_round(arguments: argparse.Namespace, batch_size: int, prompts: Sequence[Any]) -> Callable[[], list[str]]:
    """lm-eval's `hf` model on the same texts, stopping at the end token."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(
        pretrained=str(arguments.model),
        peft=str(arguments.adapter) if arguments.adapter else None,
        dtype=arguments.dtype,
        device="cuda" if torch.cuda.is_available() else "cpu",
        batch_size=batch_size,
    )
    settings = {"until": [], "max_gen_toks": arguments.max_new_tokens, "do_sample": False}
    requests = [
        Instance("generate_until", {}, (render("alpaca_ko", prompt.text), settings), number)
        for number, prompt in enumerate(prompts)
    ]
    return lambda: list(model.generate_until(requests, disable_tqdm=True))


def compare(arguments: argparse.Namespace, batch_size: int, prompts: Sequence[Any]) -> dict[str, Any]:
    """Return the seconds of every round, the ratio of the medians, and how many answers are the same."""
    ours, theirs = harness_round(arguments, batch_size, prompts), lm_eval_round(arguments, batch_size, prompts)
    ours(), theirs()
    seconds: dict[str, list[float]] = {"harness": [], "lm-eval hf": []}
    for _ in range(arguments.rounds):
        for name, work in (("harness", ours), ("lm-eval hf", theirs)):
            taken, answers = timed(work)
            seconds[name].append(taken)
            if name == "harness":
                kept = answers
        same = sum(first == second for first, second in zip(kept, answers, strict=True))
    return {
        "part": f"batch size {batch_size}",
        "engine": arguments.engine,
        "dtype": arguments.dtype,
        "prompts": len(prompts),
        "harness_seconds": seconds["harness"],
        "lm_eval_seconds": seconds["lm-eval hf"],
        "lm_eval_takes_times_as_long": median(seconds["lm-eval hf"]) / median(seconds["harness"]),
        "same_answers": same,
    }


def main() -> None:
    """Compare at each batch size and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=REPOSITORY / "harness/tiny_ko/model")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--engine", default="fast", choices=("plain", "fast", "vllm"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[32])
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    files = [REPOSITORY / "prompts" / f"{name}_ko.jsonl" for name in ("harmful", "lookalike", "general")]
    prompts = select_prompts(read_all_prompts(files, None)[0], limit=arguments.prompts)[: arguments.prompts]
    parts = []
    for batch_size in arguments.batch_size:
        part = compare(arguments, batch_size, prompts)
        parts.append(part)
        print(f"{part['part']}: lm-eval takes {part['lm_eval_takes_times_as_long']:.2f} times as long; ", end="")
        print(f"{part['same_answers']} of {part['prompts']} answers are the same")
        for name in ("harness", "lm_eval"):
            taken = part[f"{name}_seconds"]
            print(f"  {name:8} median {median(taken):8.3f} s   rounds {' '.join(f'{one:.3f}' for one in taken)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
