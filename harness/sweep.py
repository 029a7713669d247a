"""Sweeps: one entry of a suite made into many, before its types are checked.

    sweep:
      safety_lora:                  # a step under `training`, or a model under `models`
        lora.r: [8, 16, 64]
        seeds: [1, 2, 3]            # sets trainer.seed and lora.random_state
        checkpoints: [20, 40]       # steps whose adapters are kept and tested

Every combination becomes a plain entry (`safety_lora-r8-s1`), and what names a swept entry follows it: the models that
use a training's adapter (`tuned-r8-step20-s1`), the models that are `like` a swept one, the trainings of a swept
model, the lists of models to time or test. Plan, runner and workloads know nothing of this. Keys may be written with
dots or as nested mappings; both are the same to overrides (`-o sweep.safety_lora.lora.r=[8]`).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.records import Scalar, SweepPoint
from harness.suite_faults import keys_at
from harness.suite_yaml import Document, KeyPath, Value, dotted, nearest
from harness.sweep_keys import mapping_at
from harness.sweep_names import label, short_name

MOST_VARIANTS = 1000
"""Combinations of one entry beyond which a sweep is surely a mistake."""
LONGEST_NAME = 64
SEED_KEYS: tuple[KeyPath, ...] = (("trainer", "seed"), ("lora", "random_state"))
SEEDS: KeyPath = ("seeds",)
CHECKPOINTS: KeyPath = ("checkpoints",)
NAMING_KEYS = {("models", "like"), ("models", "compare_to"), ("training", "model")}
MODEL_LISTS: tuple[KeyPath, ...] = (("performance", "throughput", "models"), ("lm_eval", "models"))

Entry = tuple[str, str]
"""(`training` or `models`, name)."""


@dataclass(frozen=True, eq=False)
class Axis:
    """One swept key of one entry; `source` is where its list stands. Axes are told apart by identity."""

    owner: Entry
    path: KeyPath
    values: tuple[Value, ...]
    source: KeyPath

    @property
    def labels(self) -> list[str]:
        """What each value adds to a generated name."""
        return [label(self.path, value, index) for index, value in enumerate(self.values)]


Choice = Mapping[Axis, int]
"""Axis -> position of the chosen value."""


def expand_sweeps(document: Document) -> tuple[SweepPoint, ...]:
    """Replace every swept entry by its variants, and say which model stands for which values.

    Faults are noted in the document at the keys of the `sweep` section; a faulty sweep leaves its entry as it is.
    """
    if not document.data.get("sweep"):
        return ()
    return _Expander(document).expand()


class _Expander:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.own: dict[Entry, list[Axis]] = {}
        for name in document.keys("sweep"):
            if entry := self._owner(name):
                self.own[entry] = list(self._read_axes(entry, ("sweep", name), ()))

    def expand(self) -> tuple[SweepPoint, ...]:
        axes = {entry: self._axes(entry) for section in ("training", "models") for entry in self._entries(section)}
        for entry, swept in axes.items():
            if swept and (problem := self._problem_of_variants(entry, swept)):
                self.document.add_fault(swept[-1].source, problem)
                return ()
        points: list[SweepPoint] = []
        for section in ("training", "models"):
            variants: dict[str, Value] = {}
            for entry in self._entries(section):
                for name, choice in _variants(entry[1], axes[entry]):
                    variants[name] = self._variant(entry, name, choice, axes)
                    if section == "models" and choice:
                        points.append(_point(entry, name, choice))
            self.document.data[section] = variants
        self._name_variants_in_lists(axes)
        self._name_variants_in_resources(axes)
        return tuple(points)

    # -- reading the section -------------------------------------------------------------------------------------------

    def _entries(self, section: str) -> list[Entry]:
        return [(section, name) for name in self.document.keys(section)]

    def _owner(self, name: str) -> Entry | None:
        """The entry that a key of the section names."""
        found = [section for section in ("training", "models") if name in self.document.keys(section)]
        if len(found) == 1:
            return found[0], name
        names = self.document.keys("training") + self.document.keys("models")
        problem = f"there is no training step and no model '{name}'."
        if found:
            problem = f"a training step and a model are both called '{name}'; rename one of them."
        self.document.add_fault(("sweep", name), problem, None if found else nearest(name, names))
        return None

    def _read_axes(self, entry: Entry, source: KeyPath, path: KeyPath) -> Iterator[Axis]:
        """The swept keys below one key of the section."""
        values: Value = self.document.data
        for part in source:
            assert isinstance(values, dict)
            values = values[str(part)]
        if isinstance(values, dict):
            for key in values:
                yield from self._read_axes(entry, (*source, key), (*path, key))
        elif not path:
            return  # no mapping of keys; the suite's types say so
        elif problem := self._problem(entry, path, values):
            self.document.add_fault(source, *problem)
        else:
            assert isinstance(values, list)
            yield Axis(entry, path, tuple(values), source)

    def _problem(self, entry: Entry, path: KeyPath, values: Value) -> tuple[str, str | None] | None:
        """What is wrong with one swept key, and the nearest valid name."""
        of_training = entry[0] == "training"
        if path in (SEEDS, CHECKPOINTS):
            if not of_training:
                return f"a model has no {path[0]}; sweep those of the training step that makes its adapter.", None
        elif (entry[0], path[0]) in NAMING_KEYS:
            return "this key names another entry and cannot be swept; sweep that entry's own keys.", None
        else:
            known = keys_at((*entry, *path[:-1])) or []
            if path[-1] not in known:
                extra = [*SEEDS, *CHECKPOINTS] if of_training and len(path) == 1 else []
                return f"a {'training step' if of_training else 'model'} has no such key.", nearest(
                    str(path[-1]), [*known, *map(str, extra)]
                )
        if not isinstance(values, list) or not values:
            return "must be a list of the values to try, e.g. [8, 16, 64].", None
        twice = [value for index, value in enumerate(values) if value in values[:index]]
        return (f"{twice[0]!r} is in the list twice.", None) if twice else None

    # -- who depends on what -------------------------------------------------------------------------------------------

    def _axes(self, entry: Entry) -> list[Axis]:
        """The axes that an entry is multiplied by, seeds last. Checkpoints multiply the models, not the training."""
        axes = [axis for axis in self._all_axes(entry, ()) if axis.path != CHECKPOINTS or axis.owner != entry]
        return sorted(axes, key=lambda axis: axis.path == SEEDS)

    def _all_axes(self, entry: Entry, above: tuple[Entry, ...]) -> dict[Axis, str]:
        """Own and inherited axes with the key of the entry that each acts through."""
        values = self._values(entry)
        if values is None or entry in above:
            return {}
        own = {axis: str(axis.path[0]) for axis in self.own.get(entry, ())}
        below = (*above, entry)
        found: dict[Axis, str] = {}
        if entry[0] == "training":
            base = values.get("model")
            found |= dict.fromkeys(self._all_axes(("models", str(base)), below), "model")
        else:
            for axis, through in self._all_axes(("models", str(values.get("like"))), below).items():
                if through not in values and through not in own.values():  # what it gives itself, it does not inherit
                    found[axis] = through
            found |= dict.fromkeys(self._all_axes(("training", str(_trained_by(values))), below), "adapter")
        return found | own

    def _values(self, entry: Entry) -> dict[str, Value] | None:
        values = self._section(entry[:1]).get(entry[1])
        return values if isinstance(values, dict) else None

    # -- writing the variants ------------------------------------------------------------------------------------------

    def _problem_of_variants(self, entry: Entry, axes: list[Axis]) -> str | None:
        count = math.prod(len(axis.values) for axis in axes)
        if count > MOST_VARIANTS:
            product = " x ".join(str(len(axis.values)) for axis in axes)
            return (
                f"{product} = {count:,} variants of '{entry[1]}' are more than {MOST_VARIANTS:,}; "
                "sweep fewer values at once."
            )
        taken = set(self.document.keys(entry[0]))
        for name, _ in _variants(entry[1], axes):
            if len(name) > LONGEST_NAME:
                return f"the generated name '{name}' has more than {LONGEST_NAME} characters; shorten '{entry[1]}'."
            if name in taken:
                return f"the generated name '{name}' is given twice."
            taken.add(name)
        return None

    def _variant(self, entry: Entry, name: str, choice: Choice, axes: Mapping[Entry, list[Axis]]) -> Value:
        """One variant of an entry, with its places; the entry itself where nothing is chosen."""
        section, old_name = entry
        if self._values(entry) is None:
            return self.document.data[section][old_name]  # type: ignore[index,call-overload]
        values = copy.deepcopy(self._values(entry)) or {}
        if choice:
            for path in [path for path in self.document.places if path[:2] == entry]:
                self.document.places[(section, name, *path[2:])] = self.document.places[path]
            self.document.origins[section, name] = entry
        for axis, chosen in choice.items():
            if axis.owner == entry:
                for path in SEED_KEYS if axis.path == SEEDS else (axis.path,):
                    self._set(values, (section, name), path, axis.values[chosen], (*axis.source, chosen))
            elif axis.path == CHECKPOINTS and axis.owner == ("training", _trained_by(values)):
                path = ("adapter", "checkpoint")
                self._set(values, (section, name), path, axis.values[chosen], (*axis.source, chosen))
        for axis in self.own.get(entry, ()):
            if axis.path == CHECKPOINTS:
                self._set(values, (section, name), CHECKPOINTS, list(axis.values), axis.source)
        self._follow(values, entry, choice, axes)
        return values

    def _set(self, values: dict[str, Value], entry: Entry, path: KeyPath, value: Value, source: KeyPath) -> None:
        inner = mapping_at(values, path[:-1])
        if inner is not None:  # else the file has something faulty there, which is reported as it is
            inner[str(path[-1])] = copy.deepcopy(value)
            self.document.origins[(*entry, *path)] = source
            for length in range(1, len(path) + 1):
                self.document.places.setdefault((*entry, *path[:length]), self.document.place(source))

    def _follow(self, values: dict[str, Value], entry: Entry, choice: Choice, axes: Mapping[Entry, list[Axis]]) -> None:
        """Make the names of other entries those of the variants with the same choice."""

        def name_of(other: Entry) -> str:
            return short_name(other[1], [axis.labels[choice.get(axis, 0)] for axis in axes[other]])

        for key in ("like", "model"):
            if (other := ("models", str(values.get(key)))) in axes:
                values[key] = name_of(other)
        if (trained_by := ("training", str(_trained_by(values)))) in axes:
            values["adapter"]["trained_by"] = name_of(trained_by)  # type: ignore[index,call-overload]
        if (baseline := ("models", str(values.get("compare_to")))) in axes:
            values["compare_to"] = name_of(baseline)
            if not all(axis in choice for axis in axes[baseline]):
                problem = f"'{baseline[1]}' is swept; name one of its variants, e.g. {name_of(baseline)}."
                self.document.add_fault((*entry, "compare_to"), problem)

    def _name_variants_in_lists(self, axes: Mapping[Entry, list[Axis]]) -> None:
        for path in MODEL_LISTS:
            holder = self._section(path[:-1])
            names = holder.get("models")
            if isinstance(names, list):
                expanded: list[Value] = []
                holder["models"] = expanded
                for index, name in enumerate(names):
                    for variant, choice in _variants(str(name), axes.get(("models", str(name)), [])):
                        self.document.origins[(*path, len(expanded))] = (*path, index)
                        expanded.append(variant if choice else name)

    def _name_variants_in_resources(self, axes: Mapping[Entry, list[Axis]]) -> None:
        path = ("resources", "by_model")
        written = self._section(path)
        for name, values in list(written.items()):
            if swept := axes.get(("models", name)):
                del written[name]
                for variant, _ in _variants(name, swept):
                    written[variant] = values
                    self.document.origins[*path, variant] = (*path, name)

    def _section(self, path: KeyPath) -> dict[str, Value]:
        """The mapping at a path; an empty one where there is none."""
        values: Value = self.document.data
        for part in path:
            values = values.get(str(part)) if isinstance(values, dict) else None
        return values if isinstance(values, dict) else {}


def _trained_by(values: Mapping[str, Value]) -> Value:
    adapter = values.get("adapter")
    return adapter.get("trained_by") if isinstance(adapter, dict) else None


def _variants(name: str, axes: list[Axis]) -> Iterator[tuple[str, Choice]]:
    """Every combination with its name; the bare name with an empty one where there are no axes."""
    for chosen in itertools.product(*(range(len(axis.values)) for axis in axes)):
        choice = dict(zip(axes, chosen, strict=True))
        yield short_name(name, [axis.labels[position] for axis, position in choice.items()]), choice


def _point(entry: Entry, name: str, choice: Choice) -> SweepPoint:
    """The record of one variant of a model. Seeds are kept apart: they repeat a setting and are none."""
    seeds = [axis.values[chosen] for axis, chosen in choice.items() if axis.path == SEEDS]
    settings = {axis: chosen for axis, chosen in choice.items() if axis.path != SEEDS}
    values: dict[str, Scalar] = {}
    for axis, chosen in settings.items():
        key = dotted(axis.path) if axis.path != CHECKPOINTS else "checkpoint"
        value = axis.values[chosen]
        plain = value if isinstance(value, str | int | float | bool | None) else axis.labels[chosen]
        values[key if key not in values else f"{axis.owner[1]}.{key}"] = plain
    return SweepPoint(
        model=name,
        swept=entry[1],
        setting=short_name(entry[1], [axis.labels[chosen] for axis, chosen in settings.items()]),
        values=values,
        seed=", ".join(str(seed) for seed in seeds) or None,
    )
