"""The run, top to bottom: `run_suite` shows the order. This process never imports torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.contamination_check import check_suite, findings, without_overlaps, write_contamination
from harness.dispatch import Dispatcher
from harness.environment import describe_environment
from harness.executors import ExecutorName, open_executor
from harness.executors.desk import Desk, as_error, show
from harness.finish import finish_run
from harness.gates.baselines import saved_names
from harness.gates.stored import put_in_force
from harness.lm_eval_tasks import is_known
from harness.orders import Failed
from harness.plan import Plan, make_plan
from harness.process import can_fork, run_in_process
from harness.prompts import select_prompts
from harness.records import Environment, Prompt, RunHeader
from harness.screen import Screen
from harness.store import RunFolder, find_unfinished, new_run_id
from harness.suite_file import LoadedSuite, load_suite
from harness.workloads.training_data import check_training_files


@dataclass(frozen=True)
class RunOptions:
    """What the command line adds to a suite."""

    results: Path
    overrides: tuple[str, ...] = ()
    limit: int | None = None
    ids: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    new: bool = False
    stream: bool = False
    executor: ExecutorName = "local"


def run_suite(suite_file: Path, options: RunOptions, screen: Screen) -> RunFolder:
    """Validate, plan, run what is not done yet, grade, and write the page. Return the run's folder."""
    loaded = load_suite(suite_file, options.overrides, saved_names(options.results))
    chosen = select_prompts(loaded.prompts, options.limit, options.ids, options.categories)
    contamination = check_suite(loaded, chosen)
    for finding in findings(contamination):
        screen.note(finding, style="yellow")
    prompts = without_overlaps(loaded, chosen, contamination)
    _stay_offline_if_local(loaded)
    with open_executor(options.executor, loaded, stream=options.stream) as executor:
        environment = executor.environment()
        plan = make_plan(loaded, prompts, environment)
        folder = _open_run(loaded, prompts, plan, environment, options, screen)
        with folder.exclusive():
            write_contamination(folder.path, contamination)
            put_in_force(folder.path, loaded.suite.gates, str(loaded.file))
            desk = Desk(folder, Dispatcher(loaded, plan, options.results, options.stream), plan.jobs, screen)
            executor.execute([job for job in plan.jobs if not desk.is_done(job)], desk)
            finish_run(folder, screen)
    return folder


def train_suite(suite_file: Path, options: RunOptions, screen: Screen) -> list[Path]:
    """Train the suite's adapters alone, or find them in the cache. Return their folders."""
    loaded = load_suite(suite_file, options.overrides)
    check_training_files(loaded)
    environment = describe_environment()
    plan = make_plan(loaded, loaded.prompts, environment).training_only()
    dispatcher = Dispatcher(loaded, plan, options.results)
    _stay_offline_if_local(loaded)
    folders = []
    for number, job in enumerate(plan.jobs, start=1):
        folder = dispatcher.training_folder(job.training) if job.training else dispatcher.weights_folder(job.model)
        order = dispatcher.order(job, folder.with_name(f"{folder.name}.log"))
        screen.start_job(number, len(plan.jobs), job)
        for message in run_in_process(order, preload=can_fork(environment.gpus, loaded.suite.models.values())):
            if isinstance(message, Failed):
                raise as_error(message)
            show(message, job, screen)
        if job.training:
            folders.append(folder)
    return folders


def _open_run(
    loaded: LoadedSuite,
    prompts: Sequence[Prompt],
    plan: Plan,
    environment: Environment,
    options: RunOptions,
    screen: Screen,
) -> RunFolder:
    """Return the unfinished run of the same plan, or a new folder."""
    results, suite = options.results, loaded.suite
    unfinished = None if options.new else find_unfinished(results, suite.name, plan.plan_hash)
    if unfinished:
        screen.note(f"Going on with {unfinished.path} where it stopped.")
        return unfinished
    now = datetime.now(UTC)
    header = RunHeader(
        run_id=new_run_id(now),
        suite_name=suite.name,
        suite_file=str(loaded.file),
        suite=suite.model_dump(mode="json"),
        overrides=options.overrides,
        plan_hash=plan.plan_hash,
        started_at=now.isoformat(timespec="seconds"),
        environment=environment,
        prompts=tuple(prompts),
        categories=loaded.categories,
        jobs=plan.jobs,
        sweep=loaded.sweep,
    )
    return RunFolder.create(results, header)


def _stay_offline_if_local(loaded: LoadedSuite) -> None:
    """Keep a suite that names no hub off the network; the jobs inherit this."""
    suite = loaded.suite
    places = [model.path for model in suite.models.values() if model.path]
    places += [model.adapter.path for model in suite.models.values() if model.adapter and model.adapter.path]
    uses_hub_data = any(training.data.hub for training in suite.training.values())
    if suite.lm_eval:
        folders = [loaded.resolve(folder) for folder in suite.lm_eval.task_folders]
        uses_hub_data |= not all(is_known(task, folders) for task in suite.lm_eval.tasks)
    if not uses_hub_data and all(Path(loaded.locate(place)).is_absolute() for place in places):
        os.environ["HF_HUB_OFFLINE"] = "1"
