"""The public sets: where each comes from, its licence, and how a row of it becomes a prompt.

What is stated here of columns, labels and licences is referenced in docs/importers.md, with what could not be verified.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import Fault, InvalidInput
from harness.importers.columns import Draft, LeftOut, Reader, SourceRow, expected_by
from harness.records import Expected

NOT_STATED = "not stated"
SAFE_OR_UNSAFE: Mapping[str, Expected] = {"safe": "comply", "unsafe": "refuse"}
REFUSE: Expected = "refuse"


@dataclass(frozen=True)
class Source:
    """A public set. `reader` is made for one import, given the file or hub name and the subset that were asked for.

    `pair` sees all drafts in their order and gives them twin keys, where a row alone does not tell its twin.
    """

    title: str
    homepage: str
    licence: str
    remark: str
    reader: Callable[[str, str | None], Reader]
    pair: Callable[[Sequence[Draft]], list[Draft]] = list


def _always(reader: Reader) -> Callable[[str, str | None], Reader]:
    return lambda place, subset: reader


def _k_overrefusal(row: SourceRow) -> Draft:
    kind, focus = row.text("type"), row.optional("focus")
    # Only the idioms are written as pairs; elsewhere the focus word of an XSTest row repeats.
    twin = f"{kind.removeprefix('contrast_')} {focus}" if focus and kind.endswith("k_idioms") else ""
    return Draft(row.text("prompt_ko"), kind, expected_by(SAFE_OR_UNSAFE, row.text("label")), twin=twin)


def _square(row: SourceRow) -> Draft:
    return Draft(row.text("question"), row.text("category"), "comply")


def _kosbi(row: SourceRow) -> Draft:
    context, sentence = row.text("context"), row.text("sentence")
    if not sentence:
        raise LeftOut("there is no sentence")
    expected = expected_by(SAFE_OR_UNSAFE, row.text("sentence_label"))
    return Draft(f"{context} {sentence}", row.text("demographic_category"), expected, twin=context)


def _xstest(row: SourceRow) -> Draft:
    kind = row.text("type")
    expected: Expected = "refuse" if kind.startswith("contrast_") else "comply"
    # The focus word stands in as twin key until `_pair_xstest` has seen the whole set.
    return Draft(row.text("prompt"), kind, expected, row.optional("id", "id_v2"), row.optional("focus"))


TWIN_TYPES = {"contrast_discr": "real_group_nons_discr", "contrast_privacy": "privacy_fictional"}


def _pair_xstest(drafts: Sequence[Draft]) -> list[Draft]:
    """Pair the n-th row of a type with the n-th of its contrast type, where both are about the same focus word.

    Focus words repeat within a type, so they are no key; a copy without them, or in another order, gets no pairs.
    """
    positions: dict[str, int] = {}
    focus_of: dict[tuple[str, int], str] = {}
    places = []
    for draft in drafts:
        number = positions[draft.category] = positions.get(draft.category, 0) + 1
        places.append(number)
        focus_of[draft.category, number] = draft.twin
    with_focus = any(draft.twin for draft in drafts)
    paired = [replace(draft, twin="") for draft in drafts]
    for index, (draft, number) in enumerate(zip(drafts, places, strict=True)):
        safe_type = TWIN_TYPES.get(draft.category, draft.category.removeprefix("contrast_"))
        contrast = next((name for name, safe in TWIN_TYPES.items() if safe == safe_type), f"contrast_{safe_type}")
        if positions.get(safe_type) != positions.get(contrast):
            continue
        words = [set(focus_of[kind, number].split()) for kind in (safe_type, contrast)]
        if with_focus and (words[0] & words[1] or words[0] == words[1]):
            paired[index] = replace(draft, twin=f"{safe_type} {number}")
    return paired


def _or_bench(place: str, subset: str | None) -> Reader:
    words = set(re.findall(r"[a-z0-9]+", (subset or Path(place).name).lower()))
    if len(words & {"toxic", "hard", "80k"}) != 1:
        problem = (
            f"neither '{place}' nor a subset says which part of OR-Bench this is: or-bench-80k and or-bench-hard-1k "
            "(to be answered) or or-bench-toxic (to be refused); give --subset."
        )
        raise InvalidInput([Fault("command line", None, "or_bench", problem)])
    expected: Expected = "refuse" if "toxic" in words else "comply"
    return lambda row: Draft(row.text("prompt"), row.text("category"), expected)


def _strongreject(row: SourceRow) -> Draft:
    return Draft(row.text("forbidden_prompt", "prompt"), row.text("category"), REFUSE)


def _sorry_bench(row: SourceRow) -> Draft:
    style = row.optional("prompt_style")
    if style not in ("", "base"):
        raise LeftOut(f"the prompt style is '{style}', not 'base'")
    return Draft(row.text("turns", "prompt"), row.text("category"), REFUSE, row.optional("question_id"))


def _harmbench(row: SourceRow) -> Draft:
    context = row.optional("ContextString", "context")
    behaviour = row.text("Behavior", "prompt")
    text = f"{context}\n\n---\n\n{behaviour}" if context else behaviour
    return Draft(text, row.text("SemanticCategory", "category"), REFUSE, row.optional("BehaviorID"))


def _do_not_answer(row: SourceRow) -> Draft:
    return Draft(row.text("question", "prompt"), row.text("types_of_harm", "harm_area"), REFUSE, row.optional("id"))


SOURCES: dict[str, Source] = {
    "k_overrefusal": Source(
        "K-OverRefusal",
        "https://github.com/Marker-Inc-Korea/K-OverRefusal",
        NOT_STATED,
        "Its page states no licence. Parts come from XSTest and OR-Bench (CC-BY-4.0), OKTest and PHTest.",
        _always(_k_overrefusal),
    ),
    "square": Source(
        "SQuARe",
        "https://github.com/naver-ai/korean-safety-benchmarks",
        "MIT",
        "Sensitive questions, not harmful requests: every one expects an answer.",
        _always(_square),
    ),
    "kosbi": Source(
        "KoSBi",
        "https://github.com/naver-ai/korean-safety-benchmarks",
        "MIT",
        "Statements, not requests: a statement labelled unsafe expects that the model does not go along with it.",
        _always(_kosbi),
    ),
    "xstest": Source(
        "XSTest",
        "https://github.com/paul-rottger/xstest",
        "CC-BY-4.0",
        "",
        _always(_xstest),
        _pair_xstest,
    ),
    "or_bench": Source(
        "OR-Bench",
        "https://github.com/justincui03/or-bench",
        "CC-BY-4.0",
        "",
        _or_bench,
    ),
    "strongreject": Source(
        "StrongREJECT",
        "https://github.com/alexandrasouly/strongreject",
        "MIT",
        "",
        _always(_strongreject),
    ),
    "sorry_bench": Source(
        "SORRY-Bench",
        "https://sorry-bench.github.io",
        "the authors' own terms",
        "Access on the hub is granted by the authors, on their terms. Only the base style is taken, no mutations.",
        _always(_sorry_bench),
    ),
    "harmbench": Source(
        "HarmBench",
        "https://github.com/centerforaisafety/HarmBench",
        "MIT",
        "A contextual behaviour's context goes before it.",
        _always(_harmbench),
    ),
    "do_not_answer": Source(
        "Do-Not-Answer",
        "https://github.com/Libr-AI/do-not-answer",
        "CC-BY-NC-SA-4.0",
        "Not for commercial use.",
        _always(_do_not_answer),
    ),
}
