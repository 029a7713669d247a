"""The run, top to bottom: `run_suite` shows the order. This process never imports torch."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.contamination_check import check_suite, findings, without_overlaps, write_contamination
from harness.dispatch import Dispatcher
from harness.environment import describe_environment
from harness.errors import HarnessError, JobFailed, NotAvailable, PrecisionMismatch, RunInterrupted, StoreError
from harness.finish import finish_run
from harness.lm_eval_tasks import is_local
from harness.orders import Failed, Finished, Message, Progress, Records, Streamed, WorkOrder
from harness.plan import Plan, make_plan
from harness.process import run_in_process
from harness.prompts import select_prompts
from harness.records import Environment, Event, Job, JobStatus, Prompt, RunHeader
from harness.screen import Screen
from harness.store import JobFile, RunFolder, find_unfinished, new_run_id
from harness.suite_file import LoadedSuite, load_suite


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


def run_suite(suite_file: Path, options: RunOptions, screen: Screen) -> RunFolder:
    """Validate, plan, run what is not done yet, grade, and write the page. Return the run's folder."""
    loaded = load_suite(suite_file, options.overrides)
    chosen = select_prompts(loaded.prompts, options.limit, options.ids, options.categories)
    contamination = check_suite(loaded, chosen)
    for finding in findings(contamination):
        screen.note(finding, style="yellow")
    prompts = without_overlaps(chosen, contamination)
    environment = describe_environment()
    plan = make_plan(loaded, prompts, environment)
    folder = _open_run(loaded, prompts, plan, environment, options, screen)
    with folder.exclusive():
        write_contamination(folder.path, contamination)
        _run_jobs(folder, loaded, plan, environment, options, screen)
        finish_run(folder)
    return folder


def train_suite(suite_file: Path, options: RunOptions, screen: Screen) -> list[Path]:
    """Train the suite's adapters alone, or find them in the cache. Return their folders."""
    loaded = load_suite(suite_file, options.overrides)
    environment = describe_environment()
    plan = make_plan(loaded, loaded.prompts, environment).training_only()
    dispatcher = Dispatcher(loaded, plan, options.results)
    _stay_offline_if_local(loaded)
    folders = []
    for number, job in enumerate(plan.jobs, start=1):
        folder = dispatcher.training_folder(job.training or "")
        order = dispatcher.order(job, folder.with_name(f"{folder.name}.log"))
        screen.start_job(number, len(plan.jobs), job)
        for message in run_in_process(order, preload=_can_fork(loaded, environment)):
            _show(message, screen)
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
    )
    return RunFolder.create(results, header)


def _run_jobs(
    folder: RunFolder, loaded: LoadedSuite, plan: Plan, environment: Environment, options: RunOptions, screen: Screen
) -> None:
    """Run every job that is not done yet, each in a process of its own."""
    _stay_offline_if_local(loaded)
    preload = _can_fork(loaded, environment)
    dispatcher = Dispatcher(loaded, plan, options.results, options.stream)
    for number, job in enumerate(plan.jobs, start=1):
        if _is_intact(folder, job, screen):
            continue
        finished_batches = folder.prepare_to_resume(job)
        order = dispatcher.order(job, folder.log_file(job.id), finished_batches)
        screen.start_job(number, len(plan.jobs), job)
        seconds = _run_job(folder, order, preload=preload, screen=screen)
        screen.end_job(seconds)


def _run_job(folder: RunFolder, order: WorkOrder, *, preload: bool, screen: Screen) -> float:
    """Run one job, store what it says as it says it, and write the 'done' line last. Return its seconds."""
    started = time.monotonic()
    with JobFile(folder.job_file(order.job.id)) as file:
        try:
            for message in run_in_process(order, preload=preload):
                _show(message, screen)
                if isinstance(message, Records):
                    file.append(message.records)
                elif isinstance(message, Finished):
                    seconds = time.monotonic() - started
                    file.finish(JobStatus(job_id=order.job.id, state="done", seconds=seconds))
        except KeyboardInterrupt as error:
            raise RunInterrupted(f"Stopped during {order.job.id}.", "The same command goes on from here.") from error
        except (NotAvailable, JobFailed, PrecisionMismatch) as error:
            seconds = time.monotonic() - started
            file.append([JobStatus(job_id=order.job.id, state="failed", seconds=seconds, error=error.message)])
            raise
    return seconds


def _show(message: Message, screen: Screen) -> None:
    """Put a message on the screen; a failure becomes the error it was."""
    match message:
        case Progress():
            screen.progress(message.done, message.total, message.unit)
        case Streamed():
            screen.stream(message.prompt_id, message.text, end=message.end)
        case Records():
            for record in message.records:
                if isinstance(record, Event) and record.level == "warning":
                    screen.note(record.message, style="yellow")
        case Failed():
            raise _as_error(message)


def _is_intact(folder: RunFolder, job: Job, screen: Screen) -> bool:
    """Say whether a job is done; a finished file that was damaged since is redone, not trusted."""
    try:
        return folder.is_done(job.id)
    except StoreError as error:
        screen.note(f"{error.message} The job is done again; the damaged file is kept aside.", style="yellow")
        return False


def _can_fork(loaded: LoadedSuite, environment: Environment) -> bool:
    """Say whether jobs may be forked from a process that has imported torch: not where there is a GPU."""
    return not environment.gpus and any(model.backend == "hf" for model in loaded.suite.models.values())


def _stay_offline_if_local(loaded: LoadedSuite) -> None:
    """Keep a suite that names no hub off the network; the jobs inherit this."""
    suite = loaded.suite
    places = [model.path for model in suite.models.values() if model.path]
    places += [model.adapter.path for model in suite.models.values() if model.adapter and model.adapter.path]
    uses_hub_data = any(training.data.hub for training in suite.training.values())
    if suite.lm_eval:
        folders = [loaded.resolve(folder) for folder in suite.lm_eval.task_folders]
        uses_hub_data |= not all(is_local(task, folders) for task in suite.lm_eval.tasks)
    if not uses_hub_data and all(Path(loaded.locate(place)).is_absolute() for place in places):
        os.environ["HF_HUB_OFFLINE"] = "1"


def _as_error(failed: Failed) -> HarnessError:
    """Turn a job's last word back into the kind of error it was."""
    kinds = {kind.__name__: kind for kind in (NotAvailable, PrecisionMismatch)}
    return kinds.get(failed.error, JobFailed)(failed.message, failed.hint)
