"""What the page says of events: Korean sentences from their data, and the recorded message where there are none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.records import Event, Scalar
from harness.report.events import KOREAN
from harness.report.page import render_report
from tests.report.factory import HOSTILE_TEXTS, make_summary
from tests.report.reading import Page

HARNESS = Path(__file__).parents[2] / "harness"
Scalars = dict[str, Scalar]


def shown(code: str, message: str, **data: Scalar) -> str:
    """The event's line in the list of events."""
    event = Event(job_id="j", level="warning", code=code, message=message, data=data)
    page = render_report(make_summary(pairs_per_category=1, general=2, events=(event,)))
    (lines,) = re.findall(r'<ul class="events">(.*?)</ul>', page, re.DOTALL)
    return str(lines)


@pytest.mark.parametrize(
    ("code", "data", "korean"),
    [
        ("batch_halved", {"from": 64, "to": 32}, "64개짜리 배치가 메모리에 들어가지 않아 32개씩 나누어 계속했습니다."),
        ("engine_warmup", {"seconds": 75.0}, "엔진을 준비하는 데(컴파일, 기록, 시작) 1 min 15 s 걸렸습니다."),
        ("random_weights", {"model": "base", "parameters": 8030261248, "bytes": 2**34}, "8,030,261,248개, 16 GiB"),
        ("ceiling_left_out", {}, "CPU는 float16 연산을 흉내만 내므로"),
    ],
)
def test_korean_has_a_sentence_with_the_figures_and_english_the_message(code: str, data: Scalars, korean: str) -> None:
    line = shown(code, "As it was recorded.", **data)
    (sentence,) = re.findall('<span class="ko" lang="ko" title="As it was recorded.">(.*?)</span>', line)
    assert korean in sentence and "recorded" not in sentence
    assert '<span class="en" lang="en">As it was recorded.</span>' in line


def test_an_event_that_kept_less_data_or_is_not_known_shows_its_message_in_both_languages() -> None:
    line = shown("requests_failed", "3 requests of base failed.", failed=3)
    assert "요청 실패: " in line and line.count("3 requests of base failed.") == 1 and 'class="en" lang="en"><' in line
    assert shown("from_elsewhere", "Something.").endswith("<code>from_elsewhere</code> Something.</li>")


def test_data_and_message_are_hostile_text() -> None:
    def elements(texts: Sequence[str]) -> list[tuple[str, list[str]]]:
        data: Scalars = {"engine": "fast", "model": "base"}
        lines = [shown("engine_unsuited", text, **data, reason=text) for text in texts]
        return [(tag, sorted(attributes)) for tag, attributes in Page("".join(lines)).elements]

    hostile = HOSTILE_TEXTS[:12]
    assert elements(hostile) == elements(["harmless"] * len(hostile))


def test_every_sentence_is_of_an_event_that_there_is() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in HARNESS.rglob("*.py") if path.name != "events.py")
    assert [code for code in KOREAN if f'"{code}"' not in sources] == []
