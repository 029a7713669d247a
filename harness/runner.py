"""The run, top to bottom: `run_suite` shows the order. This process never imports torch."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.adapter_cache import entry_folder
from harness.environment import describe_environment
from harness.errors import HarnessError, JobFailed, NotAvailable, PrecisionMismatch, RunInterrupted, StoreError
from harness.finish import finish_run
from harness.orders import Failed, Finished, Progress, Records, Streamed, WorkOrder
from harness.plan import Plan, make_plan
from harness.process import run_in_process
from harness.records import Environment, Job, JobStatus, Prompt, RunHeader
from harness.screen import Screen
from harness.store import JobFile, RunFolder, find_unfinished, new_run_id
from harness.suite_file import LoadedSuite, load_suite, select_prompts


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
    only_training: bool = False


def run_suite(suite_file: Path, options: RunOptions, screen: Screen) -> RunFolder:
    """Validate, plan, run what is not done yet, grade, and write the page. Return the run's folder."""
    loaded = load_suite(suite_file, options.overrides)
    prompts = select_prompts(loaded.prompts, options.limit, options.ids, options.categories)
    environment = describe_environment()
    plan = make_plan(loaded, prompts, environment)
    if options.only_training:
        plan = plan.training_only()
    folder = _open_run(loaded, prompts, plan, environment, options, screen)
    with folder.exclusive():
        _run_jobs(folder, loaded, plan, environment, options, screen)
        finish_run(folder, screen)
    return folder


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
    if _all_local(loaded):
        os.environ["HF_HUB_OFFLINE"] = "1"  # inherited by the jobs: a local suite never tries the network
    uses_transformers = any(model.backend == "hf" for model in loaded.suite.models.values())
    preload = uses_transformers and not environment.gpus
    for number, job in enumerate(plan.jobs, start=1):
        if _is_intact(folder, job, screen):
            continue
        order = _work_order(folder, loaded, plan, job, options)
        screen.start_job(number, len(plan.jobs), job)
        seconds = _run_job(folder, order, preload=preload, screen=screen)
        screen.end_job(seconds)


def _run_job(folder: RunFolder, order: WorkOrder, *, preload: bool, screen: Screen) -> float:
    """Run one job, store what it says as it says it, and write the 'done' line last. Return its seconds."""
    started = time.monotonic()
    with JobFile(folder.job_file(order.job.id)) as file:
        try:
            for message in run_in_process(order, preload=preload):
                match message:
                    case Records():
                        file.append(message.records)
                    case Progress():
                        screen.progress(message.done, message.total, message.unit)
                    case Streamed():
                        screen.stream(message.prompt_id, message.text)
                    case Failed():
                        raise _as_error(message)
                    case Finished():
                        seconds = time.monotonic() - started
                        file.finish(JobStatus(job_id=order.job.id, state="done", seconds=seconds))
        except KeyboardInterrupt as error:
            raise RunInterrupted(f"Stopped during {order.job.id}.", "The same command goes on from here.") from error
        except (NotAvailable, JobFailed, PrecisionMismatch) as error:
            seconds = time.monotonic() - started
            file.append([JobStatus(job_id=order.job.id, state="failed", seconds=seconds, error=error.message)])
            raise
    return seconds


def _is_intact(folder: RunFolder, job: Job, screen: Screen) -> bool:
    """Say whether a job is done; a finished file that was damaged since is redone, not trusted."""
    try:
        return folder.is_done(job.id)
    except StoreError as error:
        screen.note(f"{error.message} The job is done again; the damaged file is kept aside.", style="yellow")
        return False


def _work_order(folder: RunFolder, loaded: LoadedSuite, plan: Plan, job: Job, options: RunOptions) -> WorkOrder:
    suite = loaded.suite
    model = suite.models[job.model]
    if "dtype" in job.parameters:
        model = model.model_copy(update={"dtype": job.parameters["dtype"]})
    adapter, training = model.adapter, suite.training[job.training] if job.training else None
    adapter_place, adapter_hash = None, None
    if adapter and adapter.trained_by:
        adapter_hash = plan.training_hashes[adapter.trained_by]
        adapter_place = str(entry_folder(options.results, adapter.trained_by, adapter_hash))
    elif adapter and adapter.path:
        adapter_place = loaded.locate(adapter.path)
    data_path = training.data.path if training else None
    return WorkOrder(
        job=job,
        model=model,
        model_place=loaded.locate(model.path) if model.path else "",
        model_hash=plan.model_hashes[job.model],
        adapter_place=adapter_place,
        script_place=str(loaded.resolve(model.script)) if model.script else None,
        training=training,
        training_hash=plan.training_hashes[job.training] if job.training else None,
        data_place=str(loaded.resolve(data_path)) if data_path else None,
        adapter_cache=str((options.results / "adapters").resolve()),
        sampling=suite.sampling,
        prompts={prompt.id: prompt.text for prompt in folder.header().prompts} if job.batches else {},
        finished_batches=folder.prepare_to_resume(job),
        stream=options.stream,
        log_file=str(folder.log_file(job.id).resolve()),
    )


def _all_local(loaded: LoadedSuite) -> bool:
    models, trainings = loaded.suite.models.values(), loaded.suite.training.values()
    places = [model.path for model in models if model.path]
    places += [model.adapter.path for model in models if model.adapter and model.adapter.path]
    return all(Path(loaded.locate(place)).is_absolute() for place in places) and not any(
        training.data.hub for training in trainings
    )


def _as_error(failed: Failed) -> HarnessError:
    """Turn a job's last word back into the kind of error it was."""
    kinds = {kind.__name__: kind for kind in (NotAvailable, PrecisionMismatch)}
    return kinds.get(failed.error, JobFailed)(failed.message, failed.hint)
