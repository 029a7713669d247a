"""The figures as instruments: what is drawn stands where its value belongs."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from harness.report.lookup import Lookup
from harness.report.plots import Series, batch_panel, loss_panel, rate_panel, rate_panels
from harness.report.strips import difference_strip, share_strip, stacked_bar
from harness.summary import Cell, Interval, Rate
from tests.report.factory import make_summary


def cell(model: str, value: float | None, low: float = 0.0, high: float = 1.0, corrected: float | None = None) -> Cell:
    interval = Interval(low=low, high=high)
    rate = Rate(
        count=0,
        n=10,
        value=value,
        interval=interval if value is not None else None,
        corrected=corrected,
        corrected_interval=interval if corrected is not None else None,
    )
    nothing = Rate(count=0, n=10, value=0.0, interval=interval)
    return Cell(
        model=model,
        group="harmful",
        category=None,
        answers=10,
        verdicts={},
        failed=0,
        truncated=0,
        refusal=rate,
        incoherent=nothing,
        empty=nothing,
        mean_new_tokens=None,
    )


def rates(*cells: Cell) -> Markup:
    return rate_panel("p", cells, range(len(cells)))


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def marker_positions(svg: str) -> list[float]:
    """Horizontal positions of the markers, which matplotlib draws as uses of a shape; ticks have no shape here."""
    return [float(use.attrib["x"]) for use in parsed(svg).iter("use") if "fill" in use.attrib]


def test_a_rate_stands_at_its_share_of_the_axis() -> None:
    svg = rates(cell("a", 0.0), cell("b", 0.5), cell("c", 1.0))
    zero, half, one = marker_positions(svg)
    assert half == pytest.approx((zero + one) / 2)
    # 324 pixels between the margins show -1.5 to 101.5 percent.
    assert one - zero == pytest.approx(324 * 100 / 103, abs=0.01)


def test_a_model_keeps_its_colour_where_another_has_no_answers() -> None:
    summary = make_summary(pairs_per_category=1, general=2)
    first, _ = summary.models
    alone = summary.model_copy(
        update={"cells": tuple(one for one in summary.cells if (one.group, one.model) != ("harmful", first))}
    )
    panels = rate_panels(Lookup(alone))
    colours = [
        {use.attrib["fill"] for use in parsed(panels[group]).iter("use") if "fill" in use.attrib}
        for group in ("harmful", "general")
    ]
    assert len(colours[0]) == 1 and len(colours[1]) == 2
    assert colours[0] < colours[1]
    (use,) = (use for use in parsed(rates(cell(first, 0.5))).iter("use") if "fill" in use.attrib)
    assert use.attrib["fill"] not in colours[0]  # the first colour stays the first model's


def test_an_interval_reaches_from_low_to_high() -> None:
    zero, one = marker_positions(rates(cell("a", 0.0), cell("b", 1.0)))
    svg = rates(cell("a", 0.4, low=0.25, high=0.75))
    ends = [
        tuple(float(x) for x in re.findall(r"[ML] ([-\d.]+) ", path.attrib["d"]))
        for path in parsed(svg).iter("path")
        if path.attrib.get("stroke-linecap") == "round" and "stroke-opacity" in path.attrib
    ]
    assert ends == [pytest.approx((zero + 0.25 * (one - zero), zero + 0.75 * (one - zero)), abs=0.01)]


def test_a_corrected_rate_adds_a_second_marker_and_no_data_draws_nothing() -> None:
    assert len(marker_positions(rates(cell("a", 0.4, corrected=0.3)))) == 2
    assert marker_positions(rates(cell("a", None))) == []


def test_plots_fit_the_pages_policy_and_theme() -> None:
    series = Series("a", 0, (1, 8), (1.0, 2.0), (0.9, 1.9), (1.1, 2.2))
    plots = [rates(cell("a", 0.4)), loss_panel("l", [1, 2], [2.0, 1.0]), batch_panel("b", [series], 1.0)]
    for svg in plots:
        assert "style" not in svg
        assert "font-family" not in svg
        assert not re.search(r'"#[0-9a-f]{6}"', svg)
        assert "var(--muted)" in svg
    ids = re.findall(r' id="([^"]+)"', "".join(plots))
    assert len(ids) == len(set(ids)) > 0
    for target in re.findall(r'(?:href="|url\()#([^")]+)', "".join(plots)):
        assert target in ids


def test_texts_of_plots_are_text_in_both_languages() -> None:
    svg = loss_panel("l", [1, 2], [2.0, 1.0])
    texts = {
        element.attrib.get("lang"): element.text for element in parsed(svg).iter("text") if "lang" in element.attrib
    }
    assert texts == {"ko": "최적화 단계", "en": "Optimizer step"}


def test_equal_figures_are_equal_bytes() -> None:
    assert rates(cell("a", 0.4)) == rates(cell("a", 0.4))


def test_a_loss_that_is_not_finite_is_drawn_as_a_line_across() -> None:
    finite, broken = loss_panel("l", [1, 2, 3], [3.0, 2.0, 1.0]), loss_panel("l", [1, 2, 3], [3.0, float("nan"), 1.0])
    assert "stroke-dasharray" in broken
    assert "stroke-dasharray" not in finite
    assert loss_panel("l", [1], [float("inf")])


def test_strips_place_values_on_their_axis() -> None:
    strip = parsed(share_strip([(0, 0.5, Interval(low=0.25, high=1.0))]))
    circle = strip.find("circle")
    line = strip.find("line[@class='range s1']")
    assert circle is not None
    assert line is not None
    assert float(circle.attrib["cx"]) == 100  # the middle of 200
    assert (float(line.attrib["x1"]), float(line.attrib["x2"])) == (53.5, 193)
    zero = parsed(difference_strip([(0, 0.0, None)])).find("circle")
    assert zero is not None
    assert float(zero.attrib["cx"]) == 100


def test_a_stacked_bar_is_split_by_counts() -> None:
    widths = [float(part.attrib["width"]) for part in parsed(stacked_bar([("a", 1), ("b", 3), ("c", 0)])).iter("rect")]
    assert widths == [50, 150]
    assert not list(parsed(stacked_bar([("a", 0)])).iter("rect"))


def heights(svg: str) -> list[float]:
    """Vertical positions of the markers of a panel over batches."""
    uses = [use for use in parsed(svg).iter("use") if "fill" in use.attrib and "stroke" in use.attrib]
    return [float(use.attrib["y"]) for use in uses]


@pytest.mark.parametrize(
    ("medians", "middle"),
    # 50 is half of 100 on a linear panel; 100 is half way from 1 to 10,000 on a logarithmic one.
    [((0.0, 50.0, 100.0), 0.5), ((90.0, 95.0, 100.0), 0.5), ((1.0, 100.0, 10_000.0), 0.5)],
)
def test_a_wide_range_is_drawn_logarithmically(medians: tuple[float, ...], middle: float) -> None:
    markers = heights(batch_panel("b", [Series("a", 0, (1, 8, 64), medians, medians, medians)], 1.0))
    low, between, high = markers[-3:]
    assert (between - low) / (high - low) == pytest.approx(middle, abs=0.01)
