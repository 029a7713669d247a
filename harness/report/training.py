"""What a training step cost and how its loss went, ready to be shown."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from harness.records import TrainingResult
from harness.report.plots import loss_panel
from harness.report.wording import both, duration, number, percent, setting, size
from harness.summary import Summary, TrainingReport


@dataclass(frozen=True)
class Fact:
    """A figure with its name, and a remark below it."""

    name: Markup
    value: str | Markup
    remark: Markup = Markup("")


@dataclass(frozen=True)
class TrainingView:
    """One training step of the suite."""

    name: str
    cached: bool
    facts: tuple[Fact, ...]
    memory: tuple[Fact, ...]
    memory_shares: tuple[float, float]
    memory_method: str
    plot: Markup | None
    settings: tuple[tuple[str, str], ...]
    substitutions: tuple[tuple[str, str], ...]


def training_views(summary: Summary) -> list[TrainingView]:
    """One per training step, in the order of the suite."""
    return [_view(report, index) for index, report in enumerate(summary.trainings)]


def _view(report: TrainingReport, index: int) -> TrainingView:
    result = report.result
    plot = None
    if report.steps:
        plot = loss_panel(f"loss-{index}", [step.step for step in report.steps], [step.loss for step in report.steps])
    total = result.device_memory_bytes or 1
    return TrainingView(
        name=result.training,
        cached=report.cached,
        facts=tuple(_facts(result)),
        memory=tuple(_memory(result)),
        memory_shares=(
            min(result.memory_before_bytes / total, 1.0),
            min(max(result.memory_training_bytes, 0) / total, 1.0),
        ),
        memory_method=result.memory_method,
        plot=plot,
        settings=tuple((key, setting(value)) for key, value in result.settings.items()),
        substitutions=tuple(sorted(result.substitutions.items())),
    )


def _facts(result: TrainingResult) -> list[Fact]:
    return [
        Fact(
            both("걸린 시간", "Time"),
            duration(result.seconds),
            both(
                "{s}초 = {m}분",
                "{s} seconds = {m} minutes",
                s=f"{result.seconds:,.1f}",
                m=f"{result.seconds / 60:,.2f}",
            ),
        ),
        Fact(
            both("단계", "Steps"),
            f"{result.steps:,}",
            both("실제로 학습한 에폭: {n}", "{n} epochs really covered", n=f"{result.epochs:.2f}"),
        ),
        Fact(
            both("학습 속도", "Speed"),
            both("{n} 토큰/초", "{n} tokens/s", n=number(result.tokens_per_second)),
            both("토큰 {n}개 (패딩 제외)", "{n} tokens, padding not counted", n=f"{result.tokens:,}"),
        ),
        Fact(both("마지막 손실", "Final loss"), number(result.final_loss), _loss_remark(result)),
        Fact(
            both("자료", "Data"),
            both("{n}행", "{n} rows", n=f"{result.rows:,}"),
            both("길이 한도에서 잘린 행 {n}개", "{n} cut at the length limit", n=f"{result.rows_truncated:,}"),
        ),
        Fact(
            both("학습한 매개변수", "Trained parameters"),
            f"{result.trainable_parameters:,}",
            both("어댑터 {hash}", "adapter {hash}", hash=result.adapter_hash[:12]),
        ),
    ]


def _loss_remark(result: TrainingResult) -> Markup:
    if result.non_finite_steps:
        return Markup('<span class="flag">{}</span>').format(
            both("유한하지 않은 단계 {n}개", "{n} non-finite steps", n=result.non_finite_steps)
        )
    return both("모든 단계의 손실이 유한함", "finite at every step")


def _memory(result: TrainingResult) -> list[Fact]:
    total = result.device_memory_bytes

    def share(value: int) -> Markup:
        return both("전체의 {p}", "{p} of the total", p=percent(value / total)) if total else Markup("")

    return [
        Fact(
            both("장치", "Device"), result.device_name, both("메모리 {total}", "{total} of memory", total=size(total))
        ),
        Fact(both("학습 전", "Before training"), size(result.memory_before_bytes), share(result.memory_before_bytes)),
        Fact(both("최대", "Peak"), size(result.memory_peak_bytes), share(result.memory_peak_bytes)),
        Fact(
            both("학습 사용량", "For training"),
            size(result.memory_training_bytes),
            share(result.memory_training_bytes),
        ),
    ]
