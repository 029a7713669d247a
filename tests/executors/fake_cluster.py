"""A cluster of names: it does jobs at once in this process, one word at a time, and loses them when told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.errors import JobFailed
from harness.executors.cluster_run import ClusterNode, NodeLost, Placement, Task
from harness.executors.node import Node, NodeReport
from harness.orders import Finished, Message, WorkOrder
from harness.worker import work

Word = NodeReport | bytes | Exception


def node(name: str, gpus: float = 0, cpus: float = 4) -> ClusterNode:
    return ClusterNode(Node(id=name, name=name), gpus, cpus, 2**30)


def words_of(order: WorkOrder) -> list[Message]:
    """All that a job says; a timing says nothing but that it is done."""
    if order.job.kind != "generate":
        return [Finished()]
    messages: list[Message] = []
    work(order, messages.append)
    return messages


@dataclass
class FakeTask:
    order: WorkOrder
    placement: Placement
    words: Iterator[Word]
    cancelled: bool = False

    def hear(self) -> NodeReport | bytes | None:
        word = next(self.words, None)
        if isinstance(word, Exception):
            raise word
        return word

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeCluster:
    living: list[ClusterNode]
    lose: Callable[[WorkOrder, int], bool] = lambda order, attempt: False
    """Whether the node of this attempt (from 0) is lost in the middle of the job."""
    fail: frozenset[str] = frozenset()
    refuse: frozenset[str] = frozenset()
    """Nodes that are not what was planned for."""
    room: int = 10**6
    tasks: list[FakeTask] = field(default_factory=list)
    at_work: list[list[str]] = field(default_factory=list)
    """Ids of the jobs handed over and not done, at each look."""

    def nodes(self) -> list[ClusterNode]:
        return self.living

    def submit(self, order: WorkOrder, placement: Placement, *, with_parcels: bool) -> FakeTask:
        attempt = sum(task.order.job.id == order.job.id for task in self.tasks)
        task = FakeTask(order, placement, self._words(order, placement, attempt))
        self.tasks.append(task)
        return task

    def wait(self, tasks: Sequence[Task], seconds: float) -> Sequence[Task]:
        self.at_work.append([task.order.job.id for task in tasks if isinstance(task, FakeTask)])
        return list(tasks)[: self.room]

    def _words(self, order: WorkOrder, placement: Placement, attempt: int) -> Iterator[Word]:
        allowed = [one.node for one in self.living if one.node.id not in placement.avoid]
        here = placement.alone_on.node if placement.alone_on else allowed[0]
        if here.id in self.refuse:
            yield NodeReport(node=here, refused="torch 1 for 2")
            return
        yield NodeReport(node=here, started=True)
        messages = words_of(order)
        for number, message in enumerate(messages):
            if number == len(messages) // 2:
                if self.lose(order, attempt):
                    yield NodeLost(f"node {here.name} died")
                if order.job.id in self.fail:
                    yield JobFailed(f"{order.job.id} failed")
            yield NodeReport(node=here, messages=(message,))
