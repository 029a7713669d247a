"""Reading a suite file: YAML, overrides from the command line, types, inheritance, cross checks, prompts.

All faults of the suite and of the files it names are collected and raised together, each with file, line and key.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from harness.errors import Fault, InvalidInput
from harness.prompts import read_all_prompts, read_taxonomy, select_prompts
from harness.records import CategoryName, Prompt, SweepPoint
from harness.suite import Model, Suite
from harness.suite_checks import Checker
from harness.suite_faults import describe, keys_at, real_path, section_holding
from harness.suite_paths import is_file, is_folder, locate
from harness.suite_yaml import (
    Document,
    KeyPath,
    Place,
    Value,
    dotted,
    is_printable,
    nearest,
    parse_value,
    read_document,
)
from harness.sweep import expand_sweeps
from harness.sweep_keys import nest_sweeps

# What stands in for a required value that is missing or wrong, so that the rest can still be checked.
_STAND_INS: dict[str, Value] = {
    "name": "unnamed",
    "models": {"unnamed": {}},
    "model": "unnamed",
    "metric": "refusal",
    "data": {},
    "dtypes": ["float32", "bfloat16"],
}


@dataclass(frozen=True)
class LoadedSuite:
    """A faultless suite with the prompts it names. `file` is the path as the user gave it."""

    suite: Suite
    file: Path
    prompts: tuple[Prompt, ...]
    categories: dict[str, CategoryName]
    sweep: tuple[SweepPoint, ...] = ()

    def resolve(self, path: str) -> Path:
        """Absolute form of a file or folder named in the suite: relative ones count from the suite file."""
        return (self.file.parent / path).resolve()

    def locate(self, path: str) -> str:
        """What to load a model or adapter from: the absolute folder of a local path, or a hub name unchanged."""
        local = locate(self.file.parent, path)
        return path if local is None else str(local)


def load_suite(path: Path, overrides: Sequence[str] = (), baselines: Collection[str] | None = None) -> LoadedSuite:
    """Read and check a whole suite; raises one InvalidInput with every fault found.

    An override is KEY=VALUE with a dotted key and a YAML value, e.g. `models.base.dtype=bfloat16`. Gates may compare
    with the saved runs that `baselines` names; None leaves that unchecked.
    """
    document = read_document(path)
    nest_sweeps(document)
    for override in overrides:
        _apply_override(document, override)
        nest_sweeps(document)  # a mapping given there may have dotted keys, too
    sweep = expand_sweeps(document)
    suite, wrong = validate_types(document)
    suite, unresolved = _inherit(document, suite)
    checker = Checker(document, path.parent, wrong, unresolved)
    checker.check(suite)
    categories: dict[str, CategoryName] = {}
    faults: list[Fault] = []
    if suite.taxonomy is not None and (taxonomy := checker.existing_file(("taxonomy",), suite.taxonomy)):
        categories, faults = read_taxonomy(taxonomy)
    files = [checker.existing_file(("prompts", index), name) for index, name in enumerate(suite.prompts)]
    for index, file in enumerate(files):
        if file is not None and file in files[:index]:
            checker.fault(("prompts", index), "the file is named twice.")
    found = [file for file in dict.fromkeys(files) if file is not None]
    prompts, prompt_faults = read_all_prompts(found, categories or None)
    checker.scripts(suite, prompts)
    if not prompt_faults and None not in files:
        checker.gates(suite, prompts, baselines)
    faults = document.faults + faults + prompt_faults
    if faults:
        raise InvalidInput(sorted(faults, key=_reading_order))
    unnamed = {prompt.category: _unnamed_category(prompt.category) for prompt in prompts}
    return LoadedSuite(
        suite=suite,
        file=path,
        prompts=select_prompts(prompts, suite.prompt_limit),
        categories=categories | {k: v for k, v in unnamed.items() if k not in categories},
        sweep=sweep,
    )


def _reading_order(fault: Fault) -> tuple[str, int]:
    return (fault.file, fault.line or 0)


def _unnamed_category(category: str) -> CategoryName:
    return CategoryName(ko=category, en=category, group_ko=category, group_en=category)


def _apply_override(document: Document, override: str) -> None:
    key, equals, text = override.partition("=")
    place = Place(f"command line (-o {key})", None)  # not the value, which may be a secret typed by mistake
    parts = key.strip().split(".")

    def fault(problem: str, close: str | None = None) -> None:
        document.faults.append(Fault(place.file, None, "" if not equals else key, problem, close))

    if not equals or not all(parts) or not is_printable(key):
        return fault("an override is KEY=VALUE, e.g. -o models.base.dtype=bfloat16.")
    try:
        value = parse_value(text)
    except ValueError as error:
        return fault(f"the value is not valid YAML: {str(error).removesuffix('.')}.")
    values = document.data
    for depth, part in enumerate(parts):
        known = keys_at(tuple(parts[:depth]))
        if known is None and part not in values:  # a name under `models` or `training`
            return fault(f"the suite has no '{dotted(tuple(parts[: depth + 1]))}'.", nearest(part, values))
        if depth == len(parts) - 1:
            break
        inner = values.get(part)
        if inner is None:
            inner = values[part] = {}
            document.places[tuple(parts[: depth + 1])] = place
        if not isinstance(inner, dict):
            return fault(f"'{part}' is a single value or a list; override it whole.")
        values = inner
    target = tuple(parts)
    for path in [path for path in document.places if path[: len(target)] == target]:
        del document.places[path]
    values[parts[-1]] = _from_here(value, parts)
    document.places[target] = place
    return None


def _from_here(value: Value, parts: list[str]) -> Value:
    """A path typed on the command line is looked for in the current folder first, as a shell user expects."""
    if isinstance(value, str) and value and parts[-1] in ("path", "script", "taxonomy"):
        here = Path(value).resolve()
        return str(here) if is_file(here) or is_folder(here) else value
    if isinstance(value, list) and parts == ["prompts"]:
        return [_from_here(item, ["path"]) for item in value]
    return value


def validate_types(document: Document) -> tuple[Suite, set[KeyPath]]:
    """The suite, with wrong values replaced by their defaults, and the key paths that were wrong.

    The key that a misspelt one was meant for is among them: its default stands in for what was given.
    """
    data = json.loads(json.dumps(document.data))
    wrong: set[KeyPath] = set()
    meant: set[KeyPath] = set()
    while True:
        try:
            # Through JSON, because pydantic's strict mode takes a list for a tuple only there.
            suite = Suite.model_validate_json(json.dumps(data), strict=True)
            return suite, wrong | (meant - document.places.keys())
        except ValidationError as error:
            details: dict[KeyPath, list[ErrorDetails]] = {}
            for detail in error.errors(include_url=False):
                details.setdefault(real_path(data, detail), []).append(detail)
        for path, found in details.items():
            problem = describe(path, found)
            if problem and not any(path[: len(other)] == other for other in wrong):
                document.add_fault(path, *problem)
                if found[0]["type"] == "extra_forbidden" and problem[1]:
                    meant.add((*path[:-1], problem[1]))
        wrong |= set(details)
        for path in details:
            _replace(data, path)


def _replace(data: dict[str, Any], path: KeyPath) -> None:
    """Take out the value at a path; where a required one is missing, put a stand-in or take out its section."""
    holder = section_holding(path)
    *outer, last = holder
    values = data
    for part in outer:
        if part not in values:
            return
        values = values[part]
    if last in values:
        del values[last]
    elif holder != path:
        return  # another fault of the same list has taken it out
    elif last in _STAND_INS:
        values[str(last)] = _STAND_INS[str(last)]
    else:
        _replace(data, tuple(outer))


def _inherit(document: Document, suite: Suite) -> tuple[Suite, set[str]]:
    """Fill in what each model takes from the one it is `like`; the names of those whose chain is broken."""
    resolved: dict[str, Model] = {}
    unresolved: set[str] = set()
    for name, model in suite.models.items():
        chain = [name]
        while (parent := suite.models[chain[-1]].like) is not None:
            path = ("models", chain[-1], "like")
            if parent not in suite.models:
                if parent not in document.keys("models"):
                    document.add_fault(path, f"there is no model '{parent}'.", nearest(parent, suite.models))
                unresolved.add(name)
                break
            if parent in chain:
                document.add_fault(path, f"a model cannot be like itself: {' -> '.join([*chain, parent])}.")
                unresolved.add(name)
                break
            chain.append(parent)
        given: dict[str, object] = {}
        for ancestor in reversed(chain):
            one = suite.models[ancestor]
            given |= {key: getattr(one, key) for key in one.model_fields_set}
        resolved[name] = model.model_copy(update=given)
    return suite.model_copy(update={"models": resolved}), unresolved
