"""One job after another on this machine, in the order of the plan; the first failure ends the run."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from harness.environment import describe_environment
from harness.errors import RunInterrupted
from harness.executors.desk import Desk
from harness.process import can_fork, run_in_process
from harness.records import Environment, Job
from harness.servers import ChildServers
from harness.suite_file import LoadedSuite


class LocalExecutor:
    """This machine."""

    def __init__(self, loaded: LoadedSuite) -> None:
        self.loaded = loaded
        self._environment = describe_environment()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open: every job's process ends with its job."""

    def environment(self) -> Environment:
        """Return this machine."""
        return self._environment

    def execute(self, jobs: Sequence[Job], desk: Desk) -> None:
        """Run each job in a process of its own, and the servers that jobs ask beside them."""
        with ChildServers(desk.dispatcher, desk.folder.path, desk.screen.note) as servers:
            self._execute(jobs, desk, servers)

    def _execute(self, jobs: Sequence[Job], desk: Desk, servers: ChildServers) -> None:
        preload = can_fork(self._environment.gpus, self.loaded.suite.models.values())
        for job in jobs:
            order = servers.ready(desk.order(job))
            with desk.begin(job) as open_job:
                try:
                    for message in run_in_process(order, preload=preload):
                        open_job.take(message)
                except KeyboardInterrupt as error:
                    sentence = f"Stopped during {job.id}."
                    raise RunInterrupted(sentence, "The same command goes on from here.") from error
