"""Prompt files (JSON Lines), the taxonomy of their categories, and choosing prompts from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from harness.errors import Fault, InvalidInput
from harness.records import CategoryName, Prompt, Record
from harness.suite_yaml import Document, KeyPath, Value, nearest, read_document, read_text, shown
from harness.summary import Group

T = TypeVar("T")
R = TypeVar("R", bound=Record)

MOST_NAMED = 60
"""So many valid names at most are listed where none is near the one given."""


class ScriptedAnswer(Record):
    """One row of a scripted model's file."""

    prompt_id: str
    text: str


def group_of(prompt: Prompt) -> Group:
    """Which rate a prompt counts for; a harmless prompt with a pair_id is the look-alike of a harmful one."""
    if prompt.expected == "refuse":
        return "harmful"
    return "general" if prompt.pair_id is None else "lookalike"


def select_prompts(
    prompts: Sequence[Prompt],
    limit: int | None = None,
    ids: Sequence[str] = (),
    categories: Sequence[str] = (),
) -> tuple[Prompt, ...]:
    """The prompts with one of the ids and in one of the categories (where given), in their order.

    `limit` then takes that many of each group, spread evenly over the file and the same ones every time. A harmful
    prompt and its look-alike are taken together, so that `limit` 10 is 10 pairs and 10 general prompts.
    Raises InvalidInput for an unknown id or category, and for a choice that leaves nothing.
    """
    faults = _unknown("--ids", "prompt", ids, [prompt.id for prompt in prompts])
    faults += _unknown("--categories", "category", categories, sorted({p.category for p in prompts}))
    chosen = [p for p in prompts if (not ids or p.id in ids) and (not categories or p.category in categories)]
    if not faults and not chosen and prompts:
        faults.append(Fault("command line", None, "", "no prompt has both these ids and these categories."))
    if limit is not None and limit < 1:
        faults.append(Fault("command line", None, "--limit", f"must be at least 1; it is {limit}."))
    if faults:
        raise InvalidInput(faults)
    if limit is None:
        return tuple(chosen)
    units: dict[Group, dict[str, list[Prompt]]] = {"harmful": {}, "lookalike": {}, "general": {}}
    harmful_pairs = {prompt.pair_id for prompt in chosen if prompt.expected == "refuse"}
    for prompt in chosen:
        group = group_of(prompt)
        if group == "lookalike" and prompt.pair_id in harmful_pairs:
            group = "harmful"
        unit = f"id {prompt.id}" if prompt.pair_id is None else f"pair {prompt.pair_id}"
        units[group].setdefault(unit, []).append(prompt)
    kept = {p.id for group in units.values() for unit in _evenly(list(group.values()), limit) for p in unit}
    return tuple(prompt for prompt in chosen if prompt.id in kept)


def _evenly(items: Sequence[T], count: int) -> list[T]:
    """`count` items at equal distances, beginning with the first; all of them if there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def _unknown(option: str, kind: str, given: Iterable[str], known: Sequence[str]) -> list[Fault]:
    faults = []
    for name in given:
        if name not in known:
            close = nearest(name, known)
            those = f" There are {', '.join(known)}." if close is None and len(known) <= MOST_NAMED else ""
            faults.append(Fault("command line", None, option, f"there is no {kind} '{name}'.{those}", close))
    return faults


def read_all_prompts(
    files: Sequence[Path], categories: dict[str, CategoryName] | None
) -> tuple[list[Prompt], list[Fault]]:
    """Read prompt files; the faults are those of single rows, of ids, pairs and unknown categories.

    `categories` are the taxonomy's; None leaves them unchecked. General prompts may have any category.
    """
    prompts: list[Prompt] = []
    faults: list[Fault] = []
    places: dict[str, tuple[str, int]] = {}
    for file in files:
        name = shown(file)
        for line, row in _rows(file, name, Prompt, faults):
            if row.id in places:
                first_file, first_line = places[row.id]
                where = f"line {first_line}" if first_file == name else f"{first_file}:{first_line}"
                faults.append(Fault(name, line, "id", f"'{row.id}' is already the id of {where}."))
                continue
            if categories is not None and row.category not in categories and group_of(row) != "general":
                problem = f"the taxonomy has no category '{row.category}'."
                faults.append(Fault(name, line, "category", problem, nearest(row.category, categories)))
            places[row.id] = (name, line)
            prompts.append(row)
        if not any(place[0] == name for place in places.values()):
            faults.append(Fault(name, None, "", "the file has no usable prompt."))
    if not faults:  # a row that could not be read would be missed as a twin
        faults += _pair_faults(prompts, places)
    return prompts, faults


def _rows(file: Path, name: str, kind: type[R], faults: list[Fault]) -> Iterable[tuple[int, R]]:
    try:
        text = read_text(file)
    except InvalidInput as error:
        faults += error.faults
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, kind.model_validate_json(line, strict=True)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            faults += [_row_fault(name, number, kind, detail) for detail in details]


def _row_fault(file: str, line: int, kind: type[Record], detail: ErrorDetails) -> Fault:
    key = ".".join(str(part) for part in detail["loc"])
    problems = {
        "json_invalid": f"not valid JSON: {detail.get('ctx', {}).get('error', '')}.",
        "model_type": "each line must be one JSON object.",
        "missing": "this required field is missing.",
        "extra_forbidden": "unknown field.",
        "string_type": "must be text.",
        "string_too_short": "must not be empty.",
        "string_pattern_mismatch": "must not be empty or contain spaces.",
        "literal_error": f"must be {detail.get('ctx', {}).get('expected', '')}.",
    }
    problem = problems.get(detail["type"], detail["msg"])
    close = nearest(key, kind.model_fields) if detail["type"] == "extra_forbidden" else None
    return Fault(file, line, key, problem, close)


def _pair_faults(prompts: Sequence[Prompt], places: dict[str, tuple[str, int]]) -> list[Fault]:
    pairs: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        if prompt.pair_id is not None:
            pairs.setdefault(prompt.pair_id, []).append(prompt)
    faults: list[Fault] = []
    alone: dict[str, list[Prompt]] = {}
    for pair_id, rows in pairs.items():
        file, line = places[rows[-1].id]
        if len(rows) == 1:
            alone.setdefault(file, []).append(rows[0])
        elif len(rows) > 2:
            names = ", ".join(row.id for row in rows)
            faults.append(Fault(file, line, "pair_id", f"'{pair_id}' belongs to more than two rows: {names}."))
        elif rows[0].expected == rows[1].expected:
            problem = f"both rows of pair '{pair_id}' ({rows[0].id}, {rows[1].id}) expect '{rows[0].expected}'."
            faults.append(Fault(file, line, "expected", problem))
    # A file none of whose pairs is whole is one half on purpose; where others are whole, one alone is a slip.
    in_whole_pairs = {places[row.id][0] for rows in pairs.values() if len(rows) > 1 for row in rows}
    for file, rows in alone.items():
        if file not in in_whole_pairs:
            continue
        more = f" The same holds for {len(rows) - 1} more rows of this file." if len(rows) > 1 else ""
        problem = f"'{rows[0].pair_id}' has no twin in any prompt file of the suite.{more}"
        faults.append(Fault(file, places[rows[0].id][1], "pair_id", problem))
    return faults


def read_script(file: Path) -> tuple[dict[str, str], list[Fault]]:
    """The answers of a scripted model: JSON Lines with `prompt_id` and `text`, as prompt id -> text."""
    name = shown(file)
    answers: dict[str, str] = {}
    faults: list[Fault] = []
    for line, row in _rows(file, name, ScriptedAnswer, faults):
        if row.prompt_id in answers:
            faults.append(Fault(name, line, "prompt_id", f"'{row.prompt_id}' has an answer already."))
        answers[row.prompt_id] = row.text
    return answers, faults


def read_taxonomy(file: Path) -> tuple[dict[str, CategoryName], list[Fault]]:
    """The names of the categories, by the id that a prompt's `category` says.

    `groups` is a list of groups, each with ko, en and a list `risks` of entries with id, ko and en; a mapping `general`
    of the same form, with `categories` for `risks`, may name the general prompts' categories. Other keys are free.
    """
    try:
        document = read_document(file)
    except InvalidInput as error:
        return {}, error.faults
    names: dict[str, CategoryName] = {}
    for index, group in enumerate(_entries(document, document.data, (), "groups")):
        _add_group(document, ("groups", index), group, "risks", names)
    if "general" in document.data:
        _add_group(document, ("general",), document.data["general"], "categories", names)
    return names, document.faults


def _add_group(document: Document, path: KeyPath, group: Value, key: str, names: dict[str, CategoryName]) -> None:
    group_ko, group_en = (_text(document, path, group, language) for language in ("ko", "en"))
    for index, category in enumerate(_entries(document, group, path, key)):
        category_path = (*path, key, index)
        name, ko, en = (_text(document, category_path, category, field) for field in ("id", "ko", "en"))
        if name in names:
            document.add_fault((*category_path, "id"), f"the category '{name}' is given twice.")
        names[name] = CategoryName(ko=ko, en=en, group_ko=group_ko, group_en=group_en)


def _entries(document: Document, values: Value, path: KeyPath, key: str) -> list[Value]:
    entries = values.get(key) if isinstance(values, dict) else None
    if isinstance(entries, list) and entries:
        return entries
    document.add_fault((*path, key), "must be a list with at least one entry.")
    return []


def _text(document: Document, path: KeyPath, values: Value, key: str) -> str:
    text = values.get(key) if isinstance(values, dict) else None
    if isinstance(text, str) and text:
        return text
    document.add_fault((*path, key), "must be text.")
    return ""
