"""Inflection against forms a Korean dictionary or grammar gives."""

from __future__ import annotations

import pytest

from harness.tiny_ko.corpus import load_lexicon
from harness.tiny_ko.korean import attach, conjugate


@pytest.mark.parametrize(
    ("verb", "ending", "form"),
    [
        ("먹다", "는", "먹는"),
        ("먹다", "려면", "먹으려면"),
        ("먹다", "ㄹ", "먹을"),
        ("먹다", "어", "먹어"),
        ("잡다", "어", "잡아"),
        ("가다", "려고", "가려고"),
        ("가다", "ㄹ", "갈"),
        ("가다", "어", "가"),
        ("하다", "어", "해"),
        ("보다", "어", "봐"),
        ("배우다", "어", "배워"),
        ("그리다", "어", "그려"),
        ("보내다", "어", "보내"),
        # stems in ㄹ lose it before ㄴ and take no 으
        ("만들다", "는", "만드는"),
        ("만들다", "ㄹ", "만들"),
        ("만들다", "려면", "만들려면"),
        ("만들다", "면", "만들면"),
        ("만들다", "어", "만들어"),
        # stems in ㅡ
        ("쓰다", "어", "써"),
        ("끄다", "어", "꺼"),
        ("모으다", "어", "모아"),
        ("고르다", "어", "골라"),
        ("부르다", "어", "불러"),
        ("따르다", "어", "따라"),
        ("치르다", "어", "치러"),
        # irregular in ㅂ, ㄷ, ㅅ, and the regular ones that look alike
        ("돕다", "어", "도와"),
        ("굽다", "려면", "구우려면"),
        ("굽다", "어", "구워"),
        ("줍다", "ㄹ", "주울"),
        ("뽑다", "어", "뽑아"),
        ("듣다", "면", "들으면"),
        ("듣다", "는", "듣는"),
        ("걷다", "어", "걸어"),
        ("닫다", "어", "닫아"),
        ("짓다", "어", "지어"),
        ("짓다", "려고", "지으려고"),
        ("벗다", "어", "벗어"),
    ],
)
def test_conjugate(verb: str, ending: str, form: str) -> None:
    assert conjugate(verb, ending) == form
    assert conjugate(f"집에서 {verb}", ending) == f"집에서 {form}"


@pytest.mark.parametrize(
    ("noun", "tail", "text"),
    [
        ("바퀴벌레", "을 죽이다", "바퀴벌레를 죽이다"),
        ("곰팡이균", "을 죽이다", "곰팡이균을 죽이다"),
        ("나무", "으로 깎다", "나무로 깎다"),
        ("칼", "으로 자르다", "칼로 자르다"),
        ("손", "으로 집다", "손으로 집다"),
        ("친구", "과 놀다", "친구와 놀다"),
        ("물", "이 끓다", "물이 끓다"),
        ("학교", "에서 놀다", "학교에서 놀다"),
        ("선물", "몰래 사다", "선물 몰래 사다"),
    ],
)
def test_attach(noun: str, tail: str, text: str) -> None:
    assert attach(noun, tail) == text


def test_an_unknown_ending_is_refused() -> None:
    with pytest.raises(ValueError, match="겠다"):
        conjugate("먹다", "겠다")


def test_every_verb_phrase_of_the_lexicons_takes_every_ending() -> None:
    lexicon = load_lexicon()
    topics = lexicon.harmful.phrases + lexicon.harmless.phrases
    verbs = [topic.phrase for topic in topics if topic.style == "how_to"]
    assert len(verbs) > 1_000
    for verb in verbs:
        for ending in ("는", "ㄹ", "면", "려면", "려고", "려는데", "고", "기", "지", "어"):
            form = conjugate(verb, ending)
            assert form.startswith(verb[:-2]) or verb[-2] in "르", (verb, form)
            assert all("가" <= character <= "힣" for character in form[-2:].replace(" ", "가")), (verb, form)
