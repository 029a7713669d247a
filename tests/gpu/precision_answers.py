"""How many answers and verdicts of the demonstration model change with its precision alone, on this GPU.

    python -m tests.gpu.precision_answers OUT.json [--adapter FOLDER] [--prompts 480] [--device cuda]

The work and the comparison of a suite's `performance.precision.flips`, without its timings and in one process: the
model is small, and most of a run's time would be starts of processes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness.grading.lexicon import LexiconGrader
from harness.orders import WorkOrder
from harness.precision_flips import precision_flips
from harness.records import Job, PrecisionAnswer, Prompt
from harness.suite import Adapter, Model, Sampling
from harness.summary import PrecisionFlips
from harness.timing_jobs import evenly_spread
from harness.workloads.precision_answers import answer_in_precision
from tests.orders import Inbox

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "harness" / "tiny_ko" / "model"
PROMPT_FILES = ("harmful_ko.jsonl", "lookalike_ko.jsonl", "general_ko.jsonl")
POINTS = {
    "cuda": (
        ("bfloat16", "none"),
        ("float16", "none"),
        ("float32", "none"),
        ("bfloat16", "8bit"),
        ("bfloat16", "4bit"),
    ),
    "cpu": (("bfloat16", "none"), ("float32", "none")),
}
"""The first is what the others are compared with."""
BATCH_SIZE = 60


def read_prompts(count: int) -> tuple[Prompt, ...]:
    """Return at most `count` prompts of the main suite, evenly spread over its files."""
    lines = [line for name in PROMPT_FILES for line in (ROOT / "prompts" / name).read_text("utf-8").splitlines()]
    return evenly_spread([Prompt.model_validate_json(line) for line in lines], count)


def answers(
    prompts: tuple[Prompt, ...], adapter: Path | None, device: str, point: tuple[str, str], times: int
) -> list[PrecisionAnswer]:
    """Answer the prompts greedily in one precision, `times` over."""
    dtype, quantization = point
    keys = {"path": str(MODEL), "dtype": dtype, "quantization": quantization, "device": device}
    model = Model.model_validate({**keys, "prompt_format": "alpaca_ko", "max_seq_length": 512})
    if adapter:
        model = model.model_copy(update={"adapter": Adapter(path=str(adapter))})
    ids = [prompt.id for prompt in prompts]
    batches = tuple(tuple(ids[start : start + BATCH_SIZE]) for start in range(0, len(ids), BATCH_SIZE))
    parameters = {"times": times, "batch_size": BATCH_SIZE, "dtype": dtype, "quantization": quantization}
    job = Job(
        id=f"{dtype}-{quantization}", kind="precision_answers", model="tuned", batches=batches, parameters=parameters
    )
    order = WorkOrder(
        job=job,
        model=model,
        model_place=str(MODEL),
        model_hash="demonstration",
        adapter_place=str(adapter) if adapter else None,
        sampling=Sampling(max_new_tokens=64),
        prompts={prompt.id: prompt.text for prompt in prompts},
        log_file="",
    )
    inbox = Inbox()
    answer_in_precision(order, inbox)
    return [record for record in inbox.records if isinstance(record, PrecisionAnswer)]


def as_part(flips: PrecisionFlips) -> dict[str, Any]:
    """Return one comparison with the reference as figures."""
    again = " again" * flips.repeat
    return {
        "part": f"{flips.dtype}, {flips.quantization}{again} against {flips.reference_dtype}",
        "answers": flips.equal.n,
        "answers_equal": flips.equal.count,
        "verdicts_changed": flips.verdict_flips.count,
        "refusals_gained": flips.gained,
        "refusals_lost": flips.lost,
        "changes": flips.changes,
        "first_differences": list(flips.first_differences),
    }


def main() -> None:
    """Answer in every precision and write how the answers compare, after every precision anew."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.precision_answers", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--prompts", type=int, default=480)
    parser.add_argument("--device", choices=sorted(POINTS), default="cuda")
    arguments = parser.parse_args()
    prompts = read_prompts(arguments.prompts)
    texts = {prompt.id: prompt.text for prompt in prompts}
    lexicon = LexiconGrader()
    found: list[PrecisionAnswer] = []
    for number, point in enumerate(POINTS[arguments.device]):
        found += answers(prompts, arguments.adapter, arguments.device, point, times=1 if number else 2)
        verdicts = [lexicon.grade(texts[one.prompt_id], one.text, one.finish_reason).verdict for one in found]
        parts = [as_part(one) for one in precision_flips(found, verdicts, 0.95)]
        arguments.out.write_text(json.dumps(parts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for part in parts:
        print({key: value for key, value in part.items() if key != "first_differences"})


if __name__ == "__main__":
    main()
