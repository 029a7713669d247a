"""One row of somebody else's table: columns by any of the names they go by, drafts of prompts, reasons to leave out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import Fault, InvalidInput
from harness.records import Expected
from harness.suite_yaml import nearest


class LeftOut(Exception):
    """The row is no prompt of the set; the text says why, and rows left out are counted by it."""


@dataclass(frozen=True)
class SourceRow:
    """A row and where it stands. `line` is None where the format has no lines; `number` counts rows from 1."""

    values: Mapping[str, Any]
    file: str
    line: int | None
    number: int

    def has(self, *names: str) -> bool:
        """Whether one of the columns is there."""
        return any(name in self.values for name in names)

    def text(self, *names: str) -> str:
        """The text of the first of these columns that is there, without space around it; empty where it is null.

        Raises `InvalidInput` where none of the columns is there, and where the value is no text or number.
        """
        for name in names:
            if name in self.values:
                return self._as_text(name, self.values[name])
        raise InvalidInput([missing_column(names, list(self.values), self.file, self.line)])

    def optional(self, *names: str) -> str:
        """The text of the first of these columns that is there, or nothing."""
        return self.text(*names) if self.has(*names) else ""

    def with_inner(self, paths: Iterable[str]) -> SourceRow:
        """The row with what lies inside its values as columns of their own, by dotted paths: messages.0.content."""
        inner = {path: found for path in paths for found in _inside(self.values, path.split("."))}
        return replace(self, values={**inner, **self.values})

    def _as_text(self, name: str, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, list) and len(value) == 1:  # a conversation of one turn
            return self._as_text(name, value[0])
        if isinstance(value, str | int | float):
            return str(value).strip()
        problem = f"must be text; it is of type {type(value).__name__}."
        raise InvalidInput([Fault(self.file, self.line, self._place(name), problem)])

    def _place(self, name: str) -> str:
        return name if self.line is not None else f"row {self.number} {name}"


def _inside(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """What lies at a path of keys and positions, if anything does."""
    if not path:
        yield value
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _inside(value[path[0]], path[1:])
    elif isinstance(value, list) and path[0].isdecimal() and int(path[0]) < len(value):
        yield from _inside(value[int(path[0])], path[1:])


def missing_column(names: Sequence[str], given: Sequence[str], file: str, line: int | None) -> Fault:
    """One sentence: the column that is missing, the columns there are, and the nearest of them."""
    wanted = names[0] if len(names) == 1 else f"{names[0]} (or {', '.join(names[1:])})"
    close = next((found for name in names if (found := nearest(name, given))), None)
    return Fault(file, line, wanted, f"the column is missing; there are {', '.join(given) or 'no columns'}.", close)


@dataclass(frozen=True)
class Draft:
    """A prompt before it has an id. Two drafts that expect the opposite and share a `twin` key are a pair."""

    text: str
    category: str
    expected: Expected
    own_id: str = ""
    twin: str = ""


Reader = Callable[[SourceRow], Draft]
"""Makes a draft of a row, or raises LeftOut."""


def expected_by(labels: Mapping[str, Expected], label: str) -> Expected:
    """What a label of the source expects; LeftOut for a label that is not among them."""
    if label not in labels:
        raise LeftOut(f"the label is '{label}'" if label else "there is no label")
    return labels[label]
