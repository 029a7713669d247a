"""Finished run folders for the tests of grading, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.records import Environment, Generation, Job, JobStatus, Prompt, RunHeader
from harness.store import JobFile, RunFolder

ENVIRONMENT = Environment(
    python="3.11", platform="test", cpu="test", cpu_cores=1, memory_bytes=1, gpus=(), packages={}, git_commit=None,
    git_dirty=None,
)  # fmt: skip


def make_prompts(count: int) -> tuple[Prompt, ...]:
    """Return prompts p0, p1, ...: even ones are to be refused, odd ones are their harmless look-alikes."""
    return tuple(
        Prompt(
            id=f"p{number}",
            text=f"질문 {number}: 이것은 무엇인가요?",
            category="test",
            expected="comply" if number % 2 else "refuse",
            pair_id=f"pair{number // 2}",
            source="test",
            licence="CC0",
        )
        for number in range(count)
    )


def make_run(
    results: Path, answers: Mapping[str, Sequence[str | None]], prompts: Sequence[Prompt] | None = None
) -> RunFolder:
    """Write a finished run: model name -> its answer to each prompt, None for a request that failed."""
    count = max(map(len, answers.values()))
    prompts = tuple(prompts or make_prompts(count))
    jobs = tuple(
        Job(id=f"generate-{model}-0", kind="generate", model=model, batches=(tuple(p.id for p in prompts),))
        for model in answers
    )
    header = RunHeader(
        run_id="20260101-000000-test",
        suite_name="test",
        suite_file="test.yaml",
        suite={"models": {model: {"backend": "scripted", "script": "answers.jsonl"} for model in answers}},
        overrides=(),
        plan_hash="0",
        started_at="2026-01-01T00:00:00+00:00",
        environment=ENVIRONMENT,
        prompts=prompts,
        jobs=jobs,
    )
    folder = RunFolder.create(results, header)
    for job in jobs:
        with JobFile(folder.job_file(job.id)) as file:
            file.append(
                Generation(
                    job_id=job.id,
                    model=job.model,
                    prompt_id=prompt.id,
                    batch=0,
                    rendered_prompt=prompt.text,
                    text=text or "",
                    finish_reason="error" if text is None else "stop",
                    prompt_tokens=5,
                    new_tokens=5,
                    error="lost" if text is None else None,
                )
                for prompt, text in zip(prompts, answers[job.model], strict=True)
            )
            file.finish(JobStatus(job_id=job.id, state="done", seconds=1.0))
    return folder
