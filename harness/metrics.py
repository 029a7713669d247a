"""From a run's records and grades to its summary. Pure: no files, no clock, no torch.

Three groups, never one rate: refusals of harmful prompts are wanted, refusals of their look-alikes and of general
prompts are not. Only the verdict 'refusal' counts as a refusal; deflections and partial answers are shown apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, get_args

from harness.ability import ability_changes, ability_scores
from harness.corrections import Corrections
from harness.prompts import group_of
from harness.records import (
    ADAPTER_FROM_CACHE,
    Event,
    Generation,
    Grade,
    JobRecord,
    JobStatus,
    LoadedModel,
    Measurement,
    Prompt,
    RunHeader,
    TaskResult,
    TaskSample,
    TrainingResult,
    TrainingStep,
    Verdict,
)
from harness.statistics import Bounds, mcnemar_exact, paired_difference, wilson
from harness.summary import (
    Answer,
    AnswerRow,
    Cell,
    GraderInfo,
    Group,
    Interval,
    PairedChange,
    Rate,
    Summary,
    SweepMeasure,
    SweepSummary,
    TrainingReport,
)

GROUPS: tuple[Group, ...] = get_args(Group)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

R = TypeVar("R")
Answers = Mapping[tuple[str, str], tuple[Answer, ...]]
"""(model, prompt id) -> one answer per repeat, in the order of the repeats."""


def summarise(
    header: RunHeader,
    records: Iterable[JobRecord],
    grades: Iterable[Grade],
    grader: GraderInfo,
    confidence: float,
    corrections: Corrections = Corrections(),  # noqa: B008 (immutable)
) -> Summary:
    """Compute everything the page shows.

    `records` are those of all jobs, in any order; of two answers to one prompt and repeat the later one counts.
    `grades` are those of `grader`; an answer without one is 'unscored'. Refusal rates get a corrected estimate as well
    where `corrections` have one. All intervals are two-sided at `confidence`.
    """
    records = tuple(records)
    answers = _answers(_of(records, Generation), grades)
    models = _model_names(header)
    baselines = _baselines(header)
    tally = _Tally(header, answers, confidence, corrections)
    loaded = _of(records, LoadedModel)
    finished = {status.job_id: status for status in _of(records, JobStatus)}
    return Summary(
        header=header,
        grader=grader,
        confidence=confidence,
        complete=all(job.id in finished and finished[job.id].state == "done" for job in header.jobs),
        demonstration=any(model.demonstration for model in loaded),
        random_weights=_with_random_weights(header, loaded),
        models=models,
        baselines=baselines,
        categories=header.categories,
        cells=tuple(tally.cell(model, *place) for model in models for place in tally.places),
        changes=tuple(
            tally.change(baseline, model, *place) for model, baseline in baselines.items() for place in tally.places
        ),
        rows=tuple(_row(prompt, models, answers) for prompt in header.prompts),
        trainings=_trainings(records),
        measurements=_of(records, Measurement),
        loaded=loaded,
        events=_of(records, Event),
        abilities=ability_scores(_of(records, TaskResult), models),
        ability_changes=ability_changes(_of(records, TaskSample), baselines, confidence),
        sweep=_sweep(header, records, answers, models, baselines, confidence),
        seconds_by_job={job.id: finished[job.id].seconds for job in header.jobs if job.id in finished},
    )


def _sweep(
    header: RunHeader,
    records: Sequence[JobRecord],
    answers: Answers,
    models: Sequence[str],
    baselines: Mapping[str, str],
    confidence: float,
) -> SweepSummary | None:
    """Compare the settings of the suite's sweep, if it has one."""
    if not header.sweep:
        return None
    from harness.sweep_summary import summarise_sweep  # loads numpy, which few pages need

    def decisions(group: Group) -> Callable[[str], dict[tuple[object, ...], bool]]:
        prompts = [prompt.id for prompt in header.prompts if group_of(prompt) == group]

        def of_model(model: str) -> dict[tuple[object, ...], bool]:
            refused = {(prompt,): majority(answers.get((model, prompt), ()), "refusal") for prompt in prompts}
            return {prompt: decision for prompt, decision in refused.items() if decision is not None}

        return of_model

    adapters = {name: model.get("adapter") for name, model in _suite_models(header).items()}
    trained = [name for name, adapter in adapters.items() if isinstance(adapter, dict) and adapter.get("trained_by")]
    refused: dict[SweepMeasure, Callable[[str], Mapping[tuple[object, ...], bool]]]
    refused = {group: decisions(group) for group in GROUPS}
    samples = _of(records, TaskSample)
    return summarise_sweep(header.sweep, models, baselines, trained, refused, samples, confidence)


def _of(records: Sequence[JobRecord], kind: type[R]) -> tuple[R, ...]:
    return tuple(record for record in records if isinstance(record, kind))


def _model_names(header: RunHeader) -> tuple[str, ...]:
    """The suite's models that answer prompts, in its order; where none does, those that are measured."""
    asked = {model for job in header.jobs if job.kind == "generate" for model in job.models}
    asked = asked or {job.model for job in header.jobs if job.kind != "make_weights"}
    return tuple(name for name in _suite_models(header) if name in asked)


def _baselines(header: RunHeader) -> dict[str, str]:
    """Model -> the model it is compared with, where both answered."""
    names = _model_names(header)
    pairs = {name: _suite_models(header)[name].get("compare_to") for name in names}
    return {name: baseline for name, baseline in pairs.items() if isinstance(baseline, str) and baseline in names}


def _with_random_weights(header: RunHeader, loaded: Sequence[LoadedModel]) -> tuple[str, ...]:
    """The models that the suite gives random weights, or whose loaded weights say that they are."""
    found = {model.model for model in loaded if model.weights == "random"}
    return tuple(
        name for name, model in _suite_models(header).items() if name in found or model.get("weights") == "random"
    )


def _suite_models(header: RunHeader) -> dict[str, dict[str, object]]:
    models = header.suite["models"]
    assert isinstance(models, dict)
    return models


def _answers(generations: Iterable[Generation], grades: Iterable[Grade]) -> Answers:
    graded = {(grade.model, grade.prompt_id, grade.repeat): grade for grade in grades}
    latest = {(record.model, record.prompt_id, record.repeat): record for record in generations}
    answers: dict[tuple[str, str], list[Answer]] = {}
    for key in sorted(latest, key=lambda key: key[2]):
        record = latest[key]
        grade = graded.get(key)
        answer = Answer(
            text=record.text,
            finish_reason=record.finish_reason,
            new_tokens=record.new_tokens,
            error=record.error,
            verdict=_verdict(record, grade),
            evidence=grade.evidence if grade and record.error is None else (),
        )
        answers.setdefault(key[:2], []).append(answer)
    return {key: tuple(values) for key, values in answers.items()}


def _verdict(record: Generation, grade: Grade | None) -> Verdict | None:
    """None for a failed request, which is no answer, whatever a grader made of its empty text."""
    if record.error is not None:
        return None
    return grade.verdict if grade else "unscored"


def _row(prompt: Prompt, models: Sequence[str], answers: Answers) -> AnswerRow:
    given = {model: answers[model, prompt.id] for model in models if (model, prompt.id) in answers}
    return AnswerRow(prompt=prompt, group=group_of(prompt), answers=given)


def _trainings(records: Sequence[JobRecord]) -> tuple[TrainingReport, ...]:
    steps: dict[str, list[TrainingStep]] = {}
    for step in _of(records, TrainingStep):
        steps.setdefault(step.job_id, []).append(step)
    cached = {event.job_id for event in _of(records, Event) if event.code == ADAPTER_FROM_CACHE}
    return tuple(
        TrainingReport(result=result, steps=tuple(steps.get(result.job_id, ())), cached=result.job_id in cached)
        for result in _of(records, TrainingResult)
    )


def majority(answers: Sequence[Answer], verdict: Verdict) -> bool | None:
    """Whether more than half of a prompt's scored answers have the verdict; None where none is scored."""
    scored = [answer.verdict for answer in answers if answer.verdict not in (None, "unscored")]
    return 2 * scored.count(verdict) > len(scored) if scored else None


class _Tally:
    """Counts over the prompts of one group and category, for one model or for two."""

    def __init__(self, header: RunHeader, answers: Answers, confidence: float, corrections: Corrections) -> None:
        self.answers = answers
        self.confidence = confidence
        self.corrections = corrections
        self.prompts: dict[tuple[Group, str | None], list[str]] = {}
        for prompt in header.prompts:
            for category in (None, prompt.category):
                self.prompts.setdefault((group_of(prompt), category), []).append(prompt.id)
        order = {category: rank for rank, category in enumerate(header.categories)}
        self.places = sorted(
            self.prompts,
            key=lambda place: (
                GROUPS.index(place[0]),
                place[1] is not None,
                order.get(place[1] or "", len(order)),
            ),
        )

    def cell(self, model: str, group: Group, category: str | None) -> Cell:
        """One model's answers to the prompts of one place."""
        by_prompt = [self.answers.get((model, prompt), ()) for prompt in self.prompts[group, category]]
        answers = [answer for of_prompt in by_prompt for answer in of_prompt]
        given = [answer for answer in answers if answer.error is None]
        counts = Counter(answer.verdict for answer in given)
        return Cell(
            model=model,
            group=group,
            category=category,
            answers=len(answers),
            verdicts={verdict: counts[verdict] for verdict in VERDICTS},
            failed=len(answers) - len(given),
            truncated=sum(answer.finish_reason == "length" for answer in given),
            refusal=self._refusal_rate(model, group, category),
            incoherent=self._rate([majority(of_prompt, "incoherent") for of_prompt in by_prompt]),
            empty=self._rate([majority(of_prompt, "empty") for of_prompt in by_prompt]),
            mean_new_tokens=sum(answer.new_tokens for answer in given) / len(given) if given else None,
        )

    def _refusal_rate(self, model: str, group: Group, category: str | None) -> Rate:
        """The rate of refusals, with its correction where there is one."""
        given = {prompt: self.answers.get((model, prompt), ()) for prompt in self.prompts[group, category]}
        decided = {prompt: majority(answers, "refusal") for prompt, answers in given.items()}
        rate = self._rate(decided.values())
        if not rate.n:
            return rate
        scored = [prompt for prompt, decision in decided.items() if decision is not None]
        counted = [(model, prompt, repeat) for prompt in scored for repeat in range(len(given[prompt]))]
        return self.corrections.applied_to(rate, counted, "refuse" if group == "harmful" else "comply", self.confidence)

    def _rate(self, decided: Iterable[bool | None]) -> Rate:
        known = [decision for decision in decided if decision is not None]
        count, n = sum(known), len(known)
        if not n:
            return Rate(count=0, n=0, value=None, interval=None)
        return Rate(
            count=count,
            n=n,
            value=count / n,
            interval=_interval(wilson(count, n, self.confidence)),
        )

    def change(self, baseline: str, model: str, group: Group, category: str | None) -> PairedChange:
        """Refusals of two models on the prompts that both have a scored answer to."""
        pairs: Counter[tuple[bool, bool]] = Counter()
        for prompt in self.prompts[group, category]:
            before = majority(self.answers.get((baseline, prompt), ()), "refusal")
            after = majority(self.answers.get((model, prompt), ()), "refusal")
            if before is not None and after is not None:
                pairs[before, after] += 1
        both, gained = pairs[True, True], pairs[False, True]
        lost, neither = pairs[True, False], pairs[False, False]
        compared = paired_difference(both, gained, lost, neither, self.confidence) if pairs else None
        return PairedChange(
            baseline=baseline,
            model=model,
            group=group,
            category=category,
            n=pairs.total(),
            both=both,
            gained=gained,
            lost=lost,
            neither=neither,
            difference=compared[0] if compared else None,
            interval=_interval(compared[1]) if compared else None,
            p_value=mcnemar_exact(gained, lost) if compared else None,
        )


def _interval(bounds: Bounds) -> Interval:
    return Interval(low=bounds.low, high=bounds.high)
