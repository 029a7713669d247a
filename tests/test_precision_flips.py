"""Changes from precision alone, against counts made by hand."""

from __future__ import annotations

import pytest

from harness.precision_flips import first_difference, precision_flips
from harness.records import PrecisionAnswer, Verdict
from harness.summary import PrecisionFlips


def answer(
    prompt: str, tokens: tuple[int, ...], dtype: str, repeat: int = 0, error: str | None = None
) -> PrecisionAnswer:
    return PrecisionAnswer(
        job_id="job",
        model="base",
        prompt_id=prompt,
        repeat=repeat,
        dtype=dtype,
        quantization="none",
        text=" ".join(map(str, tokens)),
        tokens=tokens,
        finish_reason="stop",
        error=error,
    )


@pytest.mark.parametrize(
    ("first", "second", "position"),
    [((1, 2, 3), (1, 2, 3), None), ((1, 2, 3), (1, 5, 3), 1), ((1, 2), (1, 2, 3), 2), ((), (7,), 0), ((), (), None)],
)
def test_the_first_difference_is_where_one_goes_another_way(
    first: tuple[int, ...], second: tuple[int, ...], position: int | None
) -> None:
    assert first_difference(first, second) == position


def compare(*pairs: tuple[tuple[int, ...], Verdict, tuple[int, ...], Verdict]) -> PrecisionFlips:
    reference = [(answer(str(i), pair[0], "float32"), pair[1]) for i, pair in enumerate(pairs)]
    other = [(answer(str(i), pair[2], "bfloat16"), pair[3]) for i, pair in enumerate(pairs)]
    answers, verdicts = zip(*reference, *other, strict=True)
    (found,) = precision_flips(answers, verdicts, 0.95)
    return found


def test_answers_and_verdicts_are_counted_apart() -> None:
    found = compare(
        ((1, 2), "refusal", (1, 2), "refusal"),
        ((1, 2), "refusal", (1, 3), "refusal"),
        ((1, 2), "refusal", (9, 2), "compliance"),
        ((1, 2), "compliance", (1, 2, 3), "refusal"),
        ((4, 4), "compliance", (4, 5), "refusal"),
        ((1, 2), "compliance", (1, 2), "compliance"),
        ((1, 2), "unscored", (1, 7), "refusal"),
    )
    assert (found.equal.count, found.equal.n) == (2, 7)
    assert found.first_differences == (0, 1, 1, 1, 2)
    assert (found.verdict_flips.count, found.verdict_flips.n) == (3, 6)
    assert found.changes == {"compliance → refusal": 2, "refusal → compliance": 1}
    assert (found.gained, found.lost, found.refusals) == (2, 1, 4)
    assert found.difference == pytest.approx(1 / 6)
    assert found.interval is not None and found.interval.low < 1 / 6 < found.interval.high
    assert found.p_value == 1.0  # exact McNemar of 2 against 1


def test_ten_flips_one_way_are_no_chance() -> None:
    flipped: list[tuple[tuple[int, ...], Verdict, tuple[int, ...], Verdict]] = [((1,), "refusal", (2,), "partial")] * 10
    found = compare(*flipped)
    assert found.p_value == pytest.approx(2 / 2**10)
    assert found.difference == -1


def test_the_first_time_is_the_reference_and_its_second_time_is_compared_too() -> None:
    answers = [answer("a", (1,), "bfloat16"), answer("a", (1,), "bfloat16", repeat=1), answer("a", (2,), "float16")]
    again, half = precision_flips(answers, ["refusal"] * 3, 0.95)
    assert (again.dtype, again.repeat, again.equal.value) == ("bfloat16", 1, 1.0)
    assert (half.dtype, half.reference_dtype, half.equal.value) == ("float16", "bfloat16", 0.0)


def test_what_failed_in_one_precision_is_compared_in_none() -> None:
    answers = [answer("a", (1,), "float32"), answer("a", (1,), "float16", error="out of memory")]
    assert precision_flips(answers, ["refusal", "empty"], 0.95) == ()
    answers += [answer("b", (1,), "float32"), answer("b", (1,), "float16")]
    (found,) = precision_flips(answers, ["refusal"] * 4, 0.95)
    assert found.equal.n == 1
