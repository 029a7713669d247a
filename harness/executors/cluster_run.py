"""The order of a run on a cluster: who is ready, who is at work, what is done again. Knows nothing of Ray."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.errors import HarnessError, JobFailed, NotAvailable, PrecisionMismatch
from harness.executors.desk import Desk, OpenJob
from harness.executors.needs import TIMINGS, Needs
from harness.executors.node import Node, NodeReport
from harness.executors.parcels import receive_adapter
from harness.orders import Records, WorkOrder
from harness.records import Event, Job
from harness.screen import describe_job

LOSSES_ALLOWED = 3
"""How often a job may lose its node before it counts as failed: it may be what brings the nodes down."""
JOBS_IN_QUEUE = 32
"""Jobs handed to the cluster beyond those at work: enough to fill what comes free and to call for more nodes, and few
enough that their prompts do not fill its memory."""
SECONDS_BETWEEN_LOOKS = 1.0
LOOKS_BEFORE_A_NOTE = 30


class NodeLost(Exception):
    """The cluster lost a job: its node, its worker, or what it had said. The text says which."""


@dataclass(frozen=True)
class ClusterNode:
    """A living node and all it has, free or not."""

    node: Node
    gpus: float
    cpus: float
    memory_bytes: float

    def has_room(self, needs: Needs) -> bool:
        """Say whether the job fits when nothing else is there."""
        room = (self.gpus, self.cpus, self.memory_bytes)
        return all(one >= need for one, need in zip(room, (needs.gpus, needs.cpus, needs.memory_bytes), strict=True))


@dataclass(frozen=True)
class Placement:
    """Where a job may go: anywhere but on some nodes, or alone on one."""

    needs: Needs
    avoid: frozenset[str] = frozenset()
    alone_on: ClusterNode | None = None


class Task(Protocol):
    """A job handed to the cluster."""

    def hear(self) -> NodeReport | bytes | None:
        """Return the next report, or a trained adapter, or None at the end. Raises NodeLost and HarnessError."""
        ...

    def cancel(self) -> None:
        """End it, with the job's process."""
        ...


class Cluster(Protocol):
    """The machines."""

    def nodes(self) -> list[ClusterNode]:
        """Return those alive."""
        ...

    def submit(self, order: WorkOrder, placement: Placement, *, with_parcels: bool) -> Task:
        """Hand a job over; it starts when there is room."""
        ...

    def wait(self, tasks: Sequence[Task], seconds: float) -> Sequence[Task]:
        """Return tasks that have something to say, none after so many seconds without a word."""
        ...


@dataclass
class _AtWork:
    job: Job
    task: Task
    open_job: OpenJob | None = None


@dataclass
class ClusterRun:
    """Jobs of one run on their way through a cluster."""

    jobs: Sequence[Job]
    needs: Mapping[str, Needs]
    desk: Desk
    cluster: Cluster
    _waiting: dict[str, Job] = field(init=False)
    _at_work: dict[str, _AtWork] = field(default_factory=dict, init=False)
    _failures: list[HarnessError] = field(default_factory=list, init=False)
    _losses: Counter[str] = field(default_factory=Counter, init=False)
    _refusals: dict[str, str] = field(default_factory=dict, init=False)
    _timing_node: ClusterNode | None = field(default=None, init=False)
    _with_parcels: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._waiting = {job.id: job for job in self.jobs}

    def finish(self) -> None:
        """Do all jobs but those that need a failed one, then raise the first failure if there was one."""
        self._check_room()
        quiet = 0
        while self._waiting or self._at_work:
            self._hand_out()
            tasks = {id(work.task): work for work in self._at_work.values()}
            heard = self.cluster.wait([work.task for work in tasks.values()], SECONDS_BETWEEN_LOOKS)
            for task in heard:
                self._hear(tasks[id(task)])
            at_rest = not heard and all(work.open_job is None for work in self._at_work.values())
            quiet = quiet + 1 if at_rest else 0
            if quiet == LOOKS_BEFORE_A_NOTE:
                self._say_what_is_waited_for()
        if self._failures:
            raise self._failures[0]

    def stop(self) -> None:
        """End what is at work. What it said so far is kept."""
        for work in self._at_work.values():
            work.task.cancel()
            if work.open_job:
                work.open_job.close()

    def _check_room(self) -> None:
        """Raise NotAvailable for a job that no node has room for, before anything is done."""
        nodes = self.cluster.nodes()
        for job in self.jobs:
            needs = self.needs[job.id]
            if not any(node.has_room(needs) for node in nodes):
                raise NotAvailable(
                    f"No node of the cluster has room for {describe_job(job)}: it needs {describe_needs(needs)}.",
                    "Start such a node first, or ask for less under `resources` in the suite.",
                )

    def _hand_out(self) -> None:
        """Hand over jobs that need nothing more; timings one by one when nothing else is left."""
        for job in self._ready():
            queued = sum(work.open_job is None for work in self._at_work.values())
            if queued >= JOBS_IN_QUEUE:
                return
            placement = self._placement(job) if job.id in self._waiting else None
            if placement is not None:
                del self._waiting[job.id]
                task = self.cluster.submit(self.desk.order(job), placement, with_parcels=self._with_parcels)
                self._at_work[job.id] = _AtWork(job, task)

    def _ready(self) -> list[Job]:
        unfinished = self._waiting.keys() | self._at_work.keys()
        timings = [job for job in self._waiting.values() if job.kind in TIMINGS]
        if len(timings) == len(self._waiting):
            return timings[:1] if not self._at_work else []
        ready = [job for job in self._waiting.values() if not unfinished & set(job.needs)]
        return [job for job in ready if job.kind not in TIMINGS]

    def _placement(self, job: Job) -> Placement | None:
        """Return where the job may go; None while there is no such node. A job that can go nowhere fails."""
        needs = self.needs[job.id]
        rooms = [one for one in self.cluster.nodes() if one.has_room(needs)]
        allowed = [one for one in rooms if one.node.id not in self._refusals]
        if rooms and not allowed:
            reasons = "; ".join(sorted({self._refusals[one.node.id] for one in rooms})[:3])
            del self._waiting[job.id]
            sentence = f"No node of the cluster can do as planned: {describe_job(job)} ({reasons})."
            self._fail(job, NotAvailable(sentence))
            return None
        if job.kind not in TIMINGS:
            return Placement(needs, avoid=frozenset(self._refusals))
        if self._timing_node not in allowed:
            self._timing_node = min(allowed, key=lambda one: (one.gpus, one.node.name), default=None)
            if self._timing_node:
                self.desk.screen.note(f"Timings follow, one at a time, alone on node {self._timing_node.node.name}.")
        return Placement(needs, alone_on=self._timing_node) if self._timing_node else None

    def _hear(self, work: _AtWork) -> None:
        try:
            word = work.task.hear()
            if isinstance(word, bytes):
                receive_adapter(word, self.desk.dispatcher.training_folder(work.job.training or ""))
            elif word is not None:
                self._take(work, word)
            elif work.open_job and work.open_job.finished:
                self._close(work)
            else:
                raise JobFailed(f"Job {work.job.id} ended without a last word.")
        except NodeLost as loss:
            self._do_again(work, str(loss))
        except (NotAvailable, JobFailed, PrecisionMismatch) as error:
            if work.open_job:
                work.open_job.fail(error)
            self._close(work)
            self._fail(work.job, error)

    def _take(self, work: _AtWork, report: NodeReport) -> None:
        if report.refused:
            self._refusals[report.node.id] = reason = f"node {report.node.name}: {report.refused}"
            self.desk.screen.note(f"A node is not used: {reason}.", style="yellow")
            self._put_back(work)
        elif report.wants_parcels:
            self._with_parcels = True
            self._put_back(work)
        elif report.started:
            work.open_job = self.desk.begin(work.job, report.node.name)
            if self._losses[work.job.id]:
                work.open_job.take(Records(records=(self._loss_event(work.job),)))
        elif report.log:
            with contextlib.suppress(OSError), self.desk.folder.log_file(work.job.id).open("a") as log:
                log.write(report.log)
        elif work.open_job:
            for message in report.messages:
                work.open_job.take(message)

    def _do_again(self, work: _AtWork, loss: str) -> None:
        """Put a lost job back; its finished batches count."""
        self._losses[work.job.id] += 1
        if work.open_job and work.open_job.finished:  # only the goodbye was lost
            self._close(work)
        elif self._losses[work.job.id] > LOSSES_ALLOWED:
            error = JobFailed(
                f"Job {work.job.id} lost its node {self._losses[work.job.id]} times; the last time: {loss}",
                "It may need more memory than the node has: see `resources` in docs/scale.md.",
            )
            if work.open_job:
                work.open_job.fail(error)
            self._close(work)
            self._fail(work.job, error)
        else:
            self.desk.screen.note(f"Done again: {describe_job(work.job)} ({loss}).", style="yellow")
            self._put_back(work)

    def _loss_event(self, job: Job) -> Event:
        message = f"The job lost its node {self._losses[job.id]} times and went on, from its finished batches if any."
        data = {"losses": self._losses[job.id]}
        return Event(job_id=job.id, level="info", code="node_lost", message=message, data=data)

    def _put_back(self, work: _AtWork) -> None:
        self._close(work)
        self._waiting = {work.job.id: work.job, **self._waiting}

    def _close(self, work: _AtWork) -> None:
        del self._at_work[work.job.id]
        if work.open_job:
            work.open_job.close()

    def _fail(self, job: Job, error: HarnessError) -> None:
        """Note a failure; jobs that need this one are not done."""
        self._failures.append(error)
        self.desk.screen.note(f"failed: {error.message}", style="red")
        missing = {job.id}
        while orphans := [one for one in self._waiting.values() if missing & set(one.needs)]:
            for orphan in orphans:
                missing.add(orphan.id)
                del self._waiting[orphan.id]
                sentence = f"Not done: {describe_job(orphan)}, which needs {describe_job(job)}."
                self.desk.screen.note(sentence, style="yellow")

    def _say_what_is_waited_for(self) -> None:
        jobs = len(self._at_work) + len(self._waiting)
        self.desk.screen.note(
            f"{jobs} jobs wait for the cluster, which has {len(self.cluster.nodes())} nodes. "
            "Others may be using it, or nodes were lost.",
            style="yellow",
        )


def describe_needs(needs: Needs) -> str:
    """Name what a job needs, for people."""
    memory = f", {needs.memory_bytes / 2**30:g} GiB of memory" if needs.memory_bytes else ""
    cores = "1 processor core" if needs.cpus == 1 else f"{needs.cpus:g} processor cores"
    return f"{needs.gpus:g} GPUs, {cores}{memory}"
