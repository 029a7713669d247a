"""`render_report`: a run's Summary as one self-contained HTML page.

The page is a pure function of the Summary: no clock, no path of this machine, nothing read but the page's own
templates. The same Summary gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from harness.report import method, performance, precision
from harness.report.ability import ability_view
from harness.report.answers import answers_json
from harness.report.contamination import contamination_view
from harness.report.gates import gates_view
from harness.report.graders import corrected_by, correction_notes, graders_view, too_few_labels
from harness.report.headline import headlines
from harness.report.lookup import Lookup
from harness.report.pareto import sweep_headline, sweep_view
from harness.report.plots import Series, batch_panel, rate_panels
from harness.report.precision_flips import flips_table
from harness.report.random_weights import mark_figures
from harness.report.rendering import render
from harness.report.roofline import roofline_view
from harness.report.tables import category_table, caveats, change_table, verdict_table
from harness.report.training import training_views
from harness.summary import Summary

HEADLINES_SHOWN = 3
"""Sentences about models that are shown at once; further ones are folded away."""
HEADLINES_SHOWN_OF_A_SWEEP = 1
TRAININGS_SHOWN = 3


@dataclass(frozen=True)
class PerformanceFigure:
    """A plot over batch sizes with its legend."""

    unit: str
    plot: Markup
    legend: tuple[tuple[int, str], ...]


def render_report(summary: Summary) -> str:
    """The whole page as HTML text."""
    lookup = Lookup(summary)
    sections = performance.sections(lookup)
    page = render(
        "report.html.j2",
        summary=summary,
        header=summary.header,
        lookup=lookup,
        level=f"{summary.confidence:.0%}",
        headlines=[*sweep_headline(summary), *headlines(lookup)],
        headlines_shown=HEADLINES_SHOWN_OF_A_SWEEP if summary.sweep else HEADLINES_SHOWN,
        sweep=sweep_view(summary),
        unfinished=method.unfinished_jobs(summary),
        rate_plots=rate_panels(lookup),
        caveats=caveats,
        corrected_by=corrected_by,
        correction_notes=correction_notes,
        too_few_labels=too_few_labels,
        verdicts=verdict_table(lookup),
        changes=change_table(lookup),
        gates=gates_view(summary.gates),
        ability=ability_view(lookup),
        category_tables=[(group, category_table(lookup, group)) for group in lookup.groups if lookup.categories(group)],
        answers=answers_json(lookup),
        trainings=training_views(summary),
        trainings_shown=TRAININGS_SHOWN,
        graders=graders_view(lookup),
        contamination=contamination_view(summary),
        performance=sections,
        performance_figures={section.name: _figure(lookup, section) for section in sections},
        precision_remarks=performance.remarks(precision.measured(lookup)),
        precision_raw=performance.raw(precision.measured(lookup)),
        precision=precision.precision_view(lookup),
        precision_notes=precision.notes(lookup),
        performance_notes=performance.notes(lookup),
        flips=flips_table(lookup),
        roofline=roofline_view(lookup),
        machine=method.machine_table(summary),
        packages=method.packages(summary),
        loaded=method.loaded_table(lookup),
        jobs=method.job_table(summary),
        events=method.sorted_events(summary),
        suite=method.suite_text(summary),
    )
    return mark_figures(page) if summary.random_weights else page


def _figure(lookup: Lookup, section: performance.Section) -> PerformanceFigure | None:
    """The section's plot over batch sizes, where several were measured."""
    lines = performance.batch_lines(section)
    if not lines:
        return None
    milliseconds = section.figures[0].unit in ("s", "second", "seconds")
    series = []
    for order, (label, line) in enumerate(lines.items()):
        batches = sorted(line)
        quartiles = [performance.quartiles(line[batch].values) for batch in batches]
        series.append(
            Series(
                label=label,
                # Colour follows the model; a model measured in several precisions needs one per line instead.
                number=lookup.number(label) if label in lookup.summary.models else order,
                batches=tuple(batches),
                medians=tuple(middle for _, middle, _ in quartiles),
                lower_quartiles=tuple(low for low, _, _ in quartiles),
                upper_quartiles=tuple(high for _, _, high in quartiles),
            )
        )
    return PerformanceFigure(
        unit="ms" if milliseconds else section.figures[0].unit,
        plot=batch_panel(f"batch-{section.name}", series, 0.001 if milliseconds else 1.0),
        legend=tuple((line.number, line.label) for line in series),
    )
