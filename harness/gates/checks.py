"""Checks of a suite's gates before anything runs: every name must exist and every key must have a meaning there."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from harness.gates.vocabulary import (
    ABILITY,
    HOW_IT_WAS_RUN,
    LIMITS,
    MEASUREMENTS,
    METRICS,
    PEAKS,
    RATES,
    SHARES,
    SINGLE,
    STEPS,
    TIMED,
    TRAININGS,
    Comparison,
    comparison_of,
    conditions_text,
    fitting,
    groups_of,
    limits_of,
    varying,
)
from harness.lm_eval_tasks import task_names, tests_task
from harness.prompts import group_of
from harness.records import Prompt, Scalar
from harness.suite import Gate, Suite
from harness.suite_paths import is_folder
from harness.suite_yaml import KeyPath, nearest

CONDITIONS = ("batch_size", "prompt_tokens", "new_tokens", "dtype", "quantization", "engine", *sorted(HOW_IT_WAS_RUN))


class Note(Protocol):
    """Notes a fault at a key path, with the nearest valid name."""

    def __call__(self, path: KeyPath, problem: str, close: str | None = None) -> None:
        """Note one."""


def check_gates(
    suite: Suite,
    prompts: Sequence[Prompt],
    note: Note,
    base: Path,
    baselines: Collection[str] | None,
    unsure: Collection[str] = (),
) -> None:
    """Note the faults of all gates. `baselines` are the saved runs' names, or None where that is not to be checked.

    Nothing is said about a gate's part that rests on an `unsure` section: one that has faults of its own.
    """
    folders = [base / name for name in suite.lm_eval.task_folders if is_folder(base / name)] if suite.lm_eval else []
    for name, gate in suite.gates.items():
        _GateCheck(suite, prompts, note, folders, baselines, unsure, name, gate).check()


def models_of(gate: Gate, names: Iterable[str]) -> list[str]:
    """The models that a gate's name or pattern means."""
    return [name for name in names if gate.model is not None and fnmatchcase(name, gate.model)]


class _GateCheck:
    def __init__(
        self,
        suite: Suite,
        prompts: Sequence[Prompt],
        note: Note,
        folders: Sequence[Path],
        baselines: Collection[str] | None,
        unsure: Collection[str],
        name: str,
        gate: Gate,
    ) -> None:
        self.suite = suite
        self.prompts = prompts
        self.note = note
        self.folders = folders
        self.baselines = baselines
        self.unsure = unsure
        self.path: KeyPath = ("gates", name)
        self.gate = gate
        self.models = models_of(gate, suite.models)

    def check(self) -> None:
        """Note everything that is wrong with the gate."""
        gate = self.gate
        given = limits_of(gate)
        if len(given) != 1:
            which = " and ".join(given) if given else "none is given"
            self._fault((), f"give exactly one limit: {', '.join(LIMITS)} ({which}).")
        if gate.metric not in METRICS:
            self._fault(("metric",), f"there is no metric '{gate.metric}'.", nearest(gate.metric, METRICS))
            return
        self._subject()
        self._keys_without_meaning()
        if len(given) == 1:
            self._limit(given[0])
        if gate.metric in RATES or gate.metric in SHARES:
            self._prompts()
        elif gate.metric == ABILITY:
            self._ability()
        elif gate.metric in MEASUREMENTS:
            for model in self.models:
                self._measurement(model)

    def _fault(self, keys: KeyPath, problem: str, close: str | None = None) -> None:
        self.note((*self.path, *keys), problem, close)

    def _subject(self) -> None:
        gate = self.gate
        if gate.metric in TRAININGS:
            if gate.model is not None:
                self._fault(("model",), f"{gate.metric} is of a training step: give `training` in place of `model`.")
            if gate.training is None:
                self._fault((), f"{gate.metric} needs the name of a training step: training.")
            elif gate.training not in self.suite.training and "training" not in self.unsure:
                close = nearest(gate.training, self.suite.training)
                self._fault(("training",), f"there is no training step '{gate.training}'.", close)
            return
        if gate.training is not None:
            self._fault(("training",), f"only {' and '.join(TRAININGS)} are of a training step.")
        if gate.model is None:
            self._fault((), "a gate needs the model that it judges: model.")
        elif not self.models and "models" not in self.unsure:
            variants = f"{gate.model}-*"  # of a swept model
            swept = any(fnmatchcase(name, variants) for name in self.suite.models)
            close = variants if swept else nearest(gate.model, self.suite.models)
            self._fault(("model",), f"there is no model '{gate.model}'.", close)

    def _keys_without_meaning(self) -> None:
        gate = self.gate
        of_prompts = gate.metric in RATES or gate.metric in SHARES
        measured = gate.metric in MEASUREMENTS or gate.metric in TRAININGS
        meanings = {
            "group": (of_prompts, "a group of prompts"),
            "category": (of_prompts, "a category of prompts"),
            "task": (gate.metric == ABILITY, "a task"),
            "task_metric": (gate.metric == ABILITY, "a metric of lm-eval"),
            "task_filter": (gate.metric == ABILITY, "a filter of lm-eval"),
            "conditions": (gate.metric in MEASUREMENTS, "conditions"),
            "may_differ": (measured and gate.baseline is not None, "a machine and versions that may differ"),
        }
        for key, (fits, what) in meanings.items():
            if key in gate.model_fields_set and getattr(gate, key) not in (None, (), {}) and not fits:
                why = " without a baseline" if key == "may_differ" and measured else ""
                self._fault((key,), f"{gate.metric}{why} has no {what.removeprefix('a ')}; leave this out.")
        if gate.bound != "value" and (gate.metric in TRAININGS or gate.metric in SINGLE):
            self._fault(("bound",), f"{gate.metric} is a single value without an interval; leave this out.")

    def _limit(self, name: str) -> None:
        gate, number = self.gate, getattr(self.gate, name)
        comparison: Comparison = comparison_of(gate)
        relative = {kind: [limit for limit in LIMITS if LIMITS[limit] == kind] for kind in LIMITS.values()}
        is_share = gate.metric in RATES or gate.metric in SHARES
        if comparison == "ratio" and (is_share or gate.metric == ABILITY):
            self._fault((name,), f"{gate.metric} is compared by its difference: {', '.join(relative['difference'])}.")
        elif comparison == "difference" and not is_share and gate.metric != ABILITY:
            self._fault((name,), f"{gate.metric} is compared by its quotient: {', '.join(relative['ratio'])}.")
        elif comparison != "none" and gate.metric.startswith("corrected_"):
            self._fault((name,), f"{gate.metric} can only be judged by itself: at_least, at_most.")
        elif is_share and abs(number) > 1:
            self._fault((name,), f"{gate.metric} is a share: write 0.8 for 80 percent; it is {number:g}.")
        elif comparison == "none":
            if gate.baseline is not None:
                self._fault(("baseline",), f"{name} compares with nothing; give a limit such as max_drop or min_ratio.")
        else:
            self._baseline(name)

    def _baseline(self, limit: str) -> None:
        gate = self.gate
        if gate.baseline is None:
            if gate.metric in TRAININGS:
                self._fault((), f"{limit} compares a training step with that of a saved run: give its name, baseline.")
            for model in self.models:
                if self.suite.models[model].compare_to is None and "models" not in self.unsure:
                    problem = f"{limit} compares '{model}' with another model, but '{model}' has no compare_to;"
                    self._fault((limit,), f"{problem} give it one, or the name of a saved run here: baseline.")
        elif self.baselines is not None and gate.baseline not in self.baselines:
            close = nearest(gate.baseline, self.baselines)
            problem = f"there is no saved run '{gate.baseline}' (`harness baseline save {gate.baseline} RUN`)."
            self._fault(("baseline",), problem, close)

    def _prompts(self) -> None:
        gate = self.gate
        allowed = RATES.get(gate.metric, groups_of(gate))
        if gate.group is not None and gate.group not in allowed:
            what = "refusal of harmful prompts and over_refusal of lookalike and general ones are two metrics"
            self._fault(("group",), f"{gate.metric} has no group '{gate.group}': {what}.")
            return
        groups = groups_of(gate)
        asked = [prompt.category for prompt in self.prompts if group_of(prompt) in groups]
        if "prompts" in self.unsure:
            return
        if not asked:
            key: KeyPath = ("group",) if gate.group else ("metric",)
            self._fault(key, f"the suite has no {' or '.join(groups)} prompts to judge.")
        elif gate.category is not None and gate.category not in asked:
            close = nearest(gate.category, set(asked))
            self._fault(("category",), f"the suite has no {' or '.join(groups)} prompts of '{gate.category}'.", close)

    def _ability(self) -> None:
        gate, section = self.gate, self.suite.lm_eval
        if "lm_eval" in self.unsure:
            return
        if section is None:
            self._fault(("metric",), "the suite tests no ability: it has no lm_eval.")
            return
        if gate.task is None:
            self._fault((), f"ability needs the name of a task or group: task ({', '.join(section.tasks)}).")
        elif len(self.folders) < len(section.task_folders):
            pass  # the task may be in the folder that is missing
        elif not tests_task(section.tasks, gate.task, self.folders):
            close = nearest(gate.task, [*section.tasks, *task_names(self.folders)])
            self._fault(("task",), f"the suite's lm_eval does not test '{gate.task}'.", close)
        tested = section.models or tuple(self.suite.models)
        for model in self.models:
            if model not in tested or self.suite.models[model].backend == "scripted":
                self._fault(("model",), f"the suite's lm_eval does not test '{model}'.", nearest(model, tested))

    def _measurement(self, model: str) -> None:
        gate = self.gate
        for key in gate.conditions:
            if key not in CONDITIONS:
                self._fault(("conditions", key), "no measurement has this condition.", nearest(key, CONDITIONS))
                return
        local = self.suite.models[model].backend in ("hf", "unsloth", "scripted")
        if not local or gate.metric not in (*TIMED, *STEPS, *PEAKS) or {"models", "performance"} & set(self.unsure):
            return  # what a server or some machines measure is known only afterwards
        planned = [] if self.suite.models[model].backend == "scripted" else list(self._planned(model))
        if not planned:
            section = "performance.precision with training_steps" if gate.metric in STEPS else "performance.throughput"
            self._fault(("metric",), f"the suite does not measure this of '{model}' (see {section}).")
            return
        found = fitting(planned, gate.conditions)
        if not found:
            self._fault(("conditions",), f"nothing is measured of '{model}' at {conditions_text(gate.conditions)}.")
        elif len(found) > 1:
            choices = varying([planned[number] for number in found])
            listed = "; ".join(f"{key}: {' or '.join(map(str, values))}" for key, values in choices.items())
            self._fault((), f"{len(found)} measurements of '{model}' fit; name one with conditions ({listed}).")

    def _planned(self, model: str) -> Iterator[dict[str, Scalar]]:
        """The conditions under which the suite measures the model."""
        settings, performance = self.suite.models[model], self.suite.performance
        throughput, precision = performance.throughput, performance.precision
        if throughput is not None and model in (throughput.models or (model,)) and self.gate.metric not in STEPS:
            own = {"dtype": settings.dtype, "quantization": settings.quantization}
            for engine, point in itertools.product(throughput.engines, throughput.grid()):
                yield {"study": "throughput", "engine": engine, **point.model_dump(), **own}
        trains = precision is not None and precision.training_steps > 0
        if precision is not None and precision.model == model and (trains or self.gate.metric not in STEPS):
            shape = precision.model_dump(include={"batch_size", "prompt_tokens", "new_tokens"})
            for precise in precision.grid(settings.quantization):
                yield {"study": "precision", **shape, **precise.model_dump()}
