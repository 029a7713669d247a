"""Jobs on a Ray cluster: placed by what they need, several at once, done again where a node was lost.

The only module that imports ray. The run's process hands out jobs and writes what comes back; a task of the cluster
starts each job in a process of its own (`node`).
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.adapter_cache import CachedAdapter, lookup
from harness.environment import describe_environment, read_gpus
from harness.errors import HarnessError, JobFailed, NotAvailable, RunInterrupted, reason_of
from harness.executors.cluster_run import ClusterNode, ClusterRun, NodeLost, Placement, Task
from harness.executors.desk import Desk
from harness.executors.needs import gpus_of_plan, needs_of, wants_gpus
from harness.executors.node import (
    Assignment,
    Node,
    NodeReport,
    cache_entry,
    do_assignment,
    places_to_send,
    prepare_worker,
)
from harness.executors.parcels import pack
from harness.orders import WorkOrder
from harness.plan import code_hash
from harness.records import Environment, GpuInfo, Job
from harness.store import saving
from harness.suite_file import LoadedSuite

SECONDS_TO_CONNECT = 10


class RayExecutor:
    """A Ray cluster: the one in RAY_ADDRESS, else one that runs on this machine, else one made of this machine."""

    def __init__(self, loaded: LoadedSuite, *, stream: bool) -> None:
        if stream:
            raise NotAvailable("--stream shows one job at a time; leave it out with --executor ray.")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise NotAvailable(
                "--executor ray needs the package ray, which is not installed.",
                "pip install 'korean-lora-harness[ray]', here and on every node.",
            ) from error
        self.ray: Any = ray
        self.loaded = loaded
        self._code = code_hash()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> RayExecutor:
        _check_address(os.environ.get("RAY_ADDRESS", ""))
        # Ray prints news of its own to standard output, where this program's only line is the page's path.
        self._open.enter_context(contextlib.redirect_stdout(self._open.enter_context(Path(os.devnull).open("w"))))
        try:
            self.ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            self._open.close()
            reason = reason_of(error)
            raise NotAvailable(f"The Ray cluster could not be reached: {reason}", "See docs/scale.md.") from error
        self._open.callback(self.ray.shutdown)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def environment(self) -> Environment:
        """Return this machine, with the cluster's GPU where jobs need one that it does not have itself."""
        here, suite = describe_environment(), self.loaded.suite
        has_it = bool(here.gpus) and suite.resources.gpu in (None, here.gpus[0].name)
        if has_it or not wants_gpus(suite):
            return here
        return here.model_copy(update={"gpus": gpus_of_plan(self._survey(), suite.resources.gpu)})

    def execute(self, jobs: Sequence[Job], desk: Desk) -> None:
        """Do the jobs as the cluster has room for them. The first failure is raised when all others are done."""
        with _token(desk.dispatcher.results) as token:
            cluster = _RayCluster(self.ray, desk, self._code, token)
            gpus_in_cluster = any(node.gpus for node in cluster.nodes())
            needs = {job.id: needs_of(job, self.loaded.suite, gpus_in_cluster=gpus_in_cluster) for job in jobs}
            run = ClusterRun(jobs, needs, desk, cluster)
            try:
                run.finish()
            except KeyboardInterrupt as error:
                raise RunInterrupted("Stopped.", "The same command goes on from here.") from error
            finally:
                run.stop()

    def _survey(self) -> list[tuple[str, GpuInfo]]:
        """Ask every node with GPUs for their names."""
        read = self.ray.remote(num_cpus=0)(read_gpus)
        nodes = [node for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
        asked = [read.options(scheduling_strategy=_only_on(node["NodeID"])).remote() for node in nodes]
        answers = zip(nodes, self.ray.get(asked), strict=True)
        return [(node["NodeManagerAddress"], gpu) for node, gpus in answers for gpu in gpus]


class _RayCluster:
    def __init__(self, ray: Any, desk: Desk, code: str, token: str) -> None:
        self.ray = ray
        self.results = desk.dispatcher.results.resolve()
        self.code = code
        self.token = token
        self.planned = desk.folder.header().environment
        # Workers with GPUs, too, are kept for the next job: CUDA is only ever used in the job's own process.
        self.do = ray.remote(max_retries=0, max_calls=0)(_do_on_node)

    def nodes(self) -> list[ClusterNode]:
        return [_as_node(node) for node in self.ray.nodes() if node["Alive"]]

    def submit(self, order: WorkOrder, placement: Placement, *, with_parcels: bool) -> Task:
        needs, alone_on = placement.needs, placement.alone_on
        cpus = alone_on.cpus if alone_on else needs.cpus
        assignment = Assignment(
            order=order,
            planned=self.planned,
            code=self.code,
            results=str(self.results),
            token=self.token,
            threads=math.ceil(cpus),
            offline=os.environ.get("HF_HUB_OFFLINE") == "1",
        )
        options: dict[str, object] = {"name": order.job.id, "num_cpus": cpus, "num_gpus": needs.gpus}
        if needs.memory_bytes:
            options["memory"] = needs.memory_bytes
        if alone_on:
            options["scheduling_strategy"] = _only_on(alone_on.node.id)
        elif placement.avoid:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(placement.avoid))})"}
        parcels = self._parcels(order) if with_parcels else None
        return _RayTask(self.ray, self.do.options(**options).remote(assignment.model_dump_json(), parcels))

    def wait(self, tasks: Sequence[Task], seconds: float) -> Sequence[Task]:
        by_generator = {task.generator: task for task in tasks if isinstance(task, _RayTask)}
        if not by_generator:
            time.sleep(seconds)
            return []
        generators = list(by_generator)
        ready, rest = self.ray.wait(generators, num_returns=1, timeout=seconds)
        if ready and rest:  # whoever else has something to say
            ready += self.ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [by_generator[generator] for generator in ready]

    def _parcels(self, order: WorkOrder) -> dict[str, Any]:
        """Put what the job reads into the cluster's object store, where it stays as long as the job."""
        parcels = {}
        for place in places_to_send(order):
            entry = cache_entry(place, self.results)
            if isinstance(lookup(entry), CachedAdapter) if entry else Path(place).exists():
                parcels[place] = self.ray.put(pack(entry or Path(place)))
        return parcels


class _RayTask:
    def __init__(self, ray: Any, generator: Any) -> None:
        self.ray = ray
        self.generator = generator

    def hear(self) -> NodeReport | bytes | None:
        errors = self.ray.exceptions
        try:
            word = self.ray.get(next(self.generator))
        except StopIteration:
            return None
        except errors.RayTaskError as error:
            raise _as_failure(error) from error
        except errors.RayError as error:
            sentences = str(error).replace("\n", ". ").split(". ")
            raise NodeLost(sentences[0] or type(error).__name__) from error
        return word if isinstance(word, bytes) else NodeReport.model_validate_json(word)

    def cancel(self) -> None:
        self.ray.cancel(self.generator, force=True)


def _do_on_node(assignment_json: str, parcels: dict[str, Any] | None) -> Iterator[str | bytes]:
    """Body of the cluster's task."""
    import ray

    context: Any = ray.get_runtime_context()
    gpus = context.get_accelerator_ids().get("GPU", [])
    assignment = Assignment.model_validate_json(assignment_json)
    prepare_worker(assignment, gpus)
    fetches = None if parcels is None else {place: partial(ray.get, parcel) for place, parcel in parcels.items()}
    node = _node(context.get_node_id(), ray.util.get_node_ip_address())
    yield from do_assignment(assignment, node, gpus, fetches)


def _node(node_id: str, address: str) -> Node:
    return Node(id=node_id, name=f"{address} ({node_id[:6]})")


def _as_node(node: dict[str, Any]) -> ClusterNode:
    has = node["Resources"]
    name = _node(node["NodeID"], node["NodeManagerAddress"])
    return ClusterNode(name, has.get("GPU", 0), has.get("CPU", 0), has.get("memory", 0))


def _only_on(node_id: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def _as_failure(error: Exception) -> HarnessError:
    """Turn an error of the task itself, which is none of the job's, into a sentence."""
    text = str(error).strip()
    if "No module named 'harness'" in text:
        sentence = "A node of the cluster does not have the harness."
        return NotAvailable(sentence, "Install the same version on every node.")
    return JobFailed(f"A node of the cluster failed: {text.splitlines()[-1] if text else type(error).__name__}")


def _check_address(address: str) -> None:
    """Raise NotAvailable where nobody listens at an address host:port; Ray itself would go on trying for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # 'auto', 'local' or nothing
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_CONNECT).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotAvailable(f"RAY_ADDRESS={address}: no Ray cluster there ({reason}).", "See docs/scale.md.") from error


@contextlib.contextmanager
def _token(results: Path) -> Iterator[str]:
    """Put a file into the results folder for as long as the run lasts: a node that finds it sees the same folder."""
    path = results / f".cluster-{secrets.token_hex(8)}"
    with saving(path):
        path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)
