"""Figures of speed and memory: medians, quartiles, ratios, and what must not be compared."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup

from harness.records import Measurement, Scalar
from harness.report import performance, precision
from harness.report.lookup import Lookup
from harness.report.page import render_report
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
    table = precision.precision_table(found)
    assert table is not None
    assert [column.en for column in table.columns] == ["Measurement", "float32", "bfloat16", "float16"]
    cells = [text(cell.content) for cell in table.rows[0]]
    assert "lower is better" in cells[0]
    assert cells[1] == "2 s2 – 5.50reference"
    assert cells[2] == "3 s3 – 3.15× 1.50"
    assert cells[3] == "8 s8 – 8not comparable"
    assert performance.sections(found) == []
    page = Page(render_report(found.summary))
    assert "base float16: emulated" in page.text


def test_different_work_is_not_put_into_one_precision_row() -> None:
    def timed(dtype: str, batch: int) -> Measurement:
        conditions: dict[str, Scalar] = {"study": "precision", "dtype": dtype, "batch_size": batch}
        return measurement("generate_seconds", (1.0,), conditions=conditions)

    table = precision.precision_table(lookup(timed("float32", 4), timed("bfloat16", 8)))
    assert table is not None
    assert len(table.rows) == 2


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
