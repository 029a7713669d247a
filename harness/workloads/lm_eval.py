"""Tests general ability with lm-eval as a library.

lm-eval's caches are never used: the key of its answer cache has no model in it, so that base and tuned would share
answers. Nor is `simple_evaluate`, which asks the hub about the model and pip and git about the machine.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import datasets
import numpy
import torch
from lm_eval import evaluator
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.tasks import TaskManager

from harness.backends import open_backend
from harness.backends.transformers_model import TransformersModel
from harness.errors import NotAvailable, reason_of
from harness.orders import Message, Progress, Records, WorkOrder
from harness.records import TaskResult, TaskSample
from harness.suite import LmEval
from harness.workloads.lm_eval_model import EvaluatedModel

BOOTSTRAP_DRAWS = 1000
"""Resamples behind a standard error that has no formula (F1, perplexity): good to about 2 % of itself."""
PROGRESS_STEPS = 100


def measure_ability(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Run the suite's tasks on the order's model and send results and samples. NotAvailable for a missing task.

    An order for `load_tasks` alone loads no model: it shows whether tasks and data can be had.
    """
    section = order.lm_eval
    assert section is not None
    with tempfile.TemporaryDirectory() as cache:
        tasks = load_tasks(section, [Path(folder) for folder in order.task_folders], Path(cache))
        if order.only == "load_tasks":
            return
        backend = open_backend(order)
        assert isinstance(backend, TransformersModel)
        send(Records(records=(backend.describe(),)))
        model = EvaluatedModel(backend, section.batch_size, _progress(send))
        random.seed(DEFAULT_RANDOM_SEED)
        numpy.random.seed(DEFAULT_OTHER_SEED)
        torch.manual_seed(DEFAULT_OTHER_SEED)
        os.environ["DISABLE_MULTIPROC"] = "1"  # a bootstrap in worker processes would outlive a killed job
        results = evaluator.evaluate(
            lm=model,
            task_dict=tasks,
            limit=section.limit,
            bootstrap_iters=BOOTSTRAP_DRAWS,
            apply_chat_template=section.prompt_form == "model" and order.model.prompt_format != "plain",
            fewshot_as_multiturn=True,
        )
    send(Records(records=(*_results(order, results), *_samples(order, results))))


def _progress(send: Callable[[Message], None]) -> Callable[[int, int], None]:
    def on_request(done: int, total: int) -> None:
        if done == total or done % max(1, total // PROGRESS_STEPS) == 0:
            send(Progress(done=done, total=total, unit="requests"))

    return on_request


def load_tasks(section: LmEval, folders: Sequence[Path], cache: Path) -> dict[str, Any]:
    """Load the section's tasks for `lm_eval.evaluate`. NotAvailable names one that cannot be had, and why.

    Tasks of the folders win over lm-eval's own of the same name, and keep what `datasets` makes of their data in
    `cache`. lm-eval's own are looked through only where a name needs it: that takes ten seconds and more.
    """
    manager = TaskManager(include_path=[str(folder) for folder in folders], include_defaults=False)
    if not all(manager.match_tasks([name]) for name in section.tasks):
        manager = TaskManager(include_path=[str(folder) for folder in folders])
    loaded: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
    for pattern in section.tasks:
        names = manager.match_tasks([pattern])
        if not names:
            raise NotAvailable(
                f"lm_eval.tasks: lm-eval has no task, group or tag '{pattern}'.",
                "lm-eval passes over a task file that it cannot read; `lm_eval validate` says why.",
            )
        for name in names:
            for key, found in _load_task(manager, name, folders, cache).items():
                loaded[key].update(found)
    for task in loaded["tasks"].values():
        _set_fewshot(task, section.num_fewshot)
    return loaded


def _load_task(manager: TaskManager, name: str, folders: Sequence[Path], cache: Path) -> Mapping[str, Any]:
    path = manager.task_index[name].yaml_path
    is_ours = path is not None and any(path.is_relative_to(folder) for folder in folders)
    with contextlib.ExitStack() as stack:
        if is_ours:
            stack.enter_context(contextlib.chdir(path.parent))  # relative data_files count from the task's file
            stack.enter_context(_dataset_cache(cache))
        try:
            loaded: Mapping[str, Any] = manager.load(name)
        except Exception as error:  # whatever hub, dataset builders and the task's own code may raise
            raise _not_loaded(name, path, error) from error
    return loaded


def _not_loaded(name: str, file: Path | None, error: Exception) -> NotAvailable:
    reason = reason_of(error)
    if isinstance(error, ConnectionError):
        where = "the network is off (HF_HUB_OFFLINE)" if datasets.config.HF_HUB_OFFLINE else "the hub did not answer"
        return NotAvailable(
            f"lm_eval.tasks: the data of '{name}' are not in the local cache, and {where}: {reason}.",
            "Load them once while connected; afterwards they are found in the cache.",
        )
    sentence = f"lm_eval.tasks: '{name}' could not be loaded: {type(error).__name__}: {reason}"
    return NotAvailable(sentence, f"It is defined in {file}." if file else None)


@contextlib.contextmanager
def _dataset_cache(folder: Path) -> Iterator[None]:
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder
    try:
        yield
    finally:
        datasets.config.HF_DATASETS_CACHE = before


def _set_fewshot(task: Any, asked: int | None) -> None:
    """Do as lm-eval's own command does: a task that says 0 keeps it, and one that says nothing has 0."""
    own = task.get_config("num_fewshot")
    if asked is not None and own != 0:
        task.set_config(key="num_fewshot", value=asked)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


def _results(order: WorkOrder, results: Mapping[str, Any]) -> Iterator[TaskResult]:
    for task, values in results["results"].items():
        samples = results["samples"].get(task)
        for key, value in values.items():
            metric, comma, filter_name = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, Real):
                continue
            stderr = values.get(f"{metric}_stderr,{filter_name}")
            counted = values["sample_len"] if samples is None else _count(samples, metric, filter_name)
            shots, version = results["n-shot"].get(task), results["versions"].get(task)
            yield TaskResult(
                job_id=order.job.id,
                model=order.job.model,
                task=task,
                metric=metric,
                filter=filter_name,
                value=float(value),
                stderr=float(stderr) if isinstance(stderr, Real) else None,
                n=counted,
                higher_is_better=results["higher_is_better"].get(task, {}).get(metric),
                group=samples is None,
                num_fewshot=shots if isinstance(shots, int) else None,
                version=None if version is None else str(version),
            )


def _count(samples: Sequence[Mapping[str, Any]], metric: str, filter_name: str) -> int:
    return sum(sample["filter"] == filter_name and metric in sample["metrics"] for sample in samples)


def _samples(order: WorkOrder, results: Mapping[str, Any]) -> Iterator[TaskSample]:
    for task, samples in results["samples"].items():
        for sample in samples:
            yield TaskSample(
                job_id=order.job.id,
                model=order.job.model,
                task=task,
                filter=sample["filter"],
                doc_id=sample["doc_id"],
                doc_hash=sample["doc_hash"],
                scores={name: float(sample[name]) for name in sample["metrics"] if isinstance(sample[name], Real)},
            )
