"""The suite file's JSON Schema, for editors, and its key reference, for people; both come from the types.

`python -m harness.suite_schema` in the project's folder writes suites/suite.schema.json and docs/suite.md anew.
"""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from harness.suite import Name, Section, Suite

_INTRODUCTION = """\
# Keys of a suite file

A suite file is YAML (1.2 rules: truth values are `true` and `false`). Unknown keys, wrong types and missing files are
faults; `python -m harness validate SUITE` names all of them at once. Put
`# yaml-language-server: $schema=suite.schema.json` on top and an editor completes the keys.

Paths are relative to the suite file. A model or adapter path that starts with `.` or `/`, or that exists beside the
suite file, is a local folder; anything else is a hub name such as `organisation/name`.

Any value can be given on the command line as well: `-o models.base.dtype=bfloat16`, `-o sampling.temperature=0.7`,
`-o 'prompts=[my_prompts.jsonl]'`. The value is YAML. A path given so is looked for in the current folder first.

This page is generated from the types in `harness/suite.py` by `python -m harness.suite_schema`.
"""


def schema_text() -> str:
    """JSON Schema (2020-12) of a suite file, as indented JSON that ends in a newline."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Suite.model_json_schema()}
    schema["title"] = "Suite"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def reference_text() -> str:
    """Markdown reference of every key: one table for each section, in the order of the file."""
    parts = [_INTRODUCTION]
    _add_section(parts, "", Suite)
    return "\n".join(parts)


def _add_section(parts: list[str], path: str, section: type[Section]) -> None:
    title = f"`{path}`" if path else "Top level"
    lines = [
        f"## {title}",
        "",
        f"{section.__doc__}",
        "",
        "| key | value | default | meaning |",
        "| - | - | - | - |",
    ]
    inner: list[tuple[str, type[Section]]] = []
    for key, field in section.model_fields.items():
        found = _section_in(field.annotation)
        if found is not None:
            named = typing.get_origin(field.annotation) is dict
            inner.append((f"{path}.{key}".lstrip(".") + (".NAME" if named else ""), found))
        cells = (f"`{key}`", _value_words(field, found), _default_words(field), field.description or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    parts.append("\n".join(lines) + "\n")
    for inner_path, inner_section in inner:
        _add_section(parts, inner_path, inner_section)


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for argument in typing.get_args(annotation):
        if (found := _section_in(argument)) is not None:
            return found
    return None


def _value_words(field: FieldInfo, section: type[Section] | None) -> str:
    if section is not None:
        return "sections by name" if typing.get_origin(field.annotation) is dict else "section"
    limits = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below", MinLen: "length at least"}
    words = _type_words(field.annotation)
    for limit in field.metadata:
        if type(limit) in limits:
            bound = getattr(limit, type(limit).__slots__[0])
            words += f", {limits[type(limit)]} {bound}"
    return words


def _type_words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation == Name:
        return "name"
    if origin is Annotated:
        return _type_words(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return f"list of {_type_words(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type_words(arguments[1])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_words(argument) for argument in arguments if argument is not type(None))
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "`true` or `false`",
        JsonValue: "any value",
    }
    return names[annotation]


def _default_words(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if default is None or default == {} or isinstance(default, Section) or default in ("", ()):
        return ""
    plain = list(default) if isinstance(default, tuple) else default
    return f"`{plain if isinstance(plain, str) else json.dumps(plain)}`"


def write_all(root: Path) -> None:
    """Write the schema and the reference into a project folder."""
    (root / "suites" / "suite.schema.json").write_text(schema_text(), encoding="utf-8")
    (root / "docs" / "suite.md").write_text(reference_text(), encoding="utf-8")


if __name__ == "__main__":
    write_all(Path(__file__).parent.parent)
