"""A growing file of records of one type: appended and synced line by line, read back without a torn last line."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from pydantic import ValidationError

from harness.errors import StoreError, reason_of
from harness.records import Record
from harness.store import JobFile, saving

RecordT = TypeVar("RecordT", bound=Record)


def read_lines(path: Path, kind: type[RecordT]) -> list[RecordT]:
    """Read the file's whole lines; none where there is no file. StoreError names file and line of a damaged one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{path}: could not be read: {error.strerror}.") from error
    whole = content[: content.rfind(b"\n") + 1]
    records = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            records.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise StoreError(f"{path}:{number}: damaged record: {reason_of(error)}") from error
    return records


class RecordLog(Generic[RecordT]):
    """Reads `path` when entered, then appends to it. The caller sees to it that only one process does."""

    def __init__(self, path: Path, kind: type[RecordT]) -> None:
        self._path = path
        self._kind = kind
        self.records: list[RecordT] = []

    def __enter__(self) -> RecordLog[RecordT]:
        self.records = read_lines(self._path, self._kind)
        _cut_torn_line(self._path)
        self._file = JobFile(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def append(self, record: RecordT) -> None:
        """Append one record and sync it to the disk; StoreError if that fails, with nothing half written."""
        self._file.append([record])
        self.records.append(record)


def _cut_torn_line(path: Path) -> None:
    """Remove what a kill left of a last line, so that the next record starts on a line of its own."""
    if not path.exists():
        return
    with saving(path), path.open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
