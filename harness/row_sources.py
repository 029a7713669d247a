"""Rows as they stand in a data file or in a data set of `datasets`: plain values, unchecked."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import Fault, InvalidInput, NotAvailable, reason_of
from harness.suite_yaml import read_text, shown

LinedRow = tuple[int | None, Any]
"""A row as it was read and its line, where the format has lines."""


def read_file(path: Path) -> Iterator[LinedRow]:
    """Read the rows of a JSON, JSONL, CSV or Parquet file; raises InvalidInput with the line where it is none."""
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        problem = f"the file must be one of {', '.join(sorted(readers))}."
        raise InvalidInput([Fault(shown(path), None, "", problem)])
    return reader(path)


def _read_jsonl(path: Path) -> Iterator[LinedRow]:
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if text.strip():
            try:
                yield line, json.loads(text)
            except json.JSONDecodeError as error:
                raise InvalidInput([Fault(shown(path), line, "", f"this line is not JSON: {error.msg}.")]) from None


def _read_json(path: Path) -> Iterator[LinedRow]:
    """Read a list of rows one by one, so that each row's line is known."""
    text = read_text(path)
    decoder = json.JSONDecoder()
    position, line = _skip_space(text, 0, 1)
    if text[position : position + 1] != "[":
        problem = "the file must hold a list of rows; one row per line belongs in a .jsonl file."
        raise InvalidInput([Fault(shown(path), line, "", problem)])
    position, line = _skip_space(text, position + 1, line)
    while text[position : position + 1] != "]":
        try:
            row, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise InvalidInput([Fault(shown(path), error.lineno, "", f"this is not JSON: {error.msg}.")]) from None
        yield line, row
        line += text.count("\n", position, end)
        position, line = _skip_space(text, end, line)
        if text[position : position + 1] == ",":
            position, line = _skip_space(text, position + 1, line)
        elif text[position : position + 1] != "]":
            raise InvalidInput([Fault(shown(path), line, "", "a ',' or ']' is missing after this row.")])


def _skip_space(text: str, position: int, line: int) -> tuple[int, int]:
    """Return the position of the next character that is no space, and its line."""
    end = position
    while end < len(text) and text[end].isspace():
        end += 1
    return end, line + text.count("\n", position, end)


def _read_csv(path: Path) -> Iterator[LinedRow]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    line = 2
    try:
        names = list(reader.fieldnames or ())
        if twice := [name for index, name in enumerate(names) if name in names[:index]]:
            raise InvalidInput([Fault(shown(path), 1, twice[0], "two columns have this name.")])
        for row in reader:
            if None in row:
                problem = "the row has more fields than the first line; a field with a comma needs double quotes."
                raise InvalidInput([Fault(shown(path), line, "", problem)])
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput([Fault(shown(path), line, "", f"this is not CSV: {error}.")]) from None


def _read_parquet(path: Path) -> Iterator[LinedRow]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        table = pyarrow.parquet.read_table(path)
    except FileNotFoundError:
        raise InvalidInput([Fault(shown(path), None, "", "there is no such file.")]) from None
    except pyarrow.ArrowException as error:
        problem = f"the file is not Parquet: {reason_of(error)}"
        raise InvalidInput([Fault(shown(path), None, "", problem)]) from None
    for row in table.to_pylist():
        yield None, row


def read_hub(
    place: str,
    *,
    revision: str | None = None,
    subset: str | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Read a data set by its hub name, or a local folder of the same shape, with `datasets`.

    `HF_HUB_OFFLINE=1` keeps it to what is in the local cache. Where no split is named there must be only one.
    Raises `NotAvailable` with the reason where it cannot be had.
    """
    import datasets

    # `datasets` caches a hub's data by commit, but a local folder's by name alone: that would go stale.
    with tempfile.TemporaryDirectory() as temporary:
        cache = temporary if Path(place).is_dir() else None
        try:
            table = datasets.load_dataset(place, subset, revision=revision, split=split, cache_dir=cache)
        except (OSError, ValueError, ImportError, datasets.exceptions.DatasetsError) as error:
            reason = reason_of(error)
            raise NotAvailable(f"{place}: the data set could not be loaded: {reason}") from error
        if split is None:
            if len(table) != 1:
                raise NotAvailable(f"{place}: the data set has the splits {', '.join(table)}.", "Name one of them.")
            (table,) = table.values()
        rows: list[dict[str, Any]] = table.select(range(min(limit or len(table), len(table)))).to_list()
        return rows
