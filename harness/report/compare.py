"""`render_comparison`: two runs on one page.

The two runs are made into one summary in which each model of run B is compared with its counterpart in run A; all
the parts of a run's page then serve for two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from harness.metrics import majority
from harness.records import GateReport, Measurement, Prompt
from harness.report.answers import answers_json
from harness.report.gates import gates_view
from harness.report.graders import corrected_by, correction_notes, too_few_labels
from harness.report.lookup import Lookup
from harness.report.measurement_kinds import KINDS, Kind
from harness.report.performance import condition, condition_keys, quartiles
from harness.report.plots import rate_panels
from harness.report.ratios import conditions_key
from harness.report.rendering import render
from harness.report.sentences import change_sentence
from harness.report.tables import Column, Entry, Table, category_table, change_table
from harness.report.wording import NO_DATA, both, join, quantity, setting, without_machine_paths
from harness.statistics import mcnemar_exact, paired_difference
from harness.summary import AnswerRow, Interval, PairedChange, Summary

LETTERS = ("A", "B")


@dataclass(frozen=True)
class Difference:
    """One setting that is not the same in the two runs."""

    name: str
    first: str
    second: str


def render_comparison(a: Summary, b: Summary, gates: GateReport | None = None) -> str:
    """Gates of B against A, rates with paired changes, speeds as ratios, settings that differ, and the answers."""
    pairs = paired_models(a, b)
    merged = merge(a, b, pairs)
    lookup = Lookup(merged)
    return render(
        "compare.html.j2",
        runs=list(zip(LETTERS, (a, b), strict=True)),
        lookup=lookup,
        gates=gates_view(gates),
        sweep=None,
        level=f"{merged.confidence:.0%}",
        sentences=[
            change_sentence(
                lookup,
                f"B:{second}",
                who=(f"{second} 모델의 경우, A에서 B로 바뀌면서", f"For model {second}, going from A to B"),
            )
            for _, second in pairs
        ],
        common=len(merged.rows),
        only=(len(a.rows) - len(merged.rows), len(b.rows) - len(merged.rows)),
        graders={letter: summary.grader for letter, summary in zip(LETTERS, (a, b), strict=True)},
        corrected_by=corrected_by,
        correction_notes=correction_notes,
        too_few_labels=too_few_labels,
        rate_plots=rate_panels(lookup),
        changes=change_table(lookup),
        category_tables=[(group, category_table(lookup, group)) for group in lookup.groups if lookup.categories(group)],
        speeds=speed_table(a, b, pairs),
        same_machine=_machine(a) == _machine(b),
        differences=setting_differences(a, b),
        answers=answers_json(lookup),
    )


def paired_models(a: Summary, b: Summary) -> list[tuple[str, str]]:
    """Which model of A belongs with which of B: the same name first, then the same role in the order of the suites."""
    pairs = [(name, name) for name in a.models if name in b.models]
    for role in (False, True):
        left = [name for name in a.models if name not in b.models and (name in a.baselines) is role]
        right = [name for name in b.models if name not in a.models and (name in b.baselines) is role]
        pairs += zip(left, right, strict=False)
    return pairs


def merge(a: Summary, b: Summary, pairs: list[tuple[str, str]]) -> Summary:
    """One summary of both runs over the prompts that they share (same id and same text).

    Rates are each run's own; changes are computed over the shared prompts only.
    """
    rows = _shared_rows(a, b, pairs)
    names = {("A", first): f"A:{first}" for first, _ in pairs} | {("B", second): f"B:{second}" for _, second in pairs}
    cells = [
        cell.model_copy(update={"model": names[letter, cell.model]})
        for letter, summary in zip(LETTERS, (a, b), strict=True)
        for cell in summary.cells
        if (letter, cell.model) in names
    ]
    baselines = {f"B:{second}": f"A:{first}" for first, second in pairs}
    places = dict.fromkeys((row.group, category) for row in rows for category in (None, row.prompt.category))
    return b.model_copy(
        update={
            "models": tuple(name for pair in baselines.items() for name in reversed(pair)),
            "baselines": baselines,
            "categories": {**a.categories, **b.categories},
            "cells": tuple(cells),
            "rows": tuple(rows),
            "changes": tuple(
                _change(
                    [row for row in rows if row.group == group and category in (None, row.prompt.category)],
                    PairedChange(
                        baseline=baseline,
                        model=model,
                        group=group,
                        category=category,
                        n=0,
                        both=0,
                        gained=0,
                        lost=0,
                        neither=0,
                        difference=None,
                        interval=None,
                        p_value=None,
                    ),
                    b.confidence,
                )
                for model, baseline in baselines.items()
                for group, category in places
            ),
        }
    )


def _shared_rows(a: Summary, b: Summary, pairs: list[tuple[str, str]]) -> list[AnswerRow]:
    others = {row.prompt.id: row for row in b.rows}
    rows = []
    for row in a.rows:
        other = others.get(row.prompt.id)
        if other is None or _asked(other.prompt) != _asked(row.prompt):
            continue
        answers = {f"A:{first}": row.answers[first] for first, _ in pairs if first in row.answers}
        answers |= {f"B:{second}": other.answers[second] for _, second in pairs if second in other.answers}
        rows.append(other.model_copy(update={"answers": answers}))
    return rows


def _asked(prompt: Prompt) -> tuple[str, str]:
    return prompt.text, prompt.expected


def _change(rows: list[AnswerRow], empty: PairedChange, confidence: float) -> PairedChange:
    pairs: Counter[tuple[bool, bool]] = Counter()
    for row in rows:
        before = majority(row.answers.get(empty.baseline, ()), "refusal")
        after = majority(row.answers.get(empty.model, ()), "refusal")
        if before is not None and after is not None:
            pairs[before, after] += 1
    if not pairs:
        return empty
    counts = pairs[True, True], pairs[False, True], pairs[True, False], pairs[False, False]
    difference, bounds = paired_difference(*counts, confidence)
    both_refuse, gained, lost, neither = counts
    return empty.model_copy(
        update={
            "n": pairs.total(),
            "both": both_refuse,
            "gained": gained,
            "lost": lost,
            "neither": neither,
            "difference": difference,
            "interval": Interval(low=bounds.low, high=bounds.high),
            "p_value": mcnemar_exact(gained, lost),
        }
    )


def speed_table(a: Summary, b: Summary, pairs: list[tuple[str, str]]) -> Table | None:
    """Medians of the measurements that both runs made under the same conditions, and B's ratio to A's."""
    counterpart = {second: first for first, second in pairs}
    measured = {_key(item, item.model): item for item in a.measurements if item.values}
    rows = []
    for item in b.measurements:
        first = measured.get(_key(item, counterpart.get(item.model, item.model)))
        if first is not None and item.values:
            rows.append(_speed_row(first, item))
    columns = [
        Column("측정", "Measurement"),
        Column("A 중앙값", "A median", "number"),
        Column("B 중앙값", "B median", "number"),
        Column("B / A", "B / A", "number"),
    ]
    order = {name: position for position, name in enumerate(KINDS)}
    rows.sort(key=lambda row: (order.get(row[0], len(order)), row[0]))
    return Table(columns, [entries for _, entries in rows]) if rows else None


def _key(item: Measurement, model: str) -> tuple[str, str, str]:
    return item.name, model, conditions_key(item)


def _speed_row(first: Measurement, second: Measurement) -> tuple[str, list[Entry]]:
    kind = KINDS.get(first.name, Kind(first.name, first.name, "other"))
    conditions = [condition(second, key) for key in condition_keys([second])]
    label = Markup("{}<small>{}</small>").format(both(kind.ko, kind.en), join([second.model, *conditions], " · "))
    before, after = quartiles(first.values)[1], quartiles(second.values)[1]
    reason = first.not_comparable or second.not_comparable
    if reason:
        ratio = Entry(
            Markup('<span class="flag" title="{}">{}</span>').format(reason, both("비교 불가", "not comparable"))
        )
    else:
        ratio = Entry(Markup("<b>× {:.2f}</b>").format(after / before), after / before) if before else Entry(NO_DATA)
    return first.name, [
        Entry(label),
        Entry(quantity(before, first.unit), before),
        Entry(quantity(after, second.unit), after),
        ratio,
    ]


def _machine(summary: Summary) -> tuple[object, ...]:
    environment = summary.header.environment
    return environment.cpu, environment.cpu_cores, environment.gpus


def setting_differences(a: Summary, b: Summary) -> list[Difference]:
    """Every setting, version, hash and part of the machine that differs, by dotted name."""
    first, second = _settings(a), _settings(b)
    return [
        Difference(name, setting(first.get(name)), setting(second.get(name)))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]


def _settings(summary: Summary) -> dict[str, object]:
    environment = summary.header.environment
    found: dict[str, object] = {
        "grader": f"{summary.grader.name} {summary.grader.version}",
        **_flat("suite", without_machine_paths(summary.header.suite)),
        **_flat("machine", environment.model_dump(include={"cpu", "cpu_cores", "memory_bytes", "platform", "python"})),
        "machine.gpus": ", ".join(gpu.name for gpu in environment.gpus) or None,
        "commit": environment.git_commit,
        **_flat("package", environment.packages),
    }
    for loaded in summary.loaded:
        found[f"loaded.{loaded.model}.weights"] = loaded.content_hash
        found[f"loaded.{loaded.model}.adapter"] = loaded.adapter_hash
        found[f"loaded.{loaded.model}.compute_dtype"] = loaded.compute_dtype
    return found


def _flat(name: str, value: object) -> dict[str, object]:
    if isinstance(value, Mapping) and value:
        return {key: leaf for part, inner in value.items() for key, leaf in _flat(f"{name}.{part}", inner).items()}
    return {name: value}
