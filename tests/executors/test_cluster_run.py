"""The order of a run on a cluster, with a cluster that loses, fails and refuses on command."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from harness.dispatch import Dispatcher
from harness.environment import describe_environment
from harness.errors import JobFailed, NotAvailable, StoreError
from harness.executors.cluster_run import JOBS_IN_QUEUE, LOSSES_ALLOWED, ClusterRun
from harness.executors.desk import Desk
from harness.executors.local import LocalExecutor
from harness.executors.needs import Needs
from harness.plan import make_plan
from harness.records import Job, RunHeader
from harness.screen import Screen, describe_job
from harness.store import RunFolder
from harness.suite_file import load_suite
from tests.executors.fake_cluster import FakeCluster, node
from tests.executors.suites import answers, scripted_suite

SMALL = Needs(gpus=0, cpus=1, memory_bytes=0)


class Run:
    """A run folder and what belongs to it."""

    def __init__(self, folder: Path, *, models: int = 2, extra: tuple[Job, ...] = ()) -> None:
        self.loaded = load_suite(scripted_suite(folder, models=models), ())
        environment = describe_environment()
        plan = make_plan(self.loaded, self.loaded.prompts, environment)
        self.jobs = (*plan.jobs, *extra)
        header = RunHeader(
            run_id="r",
            suite_name="small",
            suite_file="suite.yaml",
            suite=self.loaded.suite.model_dump(mode="json"),
            overrides=(),
            plan_hash=plan.plan_hash,
            started_at="2026-01-01T00:00:00+00:00",
            environment=environment,
            prompts=tuple(self.loaded.prompts),
            jobs=self.jobs,
        )
        self.folder = RunFolder.create(folder / "results", header)
        self.said = io.StringIO()
        screen = Screen(Console(file=self.said, width=1000))
        self.desk = Desk(self.folder, Dispatcher(self.loaded, plan, folder / "results"), self.jobs, screen)

    def on(self, cluster: FakeCluster, needs: Needs = SMALL) -> ClusterRun:
        left = [job for job in self.jobs if not self.desk.is_done(job)]
        return ClusterRun(left, {job.id: needs for job in left}, self.desk, cluster)

    def finish(self, cluster: FakeCluster) -> None:
        run = self.on(cluster)
        try:
            run.finish()
        finally:
            run.stop()

    def events(self, job: Job) -> list[str]:
        lines = self.folder.job_file(job.id).read_text(encoding="utf-8").splitlines()
        return [record["code"] for line in lines if (record := json.loads(line))["kind"] == "event"]


def timing(number: int) -> Job:
    return Job(
        id=f"throughput-m0-{number}", kind="throughput", model="m0", parameters={"engine": "plain", "batch_size": 1}
    )


def test_it_stores_what_the_local_executor_stores(tmp_path: Path) -> None:
    here, there = Run(tmp_path / "here"), Run(tmp_path / "there")
    LocalExecutor(here.loaded).execute(here.jobs, here.desk)
    there.finish(FakeCluster([node("a")]))
    assert answers(there.folder.path) == answers(here.folder.path)
    assert all(there.desk.is_done(job) for job in there.jobs)


def test_a_lost_job_goes_on_from_its_finished_batches(tmp_path: Path) -> None:
    run = Run(tmp_path)
    cluster = FakeCluster([node("a")], lose=lambda order, attempt: order.job.model == "m1" and attempt == 0)
    run.finish(cluster)
    again = [task.order for task in cluster.tasks if task.order.job.model == "m1"]
    assert [len(order.finished_batches) for order in again] == [0, 1]
    assert [len(rows) for rows in answers(run.folder.path).values()] == [6, 6]
    assert [run.events(job) for job in run.jobs] == [[], ["node_lost"]]
    assert "Done again: answers of m1 (node a died)." in run.said.getvalue()


def test_a_job_that_always_loses_its_node_fails_and_the_others_are_done(tmp_path: Path) -> None:
    run = Run(tmp_path)
    cluster = FakeCluster([node("a")], lose=lambda order, attempt: order.job.model == "m0")
    with pytest.raises(JobFailed, match=f"lost its node {LOSSES_ALLOWED + 1} times"):
        run.finish(cluster)
    assert [run.desk.is_done(job) for job in run.jobs] == [False, True]
    run.finish(FakeCluster([node("a")]))
    assert [len(rows) for rows in answers(run.folder.path).values()] == [6, 6]


def test_what_needs_a_failed_job_is_not_done_and_the_rest_is(tmp_path: Path) -> None:
    run = Run(tmp_path, models=4)
    first, second, third, fourth = run.jobs
    second = second.model_copy(update={"needs": (first.id,)})
    third = third.model_copy(update={"needs": (second.id,)})
    run.jobs = (first, second, third, fourth)
    with pytest.raises(JobFailed, match=f"{first.id} failed"):
        run.finish(FakeCluster([node("a")], fail=frozenset([first.id])))
    assert [run.desk.is_done(job) for job in run.jobs] == [False, False, False, True]
    assert f"Not done: {describe_job(third)}, which needs {describe_job(first)}." in run.said.getvalue()
    last = json.loads(run.folder.job_file(first.id).read_text(encoding="utf-8").splitlines()[-1])
    assert (last["state"], last["node"]) == ("failed", "a")


def test_a_job_waits_for_what_it_needs(tmp_path: Path) -> None:
    run = Run(tmp_path, models=3)
    first, second, third = run.jobs
    run.jobs = (first.model_copy(update={"needs": (third.id,)}), second, third)
    cluster = FakeCluster([node("a")])
    run.finish(cluster)
    assert [task.order.job.id for task in cluster.tasks] == [second.id, third.id, first.id]
    assert not any({first.id, third.id} <= set(look) for look in cluster.at_work)


def test_timings_come_last_one_at_a_time_alone_on_one_node(tmp_path: Path) -> None:
    run = Run(tmp_path, extra=(timing(1), timing(2), timing(3)))
    run.jobs = (*run.jobs[-3:], *run.jobs[:-3])
    cluster = FakeCluster([node("b"), node("a")])
    run.finish(cluster)
    assert [task.order.job.kind for task in cluster.tasks] == ["generate"] * 2 + ["throughput"] * 3
    timed = [look for look in cluster.at_work if any(job.startswith("throughput") for job in look)]
    assert timed and all(len(look) == 1 for look in timed)
    places = [task.placement.alone_on for task in cluster.tasks[2:]]
    assert [place and place.node.name for place in places] == ["a", "a", "a"]


def test_a_lost_timing_moves_on_to_another_node(tmp_path: Path) -> None:
    run = Run(tmp_path, models=1, extra=(timing(1),))
    cluster = FakeCluster([node("a"), node("b")])

    def lose(order: object, attempt: int) -> bool:
        if cluster.tasks[-1].order.job.kind == "throughput" and attempt == 0:
            cluster.living = [node("b")]
            return True
        return False

    cluster.lose = lose
    run.finish(cluster)
    places = [task.placement.alone_on for task in cluster.tasks if task.placement.alone_on]
    assert [place.node.name for place in places] == ["a", "b"]


def test_a_node_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    run = Run(tmp_path)
    cluster = FakeCluster([node("a"), node("b")], refuse=frozenset("a"))
    run.finish(cluster)
    done = [task for task in cluster.tasks if task.placement.avoid == {"a"}]
    assert len(done) == 2 and all(run.desk.is_done(job) for job in run.jobs)
    assert "A node is not used: node a: torch 1 for 2." in run.said.getvalue()


def test_no_node_of_the_right_kind_is_one_sentence(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(
        NotAvailable, match=r"No node of the cluster can do as planned: answers of m. \(node a: torch 1 for 2\)"
    ):
        run.finish(FakeCluster([node("a")], refuse=frozenset("a")))


def test_a_job_that_no_node_has_room_for_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    run = Run(tmp_path)
    cluster = FakeCluster([node("a", gpus=1)])
    with pytest.raises(NotAvailable, match="has room for answers of m0: it needs 2 GPUs, 1 processor core"):
        run.on(cluster, Needs(gpus=2, cpus=1, memory_bytes=0)).finish()
    assert cluster.tasks == []


def test_a_write_error_ends_everything_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, models=3)
    cluster = FakeCluster([node("a")])

    def full(*_: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr("harness.store.JobFile.append", full)
    with pytest.raises(StoreError, match="disk full"):
        run.finish(cluster)
    assert [task.cancelled for task in cluster.tasks] == [True, True, True]


def test_only_so_many_jobs_wait_in_the_cluster(tmp_path: Path) -> None:
    run = Run(tmp_path, models=JOBS_IN_QUEUE + 20)
    cluster = FakeCluster([node("a")], room=1)
    run.finish(cluster)
    assert max(len(look) for look in cluster.at_work) == JOBS_IN_QUEUE + 1
    assert all(run.desk.is_done(job) for job in run.jobs)
