"""What the user sees while a run goes on: one progress bar per job at work with the time left, and notes in between.

Model output is printed as plain text: control characters are shown, never obeyed, and markup is not interpreted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
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
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._titles: dict[str, str] = {}
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
        """Begin a job's bar. Several may be at work at once."""
        title = self._titles[job.id] = f"[{number}/{total}] {describe_job(job)}"
        if self.console.is_terminal:
            self._tasks[job.id] = self._bars.add_task(escape(title), total=None, state="starting", left="")
        else:
            self.note(title)

    def progress(self, job_id: str, done: int, total: int, unit: str) -> None:
        """Move a job's bar."""
        if job_id in self._tasks:
            state = f"{done}/{total} {unit}"
            self._bars.update(self._tasks[job_id], completed=done, total=total, state=state, left="left")

    def watch(self, title: str) -> Callable[[int, int], None]:
        """Begin a bar for work that is no job; return what moves it, given how much is done and how much there is."""
        if not self.console.is_terminal:
            self.note(title)
        task = self._bars.add_task(escape(title), total=None, state="starting", left="")

        def move(done: int, total: int) -> None:
            self._bars.update(task, completed=done, total=total, state=f"{done}/{total}", left="left")

        return move

    def stream(self, answer: str, text: str, *, end: bool) -> None:
        """Print a piece of an answer, which is named once; `end` says it is the last one."""
        if self._streaming != answer:
            self.console.print(Text(f"{answer}: ", style="bold"), end="")
        self.console.print(Text(printable(text)), end="\n" if end else "", soft_wrap=True)
        self._streaming = None if end else answer

    def end_job(self, job_id: str, seconds: float) -> None:
        """Put a line in the place of a finished job's bar."""
        title = self._titles[job_id]
        self.drop_job(job_id)
        self.note(f"{title}: done in {seconds:.1f} s")

    def drop_job(self, job_id: str) -> None:
        """Take away the bar of a job that is no longer at work."""
        self._titles.pop(job_id, None)
        if job_id in self._tasks:
            self._bars.remove_task(self._tasks.pop(job_id))


def describe_job(job: Job) -> str:
    """Name a job for people."""
    parameters = job.parameters
    match job.kind:
        case "make_weights":
            return f"random weights of {job.model}"
        case "train":
            return f"train adapter {job.training}"
        case "generate":
            return f"answers of {', '.join(job.models)}" + (f", repeat {job.repeat + 1}" if job.repeat else "")
        case "throughput":
            return f"speed of {job.model}{_precision(job)}"
        case "train_timing":
            return f"training speed of {job.model}{_precision(job)}"
        case "precision_answers":
            return f"answers of {job.model}{_precision(job)}"
        case "ceilings":
            return "what the machine can do"
        case "lm_eval":
            return f"ability of {job.model}: {parameters['tasks']}"


def _precision(job: Job) -> str:
    named = [job.parameters[key] for key in ("dtype", "quantization", "engine") if key in job.parameters]
    return "".join(f", {one}" for one in named if one not in ("none", "plain"))


def printable(text: str) -> str:
    """Replace control characters (terminal escapes among them) by their visible names."""
    return "".join(character if _is_harmless(character) else f"<U+{ord(character):04X}>" for character in text)


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number of things, e.g. `1 row` or `2 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _is_harmless(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf")
