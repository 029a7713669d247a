"""The run folder: what is written, when it is safe, and how it is read back.

    results/<suite>/<run_id>/
        run.json                      the header, written once
        jobs/<job_id>/records.jsonl   append-only; the last line of a finished job is its 'done' status
        jobs/<job_id>/log.txt         what the job's libraries printed
        grades/<grader>@<version>.jsonl
        summary.json, report.html

Every append is flushed and synced before it counts. A torn last line (a kill, a full disk) is dropped on reading.
A finished job's file carries a hash of itself, so damage is noticed. One process writes a run folder at a time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TypeGuard

from pydantic import ValidationError

from harness.errors import StoreError, reason_of
from harness.records import (
    REQUESTS_FAILED,
    SCHEMA_VERSION,
    Event,
    Generation,
    Job,
    JobRecord,
    JobStatus,
    Record,
    RunHeader,
    job_record_adapter,
)


def new_run_id(now: datetime | None = None) -> str:
    """Return an id that sorts by start time (UTC) and does not collide: '20261123-184500-3f9a'."""
    moment = now or datetime.now(UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn a failed write into one sentence that names the file and the reason."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "make room and give the same command again" if full else "name a folder that can be written to"
        reason = f"{path}: could not be written: {error.strerror or error}."
        raise StoreError(reason, hint=f"What was finished before is kept; {advice}.") from error


def write_atomically(path: Path, content: str) -> None:
    """Write `content` so that a reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with saving(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


class JobFile:
    """Appends one job's records. Use as a context manager; `finish` writes the 'done' line last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with saving(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._digest = hashlib.sha256(path.read_bytes())

    def __enter__(self) -> JobFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was appended stays."""
        os.close(self._descriptor)

    def append(self, records: Iterable[Record]) -> None:
        """Append the records as one write and sync. On failure the file is cut back to where it was."""
        block = "".join(record.model_dump_json() + "\n" for record in records).encode()
        before = os.fstat(self._descriptor).st_size
        with saving(self.path):
            try:
                written = 0
                while written < len(block):
                    written += os.write(self._descriptor, block[written:])
                os.fsync(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, before)
                raise
        self._digest.update(block)

    def finish(self, status: JobStatus) -> None:
        """Append the status line; a 'done' status gets the hash of everything before it."""
        self.append([status.model_copy(update={"records_sha256": self._digest.hexdigest()})])


@dataclass(frozen=True)
class RunFolder:
    """One run's folder. Reading needs no lock; writing happens inside `exclusive()`."""

    path: Path

    @classmethod
    def create(cls, results: Path, header: RunHeader) -> RunFolder:
        """Make the folder and write its header."""
        folder = cls(results / header.suite_name / header.run_id)
        with saving(folder.path):
            folder.path.mkdir(parents=True)
        write_atomically(folder.path / "run.json", header.model_dump_json(indent=1) + "\n")
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder; StoreError if it is none, with the newest run where it is a suite's folder."""
        if (path / "run.json").is_file():
            return cls(path)
        if not path.is_dir():
            raise StoreError(f"{path}: there is no such folder.", "A run folder is results/SUITE/RUN_ID.")
        newest = max((run.parent.name for run in path.glob("*/run.json")), default=None)
        hint = f"It is a folder of runs, of which the newest is {path / newest}." if newest else None
        raise StoreError(f"{path}: not a run folder (it has no run.json).", hint)

    def header(self) -> RunHeader:
        """Read the header; StoreError names the file if it is damaged or of another version."""
        path = self.path / "run.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content.get("schema_version") if isinstance(content, dict) else None
            if version != SCHEMA_VERSION:
                raise StoreError(f"{path}: schema version {version} where this harness reads {SCHEMA_VERSION}.")
            return RunHeader.model_validate(content)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: the run header cannot be read: {reason_of(error)}") from error

    def job_file(self, job_id: str) -> Path:
        """Return where the job's records are."""
        return self.path / "jobs" / job_id / "records.jsonl"

    def log_file(self, job_id: str) -> Path:
        """Return where the job's printed output is."""
        return self.path / "jobs" / job_id / "log.txt"

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder's lock; StoreError if another process writes this run."""
        with exclusive_lock(self.path / ".lock", f"{self.path}: another process is writing this run"):
            yield

    def records(self, job_id: str) -> tuple[JobRecord, ...]:
        """Read a job's whole lines. StoreError (file and line) where one is damaged."""
        return read_records(self.job_file(job_id))

    def is_done(self, job_id: str) -> bool:
        """Say whether the job's file ends with an intact 'done' line; StoreError if it is damaged.

        A job with failed requests that may pass is left to do, though all its other records stand.
        """
        path = self.job_file(job_id)
        return path.exists() and _is_done(self.records(job_id))

    def prepare_to_resume(self, job: Job) -> frozenset[int]:
        """Bring an unfinished job's file to a state that can be appended to; return the batches it already holds.

        Only whole batches without a failed request are kept. A file that is damaged, or whose work cannot be resumed
        part-way (everything but generation), is set aside under another name, so that nothing is lost.
        """
        path = self.job_file(job.id)
        if not path.exists():
            return frozenset()
        try:
            records = read_records(path)
        except StoreError:
            records = ()
        if job.kind != "generate" or not records or _has_ended(records) and not _may_improve(records):
            self._set_aside(path)
            return frozenset()
        answered = {(record.batch, record.prompt_id, record.model) for record in records if _is_answer(record)}
        whole = frozenset(
            number
            for number, batch in enumerate(job.batches)
            if all((number, prompt, model) in answered for prompt in batch for model in job.models)
        )
        kept = [
            record
            for record in records
            if isinstance(record, Event)
            and record.code != REQUESTS_FAILED
            or isinstance(record, Generation)
            and record.batch in whole
        ]
        write_atomically(path, "".join(record.model_dump_json() + "\n" for record in kept))
        return whole

    def _set_aside(self, path: Path) -> None:
        number = 1
        while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
            number += 1
        with saving(path):
            path.replace(aside)


def read_records(path: Path) -> tuple[JobRecord, ...]:
    """Read the whole lines of a job's file, without a torn last one.

    StoreError names file and line where a line is damaged, or the file where its hash does not fit.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: could not be read: {error.strerror}.") from error
    whole = content[: content.rfind(b"\n") + 1]
    records = []
    for number, line in enumerate(whole.splitlines(keepends=True), start=1):
        try:
            record = job_record_adapter.validate_json(line)
        except ValidationError as error:
            sentence = f"{path}:{number}: damaged record: {_problem(error)}"
            raise StoreError(sentence, "The command that made the run does this job again.") from error
        records.append(record)
    if records and isinstance(last := records[-1], JobStatus) and last.records_sha256 is not None:
        before = whole[: whole.rstrip(b"\n").rfind(b"\n") + 1]
        if hashlib.sha256(before).hexdigest() != last.records_sha256:
            raise StoreError(f"{path}: its contents were changed after it was finished (hash mismatch).")
    return tuple(records)


@contextlib.contextmanager
def exclusive_lock(path: Path, taken: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an advisory lock on `path`; StoreError `taken` if another process has it and `wait` is off."""
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip()
            raise StoreError(
                f"{taken}{f' (process {owner})' if owner else ''}.",
                hint="Wait for it, or start a run of its own with --new.",
            ) from error
        file.truncate(0)
        with contextlib.suppress(OSError):  # the owner's number is a courtesy; a full disk must not stop reading
            file.write(str(os.getpid()))
            file.flush()
        yield


def find_runs(results: Path) -> list[RunFolder]:
    """List all run folders under `results`, oldest first."""
    return [RunFolder(path.parent) for path in sorted(results.glob("*/*/run.json"), key=lambda path: path.parent.name)]


def find_unfinished(results: Path, suite_name: str, plan_hash: str) -> RunFolder | None:
    """Return the newest run of the same plan that has jobs left to do or no page yet."""
    for folder in reversed(find_runs(results)):
        if folder.path.parent.name != suite_name:
            continue
        try:
            header = folder.header()
            if header.plan_hash == plan_hash and not _finished(folder, header):
                return folder
        except StoreError:
            continue  # a damaged old run is nobody's to resume; it stays as it is
    return None


def _finished(folder: RunFolder, header: RunHeader) -> bool:
    try:
        return (folder.path / "report.html").exists() and all(folder.is_done(job.id) for job in header.jobs)
    except StoreError:
        return False


def _is_answer(record: JobRecord) -> TypeGuard[Generation]:
    return isinstance(record, Generation) and record.error is None


def _is_done(records: tuple[JobRecord, ...]) -> bool:
    return _has_ended(records) and not _may_improve(records)


def _has_ended(records: tuple[JobRecord, ...]) -> bool:
    return bool(records) and isinstance(last := records[-1], JobStatus) and last.state == "done"


def _may_improve(records: tuple[JobRecord, ...]) -> bool:
    """Say whether a request failed for a reason that may have passed by now."""
    return any(isinstance(record, Generation) and record.may_pass for record in records)


def _problem(error: ValidationError) -> str:
    """Say what is wrong first: the kind of record and its field, where that is known."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
