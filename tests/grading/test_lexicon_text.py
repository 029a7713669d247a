"""Cleaning: what is taken away, and that every cleaned position leads back to where it came from."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.grading.lexicon_text import answer_start, clean, language_of

HANGUL = st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=1, max_size=12)
MIXED = st.text(st.sampled_from("가각힣ab1 .*_#`\n\u200b’“é한글'\"-"), max_size=40)


@pytest.mark.parametrize(
    ("answer", "rest"),
    [
        ("<think>거절하자.</think>서울입니다.", "서울입니다."),
        ("거절하자.</think>서울입니다.", "서울입니다."),
        ("<thought>음</thought>\n네.", "\n네."),
        ("[THINK]hm[/THINK]Seoul.", "Seoul."),
        ("서울입니다.", "서울입니다."),
        ("a < b 이고 [1]입니다.", "a < b 이고 [1]입니다."),
    ],
)
def test_reasoning_is_left_out(answer: str, rest: str) -> None:
    start = answer_start(answer)
    assert start is not None
    assert answer[start:] == rest


def test_reasoning_that_never_ends_is_no_answer() -> None:
    assert answer_start("<think>무엇을 쓸까") is None


def test_emphasis_and_invisible_marks_go() -> None:
    assert clean("**불법**이며 `금지`\n## 제목\n수\u200b 없", 0, 100).text == "불법이며 금지\n 제목\n수 없"


def test_list_marks_stay() -> None:
    assert clean("* 하나\n- 둘\n3. 셋", 0, 100).text == "* 하나\n- 둘\n3. 셋"


@given(HANGUL)
def test_decomposed_hangul_is_composed_and_mapped_back(word: str) -> None:
    decomposed = unicodedata.normalize("NFD", word)
    text = clean(decomposed, 0, 1000)
    assert text.text == word
    for place in range(len(word)):
        start, end = text.original_span(place, place + 1)
        assert unicodedata.normalize("NFC", decomposed[start:end]) == word[place]


@given(MIXED, st.sampled_from(["NFC", "NFD"]))
def test_every_span_leads_back_to_its_text(source: str, form: str) -> None:
    answer = unicodedata.normalize(form, source)  # type: ignore[arg-type]
    text = clean(answer, 0, 1000)
    plain = str.maketrans({"’": "'", "“": '"'})
    for place, letter in enumerate(text.text):
        start, end = text.original_span(place, place + 1)
        assert 0 <= start < end <= len(answer)
        assert unicodedata.normalize("NFC", answer[start:end]).translate(plain) == letter


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("서울입니다.", "ko"),
        ("Python에서 os.remove를 쓰세요", "ko"),
        ("Seoul is the capital.", "en"),
        ("我是一个人工智能助手", None),
        ("Я люблю путешествовать", None),
        ("3.14", None),
    ],
)
def test_language(text: str, language: str | None) -> None:
    assert language_of(text) == language
