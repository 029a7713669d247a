"""Where the words of the jobs arrive: each job's records go to its file, its progress to the screen.

The run's process has the only desk of a run, so that a run folder has one writer however many jobs are at work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from harness.dispatch import Dispatcher
from harness.errors import HarnessError, JobFailed, NotAvailable, PrecisionMismatch, StoreError
from harness.orders import Failed, Finished, Message, Progress, Records, Streamed, WorkOrder
from harness.records import ADAPTER_FROM_CACHE, PRECISION_LEFT_OUT, Event, Job, JobStatus
from harness.screen import Screen
from harness.store import JobFile, RunFolder

TOLD = (ADAPTER_FROM_CACHE, PRECISION_LEFT_OUT)
"""Events that are no warning, and explain why a job was done so soon."""


class Desk:
    """Hands out the work orders of one run and takes in what the jobs say."""

    def __init__(self, folder: RunFolder, dispatcher: Dispatcher, jobs: Sequence[Job], screen: Screen) -> None:
        self.folder = folder
        self.dispatcher = dispatcher
        self.screen = screen
        self._numbers = {job.id: number for number, job in enumerate(jobs, start=1)}

    def is_done(self, job: Job) -> bool:
        """Say whether a job is done; a finished file that was damaged since is redone, not trusted."""
        try:
            return self.folder.is_done(job.id)
        except StoreError as error:
            self.screen.note(f"{error.message} The job is done again; the damaged file is kept aside.", style="yellow")
            return False

    def order(self, job: Job) -> WorkOrder:
        """Return what the job's process needs to know; what it had finished before counts as done."""
        finished_batches = self.folder.prepare_to_resume(job)
        return self.dispatcher.order(job, self.folder.log_file(job.id), finished_batches)

    def begin(self, job: Job, node: str | None = None) -> OpenJob:
        """Open the job's file and its line on the screen. Use as a context manager, or close it."""
        self.screen.start_job(self._numbers[job.id], len(self._numbers), job)
        return OpenJob(job, node, JobFile(self.folder.job_file(job.id)), self.screen)


class OpenJob:
    """A job at work, on a node of a cluster or on this machine."""

    def __init__(self, job: Job, node: str | None, file: JobFile, screen: Screen) -> None:
        self.job = job
        self.node = node
        self.finished = False
        self._file = file
        self._screen = screen
        self._started = time.monotonic()

    def take(self, message: Message) -> None:
        """Show a message and store its records; `Finished` writes the 'done' line, `Failed` raises its error."""
        if isinstance(message, Failed):
            raise as_error(message)
        show(message, self.job, self._screen)
        if isinstance(message, Records):
            self._file.append(message.records)
        elif isinstance(message, Finished):
            self._file.finish(JobStatus(job_id=self.job.id, state="done", seconds=self._seconds, node=self.node))
            self.finished = True
            self._screen.end_job(self.job.id, self._seconds)

    def close(self) -> None:
        """Close the file. What the job said so far is kept."""
        if not self.finished:
            self._screen.drop_job(self.job.id)
        self._file.close()

    def __enter__(self) -> OpenJob:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, NotAvailable | JobFailed | PrecisionMismatch):
            self.fail(error)
        self.close()

    def fail(self, error: HarnessError) -> None:
        """Write down that the job ended in an error."""
        seconds, error_text = self._seconds, error.message
        status = JobStatus(job_id=self.job.id, state="failed", seconds=seconds, error=error_text, node=self.node)
        self._file.append([status])

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started


def show(message: Message, job: Job, screen: Screen) -> None:
    """Put a message on the screen."""
    match message:
        case Progress():
            screen.progress(job.id, message.done, message.total, message.unit)
        case Streamed():
            screen.stream(f"{message.model} {message.prompt_id}", message.text, end=message.end)
        case Records():
            for record in message.records:
                if isinstance(record, Event) and (record.level == "warning" or record.code in TOLD):
                    screen.note(record.message, style="yellow" if record.level == "warning" else "")


def as_error(failed: Failed) -> HarnessError:
    """Turn a job's last word back into the kind of error it was."""
    kinds = {kind.__name__: kind for kind in (NotAvailable, PrecisionMismatch)}
    return kinds.get(failed.error, JobFailed)(failed.message, failed.hint)
