"""How it was measured: machine, versions, models as loaded, jobs, events and the suite as it took effect."""

from __future__ import annotations

import yaml
from markupsafe import Markup

from harness.records import Event, LoadedModel
from harness.report.lookup import Lookup
from harness.report.tables import Column, Entry, Table
from harness.report.wording import NO_DATA, both, duration, number, short_path, size, without_machine_paths
from harness.summary import Summary

MAIN_PACKAGES = ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes", "datasets", "lm-eval", "lm_eval")


def machine_table(summary: Summary) -> list[tuple[Markup, str]]:
    """Names and values of what the run was made on and with."""
    environment = summary.header.environment
    rows = [
        (both("실행 번호", "Run"), summary.header.run_id),
        (both("시작 (UTC)", "Started (UTC)"), summary.header.started_at),
        (both("스위트 파일", "Suite file"), short_path(summary.header.suite_file)),
        (both("명령줄에서 바꾼 값", "Overrides"), ", ".join(summary.header.overrides) or NO_DATA),
        (both("계획 해시", "Plan hash"), summary.header.plan_hash),
        (both("판정기", "Grader"), f"{summary.grader.name} {summary.grader.version}"),
        (both("프로세서", "Processor"), f"{environment.cpu} · {environment.cpu_cores}"),
        (both("메모리", "Memory"), size(environment.memory_bytes)),
    ]
    rows += [
        (Markup("GPU"), f"{gpu.name} · {size(gpu.memory_bytes)} · CC {gpu.compute_capability} · {gpu.driver}")
        for gpu in environment.gpus
    ]
    if not environment.gpus:
        rows.append((Markup("GPU"), NO_DATA))
    commit = environment.git_commit or NO_DATA
    rows += [
        (both("운영체제", "Platform"), environment.platform),
        (Markup("Python"), environment.python),
        (both("커밋", "Commit"), f"{commit} (+ uncommitted changes)" if environment.git_dirty else commit),
    ]
    return rows


def packages(summary: Summary) -> list[tuple[str, str]]:
    """Package versions, those that shape the figures first."""
    versions = summary.header.environment.packages
    first = [name for name in MAIN_PACKAGES if name in versions]
    return [(name, versions[name]) for name in first + sorted(set(versions) - set(first))]


def loaded_table(lookup: Lookup) -> Table:
    """What was really loaded: precision asked for and in effect, adapter proof, padding self-test, hashes."""
    columns = [
        Column("모델", "Model"),
        Column("요청한 정밀도 → 실제", "Precision asked → in effect"),
        Column("어댑터 적용 확인", "Adapter proof"),
        Column("패딩 자체 검사", "Padding self-test"),
        Column("해시", "Hashes"),
    ]
    seen: dict[str, list[Entry]] = {}
    for loaded in lookup.summary.loaded:
        row = [
            _identity(lookup, loaded),
            Entry(_precision(loaded)),
            Entry(_adapter(loaded)),
            Entry(_padding(loaded)),
            Entry(_hashes(loaded)),
        ]
        # Several jobs load the same model in the same way; it is shown once.
        seen.setdefault(str([entry.content for entry in row]), row)
    return Table(columns, list(seen.values()), css_class="loaded")


def _identity(lookup: Lookup, loaded: LoadedModel) -> Entry:
    random = both("무작위 가중치", "random weights") if loaded.weights == "random" else Markup("")
    return Entry(
        Markup("{}<small>{}<br>{} · {}<br>{} · {} · {} · {}</small>{}").format(
            lookup.model(loaded.model),
            short_path(loaded.path),
            loaded.architecture,
            both("매개변수 {n}개", "{n} parameters", n=f"{loaded.parameter_count:,}")
            if loaded.parameter_count
            else both("매개변수 수 알 수 없음", "number of parameters not known"),
            loaded.device,
            loaded.backend,
            both("엔진 {engine}", "engine {engine}", engine=loaded.engine),
            loaded.attention,
            Markup('<span class="flag">{}</span>').format(random) if random else "",
        )
    )


def _precision(loaded: LoadedModel) -> Markup:
    stored = ", ".join(f"{dtype} × {count:,}" for dtype, count in sorted(loaded.parameter_dtypes.items()))
    return Markup("{} → <b>{}</b><small>{} · {}</small>").format(
        loaded.requested_dtype,
        loaded.compute_dtype,
        stored,
        both("양자화 {q}", "quantization {q}", q=loaded.quantization),
    )


def _adapter(loaded: LoadedModel) -> str | Markup:
    if loaded.adapter_hash is None:
        return NO_DATA
    return Markup("{}<small>{}<br>{}</small>").format(
        loaded.adapter_mode or "",
        both("0이 아닌 B 행렬 {n}개", "{n} non-zero B matrices", n=_or_dash(loaded.adapter_nonzero_b)),
        both("로짓 최대 변화 {n}", "largest logit change {n}", n=number(loaded.adapter_max_logit_change)),
    )


def _padding(loaded: LoadedModel) -> str | Markup:
    difference, tolerance = loaded.padding_max_logit_difference, loaded.padding_tolerance
    if difference is None:
        return NO_DATA
    passed = tolerance is None or difference <= tolerance
    verdict = both("통과", "passed") if passed else both("실패", "failed")
    return Markup("{}<small>{} ≤ {} · BOS {}</small>").format(
        verdict if passed else Markup('<span class="flag">{}</span>').format(verdict),
        number(difference),
        number(tolerance),
        _or_dash(loaded.bos_count),
    )


def _hashes(loaded: LoadedModel) -> Markup:
    parts = [
        ("weights", loaded.content_hash),
        ("adapter", loaded.adapter_hash),
        ("tokenizer", loaded.tokenizer_hash),
        ("chat template", loaded.chat_template_hash),
    ]
    lines = [
        Markup('<span class="nowrap">{} <code>{}</code></span>').format(name, value[:12])
        for name, value in parts
        if value
    ]
    return Markup("<small>{}</small>").format(Markup("<br>").join(lines))


def _or_dash(value: object) -> str:
    return NO_DATA if value is None else str(value)


def job_table(summary: Summary) -> Table:
    """Every planned job and the seconds it took; a job without seconds has not finished."""
    columns = [
        Column("작업", "Job"),
        Column("종류", "Kind"),
        Column("모델", "Model"),
        Column("걸린 시간", "Time", "number"),
    ]
    rows = []
    for job in summary.header.jobs:
        seconds = summary.seconds_by_job.get(job.id)
        took = both("끝나지 않음", "not finished") if seconds is None else duration(seconds)
        rows.append([Entry(job.id), Entry(job.kind), Entry(", ".join(job.models)), Entry(took, seconds)])
    return Table(columns, rows)


def unfinished_jobs(summary: Summary) -> int:
    """Number of planned jobs that have no time because they have not finished."""
    return sum(job.id not in summary.seconds_by_job for job in summary.header.jobs)


def sorted_events(summary: Summary) -> list[Event]:
    """Warnings first, each kind in the order it happened; what several jobs say in the same words stands once."""
    told: dict[tuple[str, str, str], Event] = {}
    for event in summary.events:
        told.setdefault((event.level, event.code, event.message), event)
    return sorted(told.values(), key=lambda event: event.level != "warning")


def suite_text(summary: Summary) -> str:
    """The suite as it took effect, as YAML, without this machine's paths."""
    settings = without_machine_paths(summary.header.suite)
    text: str = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False, width=100)
    return text
