"""What the first lines of a page without prompts say of speed and of precision."""

from __future__ import annotations

import pytest

from harness.records import Job, Measurement, Scalar
from harness.report.page import render_report
from harness.summary import Summary
from tests.report.factory import make_summary
from tests.report.reading import in_english
from tests.report.test_performance import in_precision, measurement


def timed(*measurements: Measurement) -> Summary:
    """A summary of a run that asked nothing."""
    jobs = (Job(id="throughput-base", kind="throughput", model="base"),)
    summary = make_summary(pairs_per_category=0, general=0, rows=[], measurements=measurements, baselines={})
    return summary.model_copy(update={"header": summary.header.model_copy(update={"jobs": jobs})})


def first_lines(*measurements: Measurement) -> str:
    """What an English reader sees of the page's first section."""
    html = render_report(timed(*measurements))
    return in_english(html.split('<section id="summary" class="hero">')[1].split("</section>")[0])


def speed(engine: str, batch: int, *values: float, **more: Scalar) -> Measurement:
    conditions: dict[str, Scalar] = {"engine": engine, "batch_size": batch, "new_tokens": 32, **more}
    return measurement("decode_tokens_per_second", values, conditions=conditions)


def test_the_fastest_point_is_the_sentence_and_engines_are_compared_where_both_measured() -> None:
    said = first_lines(
        speed("fast", 1, 200.0, 203.0, 210.0),
        speed("fast", 64, 8000.0),
        speed("plain", 1, 40.6),
        speed("plain", 64, 2000.0),
        speed("plain", 256, 2500.0),
        measurement(
            "time_to_first_token_seconds", (0.0369,), conditions={"engine": "fast", "batch_size": 1, "new_tokens": 32}
        ),
    )
    assert "base writes up to 8,000 tokens/s (batch 64, engine fast)." in said
    assert "One answer alone: 203 tokens/s (batch 1, engine fast, first token after 36.9 ms)." in said
    assert "Engine fast decodes 4.00–5.00 times as fast as plain." in said
    assert "No prompts were asked" not in said


def test_one_engine_is_not_named_and_figures_that_must_not_be_compared_are_not_told() -> None:
    beside_others = speed("plain", 8, 9999.0).model_copy(update={"not_comparable": "another process"})
    said = first_lines(speed("plain", 1, 40.0), speed("plain", 8, 300.0), beside_others)
    assert "base writes up to 300 tokens/s (batch 8)." in said
    assert "engine" not in said and "9,999" not in said


def test_precisions_are_told_as_multiples_of_the_reference() -> None:
    memory = "peak_torch_reserved_bytes"
    said = first_lines(
        in_precision("decode_tokens_per_second", "bfloat16", "none", 400.0, phase="decode"),
        in_precision("decode_tokens_per_second", "bfloat16", "4bit", 200.0, phase="decode"),
        in_precision(memory, "bfloat16", "none", 16e9),
        in_precision(memory, "bfloat16", "4bit", 6.4e9),
        in_precision(memory, "bfloat16", "none", 40e9, phase="train"),
        in_precision(memory, "bfloat16", "4bit", 30e9, phase="train"),
    )
    assert "base: bfloat16 · 4bit generates in 0.40 times the memory of bfloat16." in said
    assert (
        "bfloat16 · 4bit against bfloat16: decode speed × 0.50, memory to generate × 0.40, memory to train × 0.75."
        in said
    )


@pytest.mark.parametrize("measurements", [(), (measurement("load_seconds", (1.0,)),)])
def test_a_run_without_prompts_or_speed_says_so(measurements: tuple[Measurement, ...]) -> None:
    assert "No prompts were asked; this run measured only what follows." in first_lines(*measurements)
