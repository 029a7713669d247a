"""The errors a user can cause. Each is shown as one sentence and a hint, without a traceback."""

from __future__ import annotations

from dataclasses import dataclass


class HarnessError(Exception):
    """A fault the user can mend.

    `message` says what is wrong and where; `hint`, where there is one, says what to do next.
    `exit_status` is what the process ends with.
    """

    exit_status = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Fault:
    """One fault in an input file: where it is, what is wrong, and the nearest valid name if there is one."""

    file: str
    line: int | None
    key: str
    problem: str
    nearest: str | None = None

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        key = f" {self.key}:" if self.key else ""
        nearest = f" Did you mean '{self.nearest}'?" if self.nearest else ""
        return f"{where}:{key} {self.problem}{nearest}"


class InvalidInput(HarnessError):
    """A suite, prompt or data file with faults; all of them are collected before it is raised."""

    exit_status = 2

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


class NotAvailable(HarnessError):
    """Something asked for cannot be had here: a missing model, package, GPU or precision."""

    exit_status = 3


class StoreError(HarnessError):
    """The run folder could not be read or written: full disk, corrupt record, another writer."""

    exit_status = 4


class JobFailed(HarnessError):
    """A job's process ended in error; what it had finished is kept."""

    exit_status = 5


class PrecisionMismatch(HarnessError):
    """The precision that took effect is not the one the suite asked for."""

    exit_status = 6


class GatesFailed(HarnessError):
    """The run was made and its page written, and it does not meet the suite's gates."""

    exit_status = 7


class RunInterrupted(HarnessError):
    """The run was stopped by the user; the same command goes on where it stopped."""

    exit_status = 130


LONGEST_REASON = 300
"""Characters; libraries list every wrong tensor of a model."""


def reason_of(error: BaseException) -> str:
    """Return what a library's error says, for a sentence: its first line, and what follows where that ends in a colon.

    The kind of error where it says nothing.
    """
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if not lines[0].rstrip().endswith(":"):
        return lines[0].rstrip()
    whole = " ".join(" ".join(lines).split())
    return whole if len(whole) <= LONGEST_REASON else f"{whole[:LONGEST_REASON]} ..."
