"""What a run's records come to: the types between `metrics` (which computes them) and `report` (which shows them).

Rates are shares in 0..1. Every rate keeps its count, its n and its interval; `None` stands for 'no data'.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.records import (
    CategoryName,
    ContaminationReport,
    Event,
    Evidence,
    Expected,
    GateReport,
    GradingPass,
    LoadedModel,
    Measurement,
    Prompt,
    Record,
    RunHeader,
    Scalar,
    TrainingResult,
    TrainingStep,
    Verdict,
)

Group = Literal["harmful", "lookalike", "general"]
"""harmful: expected 'refuse'. lookalike: expected 'comply' with a harmful twin. general: the other harmless ones."""

SweepMeasure = Literal["harmful", "lookalike", "general", "ability"]
"""Shares that settings of a sweep are compared in: refusals of a group of prompts, or questions answered right."""


class Interval(Record):
    """Two-sided interval at the suite's confidence level."""

    low: float
    high: float


class Rate(Record):
    """count / n with a Wilson interval, and where it can be had the rate corrected for the grader's mistakes.

    `corrected_by` says how: by people's labels of `labels` of these very answers, or by the grader's known error, where
    these labels are none or too few.
    """

    count: int
    n: int
    value: float | None
    interval: Interval | None
    corrected: float | None = None
    corrected_interval: Interval | None = None
    corrected_by: Literal["labels", "error"] | None = None
    labels: int = 0


class Cell(Record):
    """The answers of one model to one group of prompts (`category` None: all of the group's categories).

    `answers` counts what was asked; `failed` requests and `unscored` answers are in no rate's n, while empty and
    incoherent answers are (they are answers, and not refusals). `truncated` ran into the token limit.
    """

    model: str
    group: Group
    category: str | None
    answers: int
    verdicts: dict[Verdict, int]
    failed: int
    truncated: int
    refusal: Rate
    incoherent: Rate
    empty: Rate
    mean_new_tokens: float | None


class PairedChange(Record):
    """Baseline against model on the same prompts: refusals gained and lost, exact McNemar, paired interval."""

    baseline: str
    model: str
    group: Group
    category: str | None
    n: int
    both: int
    gained: int
    lost: int
    neither: int
    difference: float | None
    interval: Interval | None
    p_value: float | None


class Answer(Record):
    """One answer with its verdict, ready to be shown."""

    text: str
    finish_reason: str
    new_tokens: int
    error: str | None
    verdict: Verdict | None
    evidence: tuple[Evidence, ...]


class AnswerRow(Record):
    """One prompt with every model's answers (model name -> one answer per repeat)."""

    prompt: Prompt
    group: Group
    answers: dict[str, tuple[Answer, ...]]


class TrainingReport(Record):
    """One training step of the suite: what it cost and how the loss went."""

    result: TrainingResult
    steps: tuple[TrainingStep, ...]
    cached: bool


class GraderInfo(Record):
    """Which grader made the verdicts of the headline, and on what labels its error is known.

    `calibrated_on` is 'gold' (the gold set of the harness) or 'human' (people's labels of this run);
    `calibration_labels` counts the labelled answers to prompts of each expectation.
    """

    name: str
    version: str
    calibrated_on: Literal["gold", "human"] | None = None
    calibration_labels: dict[Expected, int] = {}


class Kappa(Record):
    """Agreement on n answers: the share on which graders agree, and kappa, which takes out what chance would give.

    `value` is None where every verdict is the same and kappa is not defined; `interval` also where all agree, since
    then its formula gives no width however few the answers are.
    """

    n: int
    observed: float | None
    value: float | None
    interval: Interval | None


class PairAgreement(Record):
    """Two graders ('grader@version') on the answers both could decide; `undecided` counts the others both saw."""

    first: str
    second: str
    undecided: int
    verdicts: Kappa
    refusal: Kappa = Field(description="with every verdict taken as refusal or not refusal")


class GroupAgreement(Record):
    """Fleiss' kappa of three graders or more on the answers that all could decide."""

    graders: tuple[str, ...]
    undecided: int
    verdicts: Kappa
    refusal: Kappa


class Disagreement(Record):
    """An answer that graders judged differently; `verdicts` maps 'grader@version' to its verdict."""

    model: str
    prompt_id: str
    repeat: int
    verdicts: dict[str, Verdict]


class LabelFlip(Record):
    """An answer to which a later version of a grader gives another verdict than an earlier one."""

    earlier: str
    later: str
    model: str
    prompt_id: str
    repeat: int
    earlier_verdict: Verdict
    later_verdict: Verdict


class GraderRate(Record):
    """One grader's refusal rate for one model and group of prompts, with the answers it could not decide."""

    grader: str
    model: str
    group: Group
    answers: int
    unscored: int
    refusal: Rate


class GraderComparison(Record):
    """All graders of one run side by side. Graders are named 'grader@version', each by its newest version.

    `pairs`, `groups` and `disagreements` leave out the vote of the judges against its own voters; `passes` are those
    that asked a server, with what they cost. `regraded` are the (earlier, later) versions that `flips` compares.
    """

    graders: tuple[str, ...]
    rates: tuple[GraderRate, ...]
    pairs: tuple[PairAgreement, ...]
    groups: tuple[GroupAgreement, ...]
    disagreements: tuple[Disagreement, ...]
    flips: tuple[LabelFlip, ...]
    regraded: tuple[tuple[str, str], ...] = ()
    passes: tuple[GradingPass, ...]


class AbilityScore(Record):
    """One metric of one lm-eval task for one model, with lm-eval's standard error and the number of questions."""

    model: str
    task: str
    metric: str
    filter: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool | None
    group: bool


class AbilityChange(Record):
    """Baseline against model on the same questions of a task; the difference is model minus baseline.

    For a metric that is 0 or 1 per question: questions gained and lost, exact McNemar, Newcombe's paired interval.
    For any other: the mean of the differences with its normal interval.
    """

    baseline: str
    model: str
    task: str
    metric: str
    filter: str
    n: int
    gained: int | None
    lost: int | None
    difference: float
    interval: Interval | None
    p_value: float | None


class SettingRate(Record):
    """One measure of one setting: the mean of its seeds' shares over the n prompts that all of them decided.

    The interval is for seeds and prompts not tried; with one seed it is Wilson's, for prompts alone.
    """

    measure: SweepMeasure
    n: int
    value: float
    interval: Interval
    by_seed: tuple[float, ...]


class SweepSetting(Record):
    """Models that differ in their seeds alone, or a single model outside the sweep (without `values`)."""

    name: str
    swept: str
    values: dict[str, Scalar]
    models: tuple[str, ...]
    trained: bool = Field(description="its adapter was trained by the suite, so that another seed gives another model")
    rates: tuple[SettingRate, ...]


class SettingDifference(Record):
    """First minus second on the n prompts that all their seeds decided; `adjusted` is Holm's over the whole sweep."""

    measure: SweepMeasure
    first: str
    second: str
    n: int
    difference: float
    interval: Interval
    p_value: float
    adjusted: float


class SweepSummary(Record):
    """The settings of a sweep, and the tests of those that differ in one key or are baseline and model."""

    settings: tuple[SweepSetting, ...]
    differences: tuple[SettingDifference, ...]
    ability_tasks: tuple[str, ...] = Field(description="'task (metric)' whose questions make up the measure 'ability'")


class PrecisionFlips(Record):
    """One model's answers in one precision against those in the reference precision, to the same prompts.

    `repeat` 1 of the reference itself shows what differs without a change of precision. Positions count tokens of the
    answers' text from 0, for the answers that differ. `gained` and `lost` are refusals; p is exact McNemar's.
    """

    model: str
    dtype: str
    quantization: str
    repeat: int
    reference_dtype: str
    reference_quantization: str
    equal: Rate
    first_differences: tuple[int, ...]
    verdict_flips: Rate
    changes: dict[str, int] = Field(description="'verdict → verdict' -> answers")
    refusals: int
    gained: int
    lost: int
    difference: float | None
    interval: Interval | None
    p_value: float | None


class Summary(Record):
    """Everything the page shows, computed from a run folder alone."""

    header: RunHeader
    grader: GraderInfo
    confidence: float
    complete: bool
    demonstration: bool = False
    random_weights: tuple[str, ...] = Field((), description="models whose weights were made from a seed")
    models: tuple[str, ...]
    baselines: dict[str, str]
    categories: dict[str, CategoryName]
    cells: tuple[Cell, ...]
    changes: tuple[PairedChange, ...]
    rows: tuple[AnswerRow, ...]
    trainings: tuple[TrainingReport, ...]
    measurements: tuple[Measurement, ...]
    loaded: tuple[LoadedModel, ...]
    events: tuple[Event, ...]
    graders: GraderComparison | None = None
    contamination: ContaminationReport | None = None
    abilities: tuple[AbilityScore, ...] = ()
    ability_changes: tuple[AbilityChange, ...] = ()
    precision_flips: tuple[PrecisionFlips, ...] = ()
    sweep: SweepSummary | None = None
    seconds_by_job: dict[str, float]
    gates: GateReport | None = None
