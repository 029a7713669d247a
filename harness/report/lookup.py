"""Finds things in a Summary: cells and changes by key, and the names, colours and roles of its models."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import get_args

from markupsafe import Markup

from harness.records import CategoryName
from harness.report.strips import series_class
from harness.report.wording import both
from harness.summary import Cell, Group, PairedChange, Summary

GROUPS: tuple[Group, ...] = get_args(Group)
MOST_MODELS_SIDE_BY_SIDE = 6


class Lookup:
    """Read access to a Summary for the sections of the page."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary

    @cached_property
    def _cells(self) -> dict[tuple[str, str, str | None], Cell]:
        return {(cell.model, cell.group, cell.category): cell for cell in self.summary.cells}

    @cached_property
    def _changes(self) -> dict[tuple[str, str, str | None], PairedChange]:
        return {(change.model, change.group, change.category): change for change in self.summary.changes}

    def cell(self, model: str, group: str, category: str | None = None) -> Cell | None:
        """One model's answers to a group of prompts (or one category of it)."""
        return self._cells.get((model, group, category))

    def change(self, model: str, group: str, category: str | None = None) -> PairedChange | None:
        """The model against its baseline."""
        return self._changes.get((model, group, category))

    def cells(self, group: str, category: str | None = None) -> list[Cell]:
        """All models' cells, in the order of the models; models without answers are left out."""
        found = (self.cell(model, group, category) for model in self.summary.models)
        return [cell for cell in found if cell is not None]

    @property
    def asked(self) -> bool:
        """Whether the run asks prompts at all; a run of performance alone does not."""
        return any(job.kind == "generate" for job in self.summary.header.jobs)

    @cached_property
    def groups(self) -> list[Group]:
        """The groups that have prompts, in the page's order."""
        return [group for group in GROUPS if self.cells(group)]

    @cached_property
    def compared(self) -> list[str]:
        """Models that have a baseline, in order."""
        return [model for model in self.summary.models if model in self.summary.baselines]

    @property
    def many(self) -> bool:
        """Whether there are so many models that details of each are folded away."""
        return len(self.summary.models) > MOST_MODELS_SIDE_BY_SIDE

    def categories(self, group: str) -> list[str]:
        """Categories with prompts of the group: in the taxonomy's order, then the others by name."""
        present = {cell.category for cell in self.summary.cells if cell.group == group and cell.category is not None}
        known = [category for category in self.summary.categories if category in present]
        return known + sorted(present - set(known))

    @cached_property
    def _prompt_counts(self) -> Counter[tuple[str, str]]:
        return Counter((row.group, row.prompt.category) for row in self.summary.rows)

    def prompt_count(self, group: str, category: str) -> int:
        """Number of prompts of a category in a group."""
        return self._prompt_counts[group, category]

    def category(self, category: str) -> CategoryName:
        """A category's names; its id where the taxonomy has none."""
        empty = CategoryName(ko=category, en=category, group_ko="", group_en="")
        return self.summary.categories.get(category, empty)

    def category_name(self, category: str) -> Markup:
        """A category's name in both languages."""
        name = self.category(category)
        return both(name.ko, name.en)

    def number(self, model: str) -> int:
        """Position of the model, which decides its colour and marker."""
        return self.summary.models.index(model) if model in self.summary.models else 0

    def model(self, model: str) -> Markup:
        """A model's name with its colour."""
        return Markup('<span class="model {}">{}</span>').format(series_class(self.number(model)), model)

    def role(self, model: str) -> Markup:
        """Whether the model is compared with another, or is what others are compared with."""
        if model in self.summary.baselines:
            baseline = self.summary.baselines[model]
            return both("{baseline} 대비", "against {baseline}", baseline=baseline)
        if model in self.summary.baselines.values():
            return both("기준", "baseline")
        return Markup("")
