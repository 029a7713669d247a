"""The roofline section: limits taken from the measured best, shares of them, and where each limit applies."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup

from harness.records import Measurement, Scalar
from harness.report import performance
from harness.report.lookup import Lookup
from harness.report.page import render_report
from harness.report.roofline import roofline_view
from harness.report.roofline_plot import Dot, Roof, roofline_panel
from tests.report.factory import make_summary
from tests.report.reading import Page


def made(name: str, unit: str, values: tuple[float, ...], **conditions: Scalar) -> Measurement:
    return Measurement(
        job_id="job",
        model="base",
        name=name,
        unit=unit,
        phase="x",
        values=values,
        conditions=conditions,
        method="clock",
    )


def phase(name: str, intensity: float, speeds: tuple[float, ...], **conditions: Scalar) -> list[Measurement]:
    return [
        made(f"{name}_flop_per_second", "FLOP/s", speeds, **conditions),
        made(f"{name}_flop_per_byte", "FLOP/B", (intensity,), **conditions),
    ]


COPY = made("copy_bytes_per_second", "B/s", (3.9e12, 4.0e12, 3.0e12), device="GPU")
PRODUCT = made("matmul_flop_per_second", "FLOP/s", (500e12, 600e12), device="GPU", dtype="bfloat16")
POINT: dict[str, Scalar] = {"batch_size": 1, "prompt_tokens": 128, "new_tokens": 32, "dtype": "bfloat16"}


def lookup(*measurements: Measurement) -> Lookup:
    return Lookup(make_summary(pairs_per_category=1, general=2, measurements=measurements))


def text(content: str | Markup) -> str:
    return re.sub(r"<[^>]+>", " ", re.sub(r'<span class="ko" lang="ko">.*?</span>', "", str(content)))


def test_decode_is_held_against_bandwidth_and_prefill_against_arithmetic() -> None:
    found = lookup(
        COPY,
        PRODUCT,
        *phase("decode", 1.0, (1e12, 2e12, 3e12), **POINT),
        *phase("prefill", 1000.0, (300e12,) * 3, **POINT),
    )
    view = roofline_view(found)
    assert view is not None
    prefill, decode = view.table.rows
    # Best copy 4 TB/s: at 1 FLOP/B at most 4 TFLOP/s, of which the median of 2 is half; 2 TB/s of 4 is half as well.
    assert [entry.sort for entry in decode[1:4]] == [1.0, 2e12, 4e12]
    assert "memory" in text(decode[3].content)
    assert text(decode[4].content).strip() == "50.0%"
    assert decode[5].sort == 0.5
    # Right of the ridge (600 / 4 = 150 FLOP/B) the peak of 600 TFLOP/s is the limit.
    assert prefill[3].sort == 600e12
    assert "arithmetic" in text(prefill[3].content)
    assert text(prefill[4].content).strip() == "50.0%"


def test_training_has_no_share_of_bandwidth() -> None:
    view = roofline_view(lookup(COPY, PRODUCT, *phase("training", 900.0, (1e14,), **POINT)))
    assert view is not None
    assert text(view.table.rows[0][5].content) == "–"


@pytest.mark.parametrize("missing", ["ceilings", "points"])
def test_without_limits_or_points_there_is_no_section(missing: str) -> None:
    points = phase("decode", 1.0, (1e12,), **POINT)
    found = lookup(*points) if missing == "ceilings" else lookup(COPY, PRODUCT)
    assert roofline_view(found) is None
    page = render_report(found.summary)
    assert 'id="roofline"' not in page and 'href="#roofline"' not in page


def test_the_section_is_on_the_page_with_its_link_and_its_names_are_in_no_other() -> None:
    found = lookup(COPY, PRODUCT, *phase("decode", 1.0, (1e12,), **POINT))
    html = render_report(found.summary)
    page = Page(html)
    assert any(link.get("href") == "#roofline" for link in page.attributes("a"))
    assert "4 TB/s" in page.text and "600 TFLOP/s" in page.text
    assert performance.sections(found) == []


def test_a_precision_without_a_measured_peak_has_no_limit() -> None:
    view = roofline_view(lookup(COPY, PRODUCT, *phase("decode", 1.0, (1e12,), **{**POINT, "dtype": "float32"})))
    assert view is not None
    assert text(view.table.rows[0][3].content) == "–"


def test_the_roof_bends_at_the_ridge() -> None:
    figure = str(roofline_panel("f", [Roof("bfloat16", 1e12, 1e14)], [Dot(0, 2.0, 2e11, "8")]))
    # Width 440 with margins 56 and 16; intensities from 10^0 to 10^3 (ridge at 100): the bend is two thirds across.
    paths = [re.findall(r"([ML]) (\d+\.?\d*) (\d+\.?\d*)", path) for path in re.findall(r' d="([^"]+)"', figure)]
    roof = next(path for path in paths if len(path) == 3 and [kind for kind, _, _ in path] == ["M", "L", "L"])
    (_, x0, y0), (_, x1, y1), (_, x2, y2) = roof
    assert float(x1) == pytest.approx(56 + (440 - 72) * 2 / 3, abs=0.5)
    assert float(y1) == pytest.approx(float(y2), abs=0.01)
    assert float(y0) > float(y1) and float(x2) == pytest.approx(440 - 16, abs=0.5) and float(x0) < float(x1)
    assert ">8<" in figure and ">bfloat16<" in figure and ">100 T<" in figure


def test_a_point_on_the_first_power_of_ten_is_drawn_whole() -> None:
    figure = str(roofline_panel("f", [Roof("bfloat16", 1e12, 1e14)], [Dot(0, 1.0, 1e11, "8")]))
    marker = re.search(r'<use [^>]*?x="([\d.]+)" y="([\d.]+)"', figure)
    assert marker is not None
    x, y = map(float, marker.groups())
    # The plot's left edge is at 56 and its lower edge at 300 - 44; the marker's radius is 4.5.
    assert x - 56 > 4.5 and (300 - 44) - y > 4.5


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([{"batch_size": 1}, {"batch_size": 8}], {"1", "8"}),
        ([{"dtype": "bfloat16"}, {"dtype": "float32"}, {"quantization": "4bit"}], {"bf16", "fp32", "4bit"}),
    ],
    ids=["batches", "precisions"],
)
def test_what_differs_between_points_stands_beside_them(points: list[dict[str, Scalar]], words: set[str]) -> None:
    made = [one for conditions in points for one in phase("decode", 2.0, (1e12,), **{**POINT, **conditions})]
    view = roofline_view(lookup(COPY, PRODUCT, *made))
    assert view is not None
    assert words <= set(re.findall(r"<text[^>]*>([^<]+)</text>", str(view.plot)))


def label_places(figure: str) -> dict[str, tuple[float, float]]:
    found = re.findall(r'<text [^>]*transform="translate\(([\d.]+) ([\d.]+)\)[^>]*>([^<]+)</text>', figure)
    found += [
        (x, y, word) for x, y, word in re.findall(r'<text [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)</text>', figure)
    ]
    return {word: (float(x), float(y)) for x, y, word in found}


def test_labels_of_points_at_one_place_do_not_write_over_one_another() -> None:
    dots = [Dot(0, 8.0, 2e12, word) for word in ("bf16", "fp16", "fp32", "8bit")]
    places = label_places(str(roofline_panel("f", [Roof("bfloat16", 4e12, 8e14)], dots)))
    shown = [places[dot.label] for dot in dots]
    for number, (x, y) in enumerate(shown):
        for other_x, other_y in shown[number + 1 :]:
            assert abs(x - other_x) >= 4 * 6 or abs(y - other_y) >= 11


def test_roofs_at_nearly_one_height_share_a_label() -> None:
    figure = str(
        roofline_panel("f", [Roof("bfloat16", 4e12, 8.0e14), Roof("float16", 4e12, 7.7e14)], [Dot(0, 8.0, 2e12, "1")])
    )
    assert ">bfloat16, float16<" in figure
