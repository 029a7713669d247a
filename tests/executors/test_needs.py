"""What a job asks of a node, and which nodes are the machine that a plan was made for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.environment import describe_environment
from harness.errors import NotAvailable
from harness.executors.needs import Needs, differences, gpus_of_plan, needs_of, wants_gpus
from harness.records import GpuInfo, Job, JobKind
from harness.suite import Suite

HERE = describe_environment().model_copy(update={"gpus": ()})


def gpu(name: str) -> GpuInfo:
    return GpuInfo(name=name, memory_bytes=1, driver="1", compute_capability="9.0")


def needs(device: str = "auto", kind: JobKind = "generate", in_cluster: bool = True, **resources: Any) -> Needs:
    suite = Suite.model_validate(
        {
            "name": "s",
            "models": {"m": {"path": "m", "device": device}, "answers": {"backend": "scripted", "script": "a.jsonl"}},
            "resources": resources,
        }
    )
    return needs_of(Job(id="j", kind=kind, model="m"), suite, gpus_in_cluster=in_cluster)


def test_a_gpu_is_asked_for_where_the_model_would_take_one() -> None:
    assert needs("cuda").gpus == needs("cuda", in_cluster=False).gpus == needs("auto").gpus == 1
    assert needs("auto", in_cluster=False).gpus == needs("cpu").gpus == 0


def test_a_suite_says_otherwise_for_all_or_for_one_model() -> None:
    assert needs(gpus=0.5, cpus=3, memory_gib=2) == Needs(0.5, 3, 2 * 2**30)
    assert needs(gpus=0.5, cpus=3, by_model={"m": {"gpus": 2}}) == Needs(2, 3, 0)
    assert needs(cpus=3, by_model={"answers": {"cpus": 5}}) == Needs(1, 3, 0)


def test_a_timing_never_shares_a_gpu() -> None:
    assert needs(kind="throughput", gpus=0.25).gpus == needs(kind="train_timing", gpus=0.25).gpus == 1


def test_what_computes_nothing_takes_no_gpu() -> None:
    scripted = {"backend": "scripted", "script": "a"}
    suite = Suite.model_validate({"name": "s", "models": {"m": scripted}, "resources": {"gpus": 1}})
    assert needs_of(Job(id="j", kind="generate", model="m"), suite, gpus_in_cluster=True).gpus == 0
    on_cpu = Suite.model_validate({"name": "s", "models": {"m": {"path": "m", "device": "cpu"}}})
    anywhere = Suite.model_validate({"name": "s", "models": {"m": {"path": "m"}}})
    assert not wants_gpus(on_cpu) and wants_gpus(anywhere)


def test_one_and_a_half_gpus_cannot_be_asked_for() -> None:
    with pytest.raises(ValidationError, match="whole number above 1"):
        needs(gpus=1.5)


def test_the_clusters_gpus_must_be_of_one_name_or_one_is_named() -> None:
    surveyed = [("a", gpu("X")), ("b", gpu("Y")), ("c", gpu("X"))]
    with pytest.raises(NotAvailable, match=r"GPUs differ \(X, Y\)"):
        gpus_of_plan(surveyed, None)
    with pytest.raises(NotAvailable, match="No node of the cluster has a GPU named 'Z'; there are X, Y"):
        gpus_of_plan(surveyed, "Z")
    assert gpus_of_plan(surveyed, "Y") == (gpu("Y"),)
    assert gpus_of_plan(surveyed[:1] + surveyed[2:], None) == (gpu("X"),)
    assert gpus_of_plan([], None) == ()


def differing(*, timing: bool = False, code: str = "c", planned_gpu: str | None = None, **update: Any) -> list[str]:
    planned = HERE.model_copy(update={"gpus": (gpu(planned_gpu),)}) if planned_gpu else HERE
    return differences(planned, HERE.model_copy(update=update), code=("c", code), timing=timing)


def test_a_node_is_refused_for_what_changes_results_and_for_nothing_else() -> None:
    assert differing() == []
    assert differing(python="3.0", platform="other", memory_bytes=1, cpu="other") == []
    assert differing(code="d") == ["another version of the harness"]
    older = {**HERE.packages, "torch": "1.0"}
    assert differing(packages=older) == [f"torch 1.0 for {HERE.packages['torch']}"]
    assert differing(planned_gpu="X", gpus=(gpu("Y"),)) == ["GPU Y for X"]
    assert differing(planned_gpu="X", gpus=(gpu("X"),)) == []


def test_a_timing_also_wants_the_same_processor_unless_a_gpu_does_the_work() -> None:
    assert differing(timing=True, cpu="other") == [f"processor other for {HERE.cpu}"]
    assert differing(timing=True, cpu="other", planned_gpu="X", gpus=(gpu("X"),)) == []
