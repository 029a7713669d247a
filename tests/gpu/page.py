"""The measurements of one run as a self-contained HTML page, in the report's own dress.

python -m tests.gpu.page OUT/measurements.json OUT/measurements.html
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, FileSystemLoader
from markupsafe import Markup

from harness.report import rendering
from tests.gpu.savings import CLAIMED_MEMORY_SHARE, CLAIMED_SPEED, savings

TEMPLATES = Path(__file__).parent / "templates"
CURVE_WIDTH, CURVE_HEIGHT = 120, 28
TITLES = {
    "engine_fast": ("생성 속도, 자체 엔진", "Generation speed, own engine"),
    "engine_vllm": ("생성 속도, vLLM", "Generation speed, vLLM"),
    "engine_generate_batch": (
        "생성 속도, transformers 연속 배치",
        "Generation speed, transformers' continuous batching",
    ),
    "lm_eval_speed": ("생성 속도, lm-eval의 hf와 비교", "Generation speed beside lm-eval's hf model"),
    "precision_answers": ("정밀도만 바꾼 답변", "Answers in other precisions"),
    "two_gpus": ("GPU 두 개", "Two GPUs"),
}
SUITES = {
    "throughput_8b": ("처리량 스위트", "Throughput suite"),
    "precision_8b": ("정밀도 스위트", "Precision suite"),
}
"""Suites of the run; each has a page of its own beside this one."""


def render(document: dict[str, Any]) -> str:
    """Return the page of a document that `run_all` wrote. A pure function of it."""
    jinja = rendering.environment()
    jinja.loader = ChoiceLoader([FileSystemLoader(TEMPLATES), FileSystemLoader(rendering.TEMPLATES)])
    training = document.get("training", {})
    points = training.get("points", [])
    return rendering.render(
        "measurements.html.j2",
        document=document,
        machine=document["machine"],
        measured=[point for point in points if point["status"] == "measured"],
        missing=[point for point in points if point["status"] != "measured"],
        training=training,
        savings=savings(points),
        claimed_speed=CLAIMED_SPEED,
        claimed_memory=CLAIMED_MEMORY_SHARE,
        curve=curve,
        other={name: lines for name in TITLES if (lines := lines_of(document.get(name)))},
        titles=TITLES,
        suites={name: title for name, title in SUITES.items() if name in document},
        raw=json.dumps(document, indent=1, ensure_ascii=False),
    )


def curve(values: list[float | None]) -> Markup:
    """Draw a line through the values, first to last; numbers that are not finite are left out."""
    finite = [(number, value) for number, value in enumerate(values) if value is not None and abs(value) < float("inf")]
    if len(finite) < 2:
        return Markup("")
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    width, height = CURVE_WIDTH - 4, CURVE_HEIGHT - 4
    dots = [
        f"{2 + width * number / max(len(values) - 1, 1):.1f},{2 + height * (high - value) / ((high - low) or 1):.1f}"
        for number, value in finite
    ]
    return Markup(
        '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{first:.3f} → {last:.3f}">'
        '<polyline points="{dots}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    ).format(w=CURVE_WIDTH, h=CURVE_HEIGHT, first=finite[0][1], last=finite[-1][1], dots=" ".join(dots))


def lines_of(part: Any) -> list[tuple[str, list[tuple[str, str | float]]]]:
    """Return each entry of a part that has `points` (or is a list): what it is called, and its figures by name.

    Lists of numbers are shown by their median; what is neither a number nor text is left to the raw values.
    """
    entries = part.get("points", []) if isinstance(part, dict) else part if isinstance(part, list) else []
    lines = []
    for entry in entries:
        figures = {**entry, **entry.get("conditions", {})}
        title = str(figures.pop("part", None) or figures.pop("name", ""))
        lines.append((title, [(key, flat) for key, value in figures.items() if (flat := _flat(value)) is not None]))
    return lines


def _flat(value: Any) -> str | float | None:
    if isinstance(value, list) and value and all(isinstance(one, int | float) for one in value):
        return float(statistics.median(value))
    return value if isinstance(value, str | int | float) else None


def main() -> None:
    """Render a file."""
    source, target = map(Path, sys.argv[1:3])
    target.write_text(render(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
