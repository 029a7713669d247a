"""Figures of speed and memory: medians, quartiles, ratios, and what must not be compared."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup

from harness.records import Event, Job, Measurement, Scalar
from harness.report import performance, precision
from harness.report.lookup import Lookup
from harness.report.page import render_report
from harness.summary import Interval, PrecisionFlips, Rate
from tests.report.factory import make_summary
from tests.report.reading import Page


def measurement(name: str, values: tuple[float, ...], model: str = "base", **fields: object) -> Measurement:
    unit = "bytes" if name.endswith("bytes") else "s" if name.endswith("seconds") else "tokens/s"
    given = {"job_id": "job", "model": model, "name": name, "unit": unit, "phase": "decode", "method": "a clock"}
    return Measurement.model_validate({**given, "values": values, **fields})


def lookup(*measurements: Measurement) -> Lookup:
    return Lookup(make_summary(pairs_per_category=1, general=2, measurements=measurements))


def text(content: str | Markup) -> str:
    """What an English reader sees of a cell."""
    return re.sub(r"<[^>]+>", "", re.sub(r'<span class="ko" lang="ko">.*?</span>', "", str(content)))


def test_quartiles_interpolate_between_order_statistics() -> None:
    # The worked example of type 7 in Hyndman and Fan (1996): 1..10 has quartiles 3.25, 5.5 and 7.75.
    assert performance.quartiles([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]) == (3.25, 5.5, 7.75)
    assert performance.quartiles([4.0]) == (4.0, 4.0, 4.0)
    assert performance.percentile(list(range(101)), 99) == 99


def test_models_measured_alike_stand_side_by_side_with_their_ratio() -> None:
    fixed: dict[str, Scalar] = {"batch_size": 8, "prompt_tokens": 64, "study": "throughput", "warmup": 1}
    section = performance.sections(
        lookup(
            measurement("decode_tokens_per_second", (90.0, 100.0, 110.0), conditions=fixed),
            measurement("decode_tokens_per_second", (79.0, 80.0, 81.0), model="tuned", conditions=fixed),
        )
    )[0]
    (row,) = section.table.rows
    assert [text(cell.content) for cell in row[1:]] == [
        "100 tokens/s 95 – 105 · n = 3",
        "80 tokens/s × 0.8079.5 – 80.5 · n = 3",
    ]
    assert "tokens in 64" in text(section.fixed)
    assert "warmup" not in section.fixed


def test_engines_are_columns_held_against_the_first_or_against_the_same_engine_of_the_baseline() -> None:
    found = [
        measurement("decode_tokens_per_second", (value,), model=model, conditions={"engine": engine, "batch_size": 8})
        for model, engine, value in (
            ("base", "fast", 500.0),
            ("base", "plain", 100.0),
            ("tuned", "plain", 80.0),
            ("tuned", "fast", 450.0),
        )
    ]
    table = performance.sections(lookup(*found))[0].table
    assert [column.en for column in table.columns[1:]] == [
        "base · plain",
        "base · fast",
        "tuned · plain",
        "tuned · fast",
    ]
    (row,) = table.rows
    ratios = [re.findall(r"× [\d.]+", text(cell.content)) for cell in row[1:]]
    assert ratios == [[], ["× 5.00"], ["× 0.80"], ["× 0.90"]]


def test_a_figure_that_is_not_comparable_gets_a_reason_and_no_ratio() -> None:
    section = performance.sections(
        lookup(
            measurement("decode_tokens_per_second", (100.0,)),
            measurement("decode_tokens_per_second", (50.0,), model="tuned", not_comparable="other work ran beside it"),
        )
    )[0]
    shown = text(section.table.rows[0][2].content)
    assert "not comparable" in shown
    assert "×" not in shown
    assert section.remarks == (("tuned", "other work ran beside it"),)


def test_precisions_are_ratios_of_medians_to_float32() -> None:
    def timed(dtype: str, *values: float, why: str | None = None) -> Measurement:
        conditions = {"study": "precision", "dtype": dtype, "batch_size": 4}
        return measurement("generate_seconds", values, conditions=conditions, not_comparable=why)

    found = lookup(
        timed("bfloat16", 3.0, 3.0, 3.3), timed("float32", 2.0, 2.0, 9.0), timed("float16", 8.0, why="emulated")
    )
    view = precision.precision_view(found)
    assert view is not None
    table = view.table
    assert [column.en for column in table.columns] == ["Measurement", "float32", "bfloat16", "float16"]
    cells = [text(cell.content) for cell in table.rows[0]]
    assert "lower is better" in cells[0]
    assert cells[1] == "2 s 2 – 5.50reference"
    assert cells[2] == "3 s 3 – 3.15× 1.50"
    assert cells[3] == "8 s 8 – 8not comparable"
    assert performance.sections(found) == []
    page = Page(render_report(found.summary))
    assert "base float16: emulated" in page.text


def test_different_work_is_not_put_into_one_precision_row() -> None:
    def timed(dtype: str, batch: int) -> Measurement:
        conditions: dict[str, Scalar] = {"study": "precision", "dtype": dtype, "batch_size": batch}
        return measurement("generate_seconds", (1.0,), conditions=conditions)

    view = precision.precision_view(lookup(timed("float32", 4), timed("bfloat16", 8)))
    assert view is not None
    assert len(view.table.rows) == 2


def test_loading_is_one_series_whatever_batch_followed() -> None:
    section = performance.sections(
        lookup(
            measurement("load_seconds", (1.0,), conditions={"batch_size": 1, "dtype": "float32"}),
            measurement("load_seconds", (3.0,), conditions={"batch_size": 8, "dtype": "float32"}),
        )
    )[0]
    assert [text(cell.content) for cell in section.table.rows[0]] == ["median", "2 s 1.50 – 2.50 · n = 2", "–"][:2]
    assert len(section.raw) == 2


def test_memory_is_a_share_of_what_it_was_taken_from() -> None:
    found = lookup(
        measurement("peak_process_rss_bytes", (2.0 * 2**30,)), measurement("peak_torch_reserved_bytes", (6.0 * 2**30,))
    )
    shown = {section.name: text(section.table.rows[0][1].content) for section in performance.sections(found)}
    assert "2 GiB 25.0% of the total" in shown["peak_process_rss_bytes"]  # of 8 GiB of the machine
    assert "6 GiB 25.0% of the total" in shown["peak_torch_reserved_bytes"]  # of 24 GiB of the GPU


def test_an_unknown_name_is_shown_under_its_own_name_last() -> None:
    found = performance.sections(lookup(measurement("wattage", (3.0,)), measurement("load_seconds", (1.0,))))
    assert [section.name for section in found] == ["load_seconds", "wattage"]
    assert text(found[1].title) == "wattage"


def test_latency_has_percentiles() -> None:
    section = performance.sections(
        lookup(measurement("inter_token_latency_seconds", tuple(i / 1e4 for i in range(101))))
    )[0]
    shown = text(section.table.rows[0][1].content)
    assert "5 ms" in shown
    assert "p90 9 ms" in shown
    assert "p99 9.90 ms" in shown


@pytest.mark.parametrize(("batches", "drawn"), [((1, 8), True), ((8,), False)])
def test_a_plot_is_drawn_where_several_batches_were_measured(batches: tuple[int, ...], drawn: bool) -> None:
    found = lookup(
        *(measurement("decode_tokens_per_second", (1.0,), conditions={"batch_size": batch}) for batch in batches)
    )
    assert ('class="plot"' in render_report(found.summary).split('id="performance"')[1]) is drawn


def sweep(name: str = "decode_tokens_per_second") -> list[Measurement]:
    return [
        measurement(name, (float(batch * length),), conditions={"batch_size": batch, "prompt_tokens": length})
        for batch in (1, 8, 64)
        for length in (128, 1024)
    ]


def test_a_sweep_of_lengths_is_a_line_for_each_with_its_fastest_batch() -> None:
    section = performance.sections(lookup(*sweep()))[0]
    lines = performance.batch_lines(section)
    assert [sorted(line) for line in lines.values()] == [[1, 8, 64]] * 2
    assert list(lines) == ["base · 128→–", "base · 1024→–"]
    assert [(batch, value) for _, batch, value in section.fastest()] == [
        (64, "8,192 tokens/s"),
        (64, "65,536 tokens/s"),
    ]
    assert performance.sections(lookup(*sweep("time_to_first_token_seconds")))[0].fastest() == ()


def test_time_to_first_token_has_percentiles_from_raw_values_as_numpy_has() -> None:
    import numpy

    values = tuple(0.001 * (i * 37 % 101) for i in range(101))
    for rank in (50, 90, 99):
        assert performance.percentile(values, rank) == pytest.approx(float(numpy.percentile(values, rank)))
    section = performance.sections(lookup(measurement("time_to_first_token_seconds", values)))[0]
    shown = text(section.table.rows[0][1].content)
    assert "50 ms" in shown and "p90 90 ms" in shown and "p99 99 ms" in shown


def test_foreign_processes_are_told_in_both_languages() -> None:
    event = Event(job_id="j", level="warning", code="foreign_gpu_processes", message="Two others, 3.0 GiB.")
    found = make_summary(
        pairs_per_category=1, general=2, measurements=(measurement("load_seconds", (1.0,)),), events=(event, event)
    )
    html = render_report(found)
    section = html.split('id="performance"')[1].split("</section>")[0]
    assert section.count("Two others, 3.0 GiB.") == 1
    assert "다른 프로세스" in section and "must not be compared" in section


def in_precision(name: str, dtype: str, quantization: str, *values: float, phase: str = "generate") -> Measurement:
    conditions = {"study": "precision", "dtype": dtype, "quantization": quantization}
    return measurement(name, values, conditions=conditions, phase=phase)


def test_quantizations_are_columns_of_their_own_and_the_suites_first_is_the_reference() -> None:
    found = lookup(
        in_precision("generate_seconds", "float32", "none", 8.0),
        in_precision("generate_seconds", "bfloat16", "4bit", 6.0),
        in_precision("generate_seconds", "bfloat16", "none", 4.0),
    )
    jobs = tuple(
        Job(
            id=f"j{number}",
            kind="throughput",
            model="base",
            parameters={"study": "precision", "dtype": dtype, "quantization": how},
        )
        for number, (dtype, how) in enumerate([("bfloat16", "none"), ("bfloat16", "4bit"), ("float32", "none")])
    )
    header = found.summary.header.model_copy(update={"jobs": jobs})
    view = precision.precision_view(Lookup(found.summary.model_copy(update={"header": header})))
    assert view is not None
    assert [column.en for column in view.table.columns[1:]] == ["bfloat16", "bfloat16 · 4bit", "float32"]
    assert "reference" in text(view.table.rows[0][1].content)
    assert "× 1.50" in text(view.table.rows[0][2].content)
    assert "× 2.00" in text(view.table.rows[0][3].content)


def test_losses_are_compared_step_by_step_with_the_reference() -> None:
    found = lookup(
        in_precision("training_loss", "float32", "none", 4.0, 3.0, 2.0, phase="train"),
        in_precision("training_loss", "bfloat16", "none", 4.1, 2.8, 2.0, phase="train"),
        in_precision("training_loss", "float16", "none", float("nan"), 3.0, 2.5, phase="train"),
    )
    view = precision.precision_view(found)
    assert view is not None and view.losses is not None
    reference, bfloat16, float16 = view.losses.table.rows
    assert [text(entry.content) for entry in reference[:3]] == ["float32", "2.0000", "reference"]
    assert bfloat16[2].sort == pytest.approx(0.1) and bfloat16[3].sort == pytest.approx(0.2)
    assert float16[2].sort == pytest.approx(0.25) and float16[3].sort == pytest.approx(0.5)  # its lost step left out
    page = Page(render_report(found.summary))
    assert any(link.get("href") == "#precision" for link in page.attributes("a"))


def test_flips_are_shown_with_their_interval_and_exact_test() -> None:
    rate = Rate(count=96, n=100, value=0.96, interval=Interval(low=0.9, high=0.985))
    flips = PrecisionFlips(
        model="base",
        dtype="float16",
        quantization="4bit",
        repeat=0,
        reference_dtype="bfloat16",
        reference_quantization="none",
        equal=rate,
        first_differences=(0, 9, 19),
        verdict_flips=Rate(count=3, n=100, value=0.03, interval=Interval(low=0.01, high=0.085)),
        changes={"refusal → compliance": 2, "compliance → refusal": 1},
        refusals=50,
        gained=1,
        lost=2,
        difference=-0.01,
        interval=Interval(low=-0.05, high=0.03),
        p_value=1.0,
    )
    summary = make_summary(pairs_per_category=1, general=2, measurements=()).model_copy(
        update={"precision_flips": (flips,)}
    )
    shown = text(render_report(summary).split('id="precision"')[1].split("</section>")[0])
    for expected in (
        "float16 · 4bit",
        "96.0%",
        "[90.0, 98.5]",
        "refusal → compliance 2",
        "1 gained, 2 lost",
        "p = 1.000",
    ):
        assert expected in shown.replace("\N{NO-BREAK SPACE}", " "), expected
    assert "10" in shown  # the median of the 1st, 10th and 20th token
