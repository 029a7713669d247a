"""Just enough Korean morphology to put a handwritten verb phrase into many wordings.

Spelling follows the standard rules for regular verbs, ㄹ-stems, ㅡ-stems and the ㅂ, ㄷ, ㅅ and 르 irregulars;
the irregular stems the corpus uses are listed by name, because no rule tells them from regular ones.
"""

from __future__ import annotations

_FIRST, _VOWELS, _FINALS = 0xAC00, 21, 28
_A, _AE, _YA, _EO, _E, _YEO, _O, _WA, _WAE, _OE, _U, _WO, _EU, _I = 0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 13, 14, 18, 20
_NO_FINAL, _FINAL_D, _FINAL_L, _FINAL_B, _FINAL_S = 0, 7, 8, 17, 19

_IRREGULAR = {
    _FINAL_B: ("돕", "굽", "줍", "눕", "깁", "어렵", "가깝"),
    _FINAL_D: ("듣", "걷", "싣", "깨닫", "길을 묻"),
    _FINAL_S: ("짓", "낫", "붓", "잇", "긋", "젓"),
}
_REGULAR_REU = ("따르", "들르", "치르")
_PARTICLES = {  # spelled in the corpus as after a consonant -> after a vowel
    "을": "를",
    "이": "가",
    "은": "는",
    "과": "와",
    "으로": "로",
    "이라는": "라는",
    "인": "인",
    "이라고": "라고",
}
_UNCHANGING_PARTICLES = ("의", "에", "에서", "에게", "에게만")


def attach(noun: str, tail: str) -> str:
    """`noun` followed by `tail`, whose leading particle is written as after a consonant and adapted here.

    A tail that begins with no particle is set off by a space.
    """
    particle, space, rest = tail.partition(" ")
    if particle not in _PARTICLES and particle not in _UNCHANGING_PARTICLES:
        return f"{noun} {tail}"
    final = _parts(noun[-1])[2]
    if particle in _PARTICLES and (final == _NO_FINAL or (particle == "으로" and final == _FINAL_L)):
        particle = _PARTICLES[particle]
    return f"{noun}{particle}{space}{rest}"


def conjugate(phrase: str, ending: str) -> str:
    """A verb phrase in dictionary form with one of the endings 는 ㄹ 면 려면 려고 려는데 고 기 지 어.

    `conjugate("산에 불을 내다", "려면")` is "산에 불을 내려면". Raises `ValueError` for any other ending.
    """
    stem = phrase[:-1]
    lead, vowel, final = _parts(stem[-1])
    if ending in ("고", "기", "지"):
        return stem + ending
    if ending == "는":
        return (_with(stem, final=_NO_FINAL) if final == _FINAL_L else stem) + "는"
    if ending == "어":
        return _infinitive(stem)
    if ending not in ("ㄹ", "면", "려면", "려고", "려는데"):
        raise ValueError(f"no such ending: {ending}")
    if final not in (_NO_FINAL, _FINAL_L):
        stem = _before_vowel(stem)
        if _is_irregular(phrase[:-1], _FINAL_B):
            stem += "우"
        else:
            stem += "으"
    if ending != "ㄹ":
        return stem + ending
    return stem if _parts(stem[-1])[2] == _FINAL_L else _with(stem, final=_FINAL_L)


def _infinitive(stem: str) -> str:
    """The 아/어 form: 만들어, 써, 골라, 해."""
    lead, vowel, final = _parts(stem[-1])
    if stem[-1] == "하":
        return stem[:-1] + "해"
    if stem[-1] == "르" and not stem.endswith(_REGULAR_REU):
        bright = _parts(stem[-2])[1] in (_A, _O)
        return _with(stem[:-1], final=_FINAL_L) + ("라" if bright else "러")
    if final != _NO_FINAL:
        bright = vowel in (_A, _O, _YA)
        if _is_irregular(stem, _FINAL_B):
            return _with(stem, final=_NO_FINAL) + ("와" if stem.endswith("돕") else "워")
        return _before_vowel(stem) + ("아" if bright else "어")
    if vowel == _EU:
        bright = len(stem) > 1 and stem[-2] != " " and _parts(stem[-2])[1] in (_A, _O)
        return _with(stem, vowel=_A if bright else _EO)
    contracted = {_O: _WA, _U: _WO, _I: _YEO, _OE: _WAE}
    if vowel in contracted:
        return _with(stem, vowel=contracted[vowel])
    if vowel in (_A, _AE, _EO, _E, _YEO):
        return stem
    return stem + "어"


def _is_irregular(stem: str, final: int) -> bool:
    return stem.endswith(_IRREGULAR[final])


def _before_vowel(stem: str) -> str:
    """The stem as it stands before an ending that begins with a vowel."""
    if _is_irregular(stem, _FINAL_D):
        return _with(stem, final=_FINAL_L)
    if _is_irregular(stem, _FINAL_S) or _is_irregular(stem, _FINAL_B):
        return _with(stem, final=_NO_FINAL)
    return stem


def _parts(syllable: str) -> tuple[int, int, int]:
    """Indices of the lead consonant, the vowel and the final of a Hangul syllable; others count as open."""
    index = ord(syllable) - _FIRST
    if not 0 <= index < 11172:
        return -1, -1, _NO_FINAL
    return index // (_VOWELS * _FINALS), index // _FINALS % _VOWELS, index % _FINALS


def _with(text: str, vowel: int | None = None, final: int | None = None) -> str:
    """`text` with the vowel or final of its last syllable replaced."""
    lead, old_vowel, old_final = _parts(text[-1])
    vowel = old_vowel if vowel is None else vowel
    final = old_final if final is None else final
    return text[:-1] + chr(_FIRST + (lead * _VOWELS + vowel) * _FINALS + final)
