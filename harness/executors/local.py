"""One job after another on this machine, in the order of the plan; the first failure ends the run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import TracebackType

from harness.environment import describe_environment
from harness.errors import RunInterrupted
from harness.executors.desk import Desk, as_error
from harness.orders import Failed, WorkOrder
from harness.process import can_fork, run_in_process
from harness.records import Environment, Job
from harness.servers import ChildServers
from harness.suite_file import LoadedSuite
from harness.workloads.device import refused_on_cpu


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
        if not self._environment.gpus:
            _check_device_before_jobs(jobs, desk, preload=preload)
        _load_tasks_before_training(jobs, desk, preload=preload)
        for job in jobs:
            order = servers.ready(desk.order(job))
            with desk.begin(job) as open_job, _goes_on(f"during {job.id}"):
                for message in run_in_process(order, preload=preload):
                    open_job.take(message)


def _check_device_before_jobs(jobs: Sequence[Job], desk: Desk, *, preload: bool) -> None:
    """Raise the NotAvailable of the first job that this machine without a GPU cannot do in its dtype or quantization.

    It would otherwise be known only when the jobs before it are over. Torch has the last word, in a process of its own:
    it may see a GPU that NVML does not show.
    """
    orders = (desk.dispatcher.order(job, desk.folder.log_file(job.id)) for job in jobs)
    refused = next(filter(refused_on_cpu, orders), None)
    if refused:
        _ask(refused.model_copy(update={"only": "check_device"}), "before the first job", preload=preload)


def _load_tasks_before_training(jobs: Sequence[Job], desk: Desk, *, preload: bool) -> None:
    """Load the data of lm-eval's tasks, in a process of its own, where a training comes before the job that needs them.

    NotAvailable where they cannot be had, which would otherwise be known only when the training is over. Adapters in
    the cache cost no time, so nothing is loaded for these.
    """
    tested = next((job for job in jobs if job.kind == "lm_eval"), None)
    to_train = [job.training for job in jobs if job.training]
    if tested is None or all(desk.dispatcher.training_folder(name).exists() for name in to_train):
        return
    desk.screen.note("Before the training: whether the data of lm-eval's tasks can be had")
    order = desk.dispatcher.order(tested, desk.folder.log_file(tested.id))
    _ask(order.model_copy(update={"only": "load_tasks"}), "before the training", preload=preload)


def _ask(order: WorkOrder, when: str, *, preload: bool) -> None:
    """Raise the error that the order's process ends with, if any; what else it says is not kept."""
    with _goes_on(when):
        for message in run_in_process(order, preload=preload):
            if isinstance(message, Failed):
                raise as_error(message)


@contextlib.contextmanager
def _goes_on(when: str) -> Iterator[None]:
    """Turn Ctrl-C into the error that says so; the run can be taken up again."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise RunInterrupted(f"Stopped {when}.", "The same command goes on from here.") from error
