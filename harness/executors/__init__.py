"""Where the jobs of a plan run: one after another on this machine (`local`), or on a Ray cluster (`ray`).

Either way a job has a process of its own, and this process alone writes the run folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from harness.executors.desk import Desk
from harness.records import Environment, Job
from harness.suite_file import LoadedSuite

ExecutorName = Literal["local", "ray"]


class Executor(AbstractContextManager["Executor"], Protocol):
    """Runs jobs. Closed at the end of its `with` block, whatever happened."""

    def environment(self) -> Environment:
        """Return the machine and versions that a job finds; job identities are made of it."""
        ...

    def execute(self, jobs: Sequence[Job], desk: Desk) -> None:
        """Do the jobs, those that others need before these, and give the desk all they say.

        Raises the error of a job that failed and RunInterrupted on Ctrl-C. What was finished is kept either way.
        """
        ...


def open_executor(name: ExecutorName, loaded: LoadedSuite, *, stream: bool) -> Executor:
    """Return the executor of that name. NotAvailable where its package is missing or no cluster can be reached."""
    if name == "ray":
        from harness.executors.ray import RayExecutor
        from harness.servers import refuse_elsewhere

        refuse_elsewhere(loaded, "a Ray cluster")
        return RayExecutor(loaded, stream=stream)
    from harness.executors.local import LocalExecutor

    return LocalExecutor(loaded)
