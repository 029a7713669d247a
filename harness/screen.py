"""What the user sees while a run goes on: one progress bar per job with the time left, and notes in between.

Model output is printed as plain text: control characters are shown, never obeyed, and markup is not interpreted.
"""

from __future__ import annotations

import unicodedata
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from harness.records import Job


class Screen:
    """Progress of the jobs of one run, on standard error. Use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task: TaskID | None = None
        self._streaming: str | None = None

    def __enter__(self) -> Screen:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def note(self, text: str, style: str = "") -> None:
        """Print one line above the bars."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def start_job(self, number: int, total: int, job: Job) -> None:
        """Begin a job's bar."""
        title = f"[{number}/{total}] {describe_job(job)}"
        if not self.console.is_terminal:
            self.note(title)
        self._task = self._bars.add_task(Text(title).plain.replace("[", r"\["), total=None, unit="")

    def progress(self, done: int, total: int, unit: str) -> None:
        """Move the current job's bar."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total, unit=unit)

    def stream(self, prompt_id: str, text: str, *, end: bool) -> None:
        """Print a piece of an answer; `end` says it is the last one."""
        if self._streaming != prompt_id:
            self.console.print(Text(f"{prompt_id}: ", style="bold"), end="")
        self.console.print(Text(printable(text)), end="\n" if end else "", soft_wrap=True)
        self._streaming = None if end else prompt_id

    def end_job(self, seconds: float) -> None:
        """Close the current job's bar."""
        if self._task is not None:
            self._bars.stop_task(self._task)
            self._task = None
        if not self.console.is_terminal:
            self.note(f"      done in {seconds:.1f} s")


def describe_job(job: Job) -> str:
    """Name a job for people."""
    parameters = job.parameters
    match job.kind:
        case "train":
            return f"train adapter {job.training}"
        case "generate":
            return f"answers of {job.model}" + (f", repeat {job.repeat + 1}" if job.repeat else "")
        case "throughput":
            dtype = f", {parameters['dtype']}" if "dtype" in parameters else ""
            return f"speed of {job.model}, batch {parameters['batch_size']}{dtype}"
        case "train_timing":
            return f"training speed of {job.model}, {parameters['dtype']}"
        case "lm_eval":
            return f"ability of {job.model}: {parameters['tasks']}"


def printable(text: str) -> str:
    """Replace control characters (terminal escapes among them) by their visible names."""
    return "".join(character if _is_harmless(character) else f"<U+{ord(character):04X}>" for character in text)


def _is_harmless(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf")
