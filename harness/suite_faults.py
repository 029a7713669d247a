"""Pydantic's complaints about a suite in plain English, and which keys a suite may have where."""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from harness.suite import ENDPOINT_PATTERN, FILE_NAME_PATTERN, NAME_PATTERN, VARIABLE_PATTERN, Section, Suite
from harness.suite_yaml import KeyPath, nearest

_PATTERNS = {
    NAME_PATTERN: "a name has only lower-case letters a-z, digits, '-' and '_'",
    FILE_NAME_PATTERN: "must be a plain file name, without folders",
    ENDPOINT_PATTERN: "must be a URL such as http://127.0.0.1:8000/v1, without a password or a query",
    VARIABLE_PATTERN: "must be the name of an environment variable, not the key itself",
}
_PERHAPS_SECRET = ("api_key_env", "endpoint")  # a key or password put there by mistake is not repeated
_TYPES = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping (indented 'key: value' lines)",
    "model_type": "must be a mapping (indented 'key: value' lines)",
    "tuple_type": "must be a list",
}
_LIMITS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def real_path(data: Any, detail: ErrorDetails) -> KeyPath:
    """Where in the data the error is: its location without the names of union members that pydantic appends."""
    path: list[str | int] = []
    for part in detail["loc"]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return (*path, part) if detail["type"] == "missing" else tuple(path)
        path.append(part)
    return tuple(path)


def section_holding(path: KeyPath) -> KeyPath:
    """The path up to the first list on it: a wrong item, or something wrong in it, makes the whole list wrong."""
    depth = next((depth for depth, part in enumerate(path) if isinstance(part, int)), len(path))
    return path[:depth]


def describe(path: KeyPath, details: list[ErrorDetails]) -> tuple[str, str | None] | None:
    """One sentence on the errors at one key path, and the nearest valid name; None if another fault says it."""
    kinds = {detail["type"] for detail in details}
    if "extra_forbidden" in kinds:
        return _unknown_key(path)
    if "missing" in kinds:
        return "this required key is missing.", None
    requirements: list[str] = []
    choices: list[str] = []
    for detail in details:
        if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            return None  # long enough, but for items that have a fault of their own
        if detail["type"] == "literal_error":
            choices += [choice.strip("'") for choice in _expected(detail)]
        requirements.append(_requirement(detail))
    problem = " or ".join(dict.fromkeys(requirements))
    given = details[0]["input"]
    if isinstance(given, dict | list) or path[-1] in _PERHAPS_SECRET:
        return f"{problem}.", None
    is_given = "it is empty" if given is None or given == "" else f"it is {given!r}"
    return f"{problem}; {is_given}.", nearest(str(given), choices)


def _expected(detail: ErrorDetails) -> list[str]:
    text: str = detail["ctx"]["expected"]
    return text.replace(" or ", ", ").split(", ")


def _requirement(detail: ErrorDetails) -> str:
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
    if kind in _TYPES:
        return _TYPES[kind]
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        return f"must be {words} {context[key]:g}"
    if kind == "too_short":
        count = context["min_length"]
        return f"needs at least {count} {'entry' if count == 1 else 'entries'}"
    return detail["msg"][0].lower() + detail["msg"][1:]


def _unknown_key(path: KeyPath) -> tuple[str, str | None]:
    key = str(path[-1])
    known = keys_at(path[:-1]) or []
    close = nearest(key, known)
    if close is None:
        for section in known:
            if key in (keys_at((*path[:-1], section)) or []):
                return f"this key belongs under '{section}'.", None
    return "unknown key.", close


def keys_at(path: KeyPath) -> list[str] | None:
    """Keys that a suite may have under a key path; None where sections with names of the user's stand."""
    annotation = _annotation(path)
    section = _section(annotation)
    if section is not None:
        return list(section.model_fields)
    named = typing.get_origin(annotation) is dict and _section(typing.get_args(annotation)[1])
    return None if named else []


def _annotation(path: KeyPath) -> Any:
    """The type of the value at a key path; None where a suite has no such key."""
    annotation: Any = Suite
    for part in path:
        section = _section(annotation)
        if section is not None:
            field = section.model_fields.get(str(part))
            annotation = field.annotation if field is not None else None
        elif typing.get_origin(annotation) is dict:
            annotation = typing.get_args(annotation)[1]
        elif typing.get_origin(annotation) is tuple and isinstance(part, int):
            annotation = typing.get_args(annotation)[0]
        else:
            return None
    return annotation


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section type in an annotation such as `Adapter` or `Adapter | None`."""
    candidates = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None
