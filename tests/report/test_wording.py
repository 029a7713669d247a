"""How numbers and names are written."""

import pytest
from markupsafe import Markup

from harness.grading.review_server import CHOICE_TEXTS
from harness.report import wording
from harness.summary import Interval


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "–"),
        (0.0, "0%"),
        (1.0, "100%"),
        (0.914, "91.4%"),
        (0.0002, "<0.1%"),
        (0.9999, ">99.9%"),
        (0.0294, "2.9%"),
    ],
)
def test_percent_never_rounds_to_nothing_or_all(share: float | None, text: str) -> None:
    assert wording.percent(share) == text


def test_differences_carry_their_sign() -> None:
    assert [wording.points(value) for value in (0.897, -0.0123, 0.0001, None)] == ["+89.7", "−1.2", "0.0", "–"]
    assert wording.points_interval(Interval(low=-0.012, high=0.034)) == "[−1.2, +3.4]"
    assert wording.share_interval(Interval(low=0.861, high=0.923)) == "[86.1, 92.3]"


def test_p_values_stay_on_one_line() -> None:
    assert wording.p_value(0.0321) == "p\u00a0=\u00a00.032"
    assert wording.p_value(0.0009) == "p\u00a0<\u00a00.001"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_610_612_736, "bytes", "1.50 GiB"),
        (1023, "bytes", "1,023 B"),
        (1024, "bytes", "1 KiB"),
        (0.0312, "s", "31.2 ms"),
        (1.5, "s", "1.50 s"),
        (75, "s", "1 min 15 s"),
        (3725, "s", "1 h 02 min"),
        (8123.4, "tokens/s", "8,123 tokens/s"),
        (0.00004, "", "4.00e-05"),
        (-12.34, "points", "−12.3 points"),
        (float("nan"), "loss", "nan loss"),
    ],
)
def test_quantities_take_a_unit_that_reads_well(value: float, unit: str, text: str) -> None:
    assert wording.quantity(value, unit) == text


def test_a_range_takes_the_unit_of_its_median() -> None:
    assert wording.quantity_range(0.9, 1.1, 1.0, "s") == "0.900 – 1.10"
    assert wording.quantity_range(2**30, 3 * 2**30, 2**31, "bytes") == "1 – 3"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/someone/project/suites/a.yaml", "…/suites/a.yaml"),
        ("/model", "…/model"),
        (r"C:\Users\someone\models\tiny", "…/models/tiny"),
        ("unsloth/Meta-Llama-3.1-8B", "unsloth/Meta-Llama-3.1-8B"),
        ("suites/a.yaml", "suites/a.yaml"),
    ],
)
def test_paths_of_the_machine_are_cut(path: str, shown: str) -> None:
    assert wording.short_path(path) == shown


def test_both_languages_escape_everything_but_markup() -> None:
    text = wording.both("값 {a} {b}", "value {a} {b}", a="<i>", b=Markup("<b>!</b>"))
    assert text == (
        '<span class="ko" lang="ko">값 &lt;i&gt; <b>!</b></span>'
        '<span class="en" lang="en">value &lt;i&gt; <b>!</b></span>'
    )
    assert "&lt;script&gt;{x}" in wording.both("<script>{x}", "{x}")


def test_the_page_and_the_review_call_a_verdict_by_the_same_name() -> None:
    for verdict, texts in CHOICE_TEXTS.items():
        assert wording.VERDICT_NAMES[verdict][0] == texts[0]
