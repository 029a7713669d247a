"""From a validated suite to the ordered jobs of a run. Pure: it reads files for their hashes and writes nothing.

A job's id ends in a hash of everything that can change what it yields: contents of model, adapter and prompts,
settings, library versions and the code that does the work. Base and tuned can therefore never share an answer, and
a run is resumed only where every hash is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.adapter_cache import training_hash
from harness.content_hash import content_hash
from harness.lm_eval_tasks import folders_hash
from harness.records import Environment, Job, JobKind, Prompt, Scalar
from harness.suite import Adapter, LmEval, Model, Precision, Suite, Throughput
from harness.suite_file import LoadedSuite

AUTO_BATCH_SIZE = 256
CODE_THAT_CHANGES_RESULTS = ("backends", "workloads", "probes.py", "prompt_formats.py")
PACKAGES_THAT_CHANGE_RESULTS = ("torch", "transformers", "tokenizers", "peft", "trl", "unsloth", "bitsandbytes")


@dataclass(frozen=True)
class Plan:
    """Jobs in the order they run: training before what needs the adapter, answers before timings."""

    jobs: tuple[Job, ...]
    training_hashes: Mapping[str, str]
    model_hashes: Mapping[str, str]
    adapter_hashes: Mapping[str, str]

    def training_only(self) -> Plan:
        """Return the plan without anything but its training jobs."""
        return replace(self, jobs=tuple(job for job in self.jobs if job.kind == "train"))

    @property
    def plan_hash(self) -> str:
        """Return the identity of the whole run."""
        return _hash([job.id for job in self.jobs])


def make_plan(loaded: LoadedSuite, prompts: Sequence[Prompt], environment: Environment) -> Plan:
    """Lay out the jobs of a suite for the chosen prompts."""
    return _Planner(loaded, prompts, environment).plan()


class _Planner:
    def __init__(self, loaded: LoadedSuite, prompts: Sequence[Prompt], environment: Environment) -> None:
        self.loaded = loaded
        self.suite: Suite = loaded.suite
        self.prompts = prompts
        self.basis = {
            "packages": {name: environment.packages.get(name) for name in PACKAGES_THAT_CHANGE_RESULTS},
            "gpus": [gpu.name for gpu in environment.gpus],
            "code": _code_hash(),
        }
        self.lm_eval_version = environment.packages.get("lm_eval")
        self.model_hashes: dict[str, str] = {}
        self.training_hashes: dict[str, str] = {}
        self.adapter_hashes: dict[str, str] = {}

    def plan(self) -> Plan:
        training = {name: self._training_job(name) for name in self.suite.training}
        jobs = list(training.values())
        jobs += self._generation_jobs(training)
        if self.suite.lm_eval:
            jobs += self._lm_eval_jobs(self.suite.lm_eval, training)
        if self.suite.performance.throughput:
            jobs += self._throughput_jobs(self.suite.performance.throughput, training)
        if self.suite.performance.precision:
            jobs += self._precision_jobs(self.suite.performance.precision, training)
        return Plan(tuple(jobs), self.training_hashes, self.model_hashes, self.adapter_hashes)

    def _training_job(self, name: str) -> Job:
        training = self.suite.training[name]
        model = self.suite.models[training.model]
        data = training.data
        place = str(self.loaded.resolve(data.path)) if data.path else str(data.hub)
        data_hash = content_hash(place, data.revision, hub="dataset")
        digest = training_hash(
            training,
            model,
            model_hash=self._content_hash(training.model),
            data_hash=data_hash,
            basis=self.basis,
        )
        self.training_hashes[name] = digest
        return Job(id=f"train-{name}-{digest[:12]}", kind="train", model=training.model, training=name)

    def _generation_jobs(self, training: Mapping[str, Job]) -> list[Job]:
        size = AUTO_BATCH_SIZE if self.suite.sampling.batch_size == "auto" else self.suite.sampling.batch_size
        batches = fixed_batches(self.prompts, size)
        texts = [[prompt.id, prompt.text] for prompt in self.prompts]
        return [
            self._job("generate", name, training, {"repeat": repeat}, [self.suite.sampling, texts, batches]).model_copy(
                update={"batches": batches, "repeat": repeat}
            )
            for name in self.suite.models
            for repeat in range(self.suite.sampling.repeats)
        ]

    def _lm_eval_jobs(self, section: LmEval, training: Mapping[str, Job]) -> list[Job]:
        folders = [self.loaded.resolve(folder) for folder in section.task_folders]
        settings = section.model_dump(exclude={"models", "task_folders"})
        content = [settings, folders_hash(folders), self.lm_eval_version]
        return [
            self._job("lm_eval", name, training, {"tasks": ", ".join(section.tasks)}, content)
            for name in section.models or self.suite.models
            if self.suite.models[name].backend != "scripted"
        ]

    def _throughput_jobs(self, throughput: Throughput, training: Mapping[str, Job]) -> list[Job]:
        return [
            self._job(
                "throughput",
                name,
                training,
                {
                    "study": "throughput",
                    "batch_size": batch_size,
                    **throughput.model_dump(include={"prompt_tokens", "new_tokens", "warmup", "repeats"}),
                },
            )
            for name in throughput.models or self.suite.models
            if self.suite.models[name].backend != "scripted"
            for batch_size in throughput.batch_sizes
        ]

    def _precision_jobs(self, precision: Precision, training: Mapping[str, Job]) -> list[Job]:
        shared: dict[str, Scalar] = {"study": "precision", **precision.model_dump(exclude={"model", "dtypes"})}
        kinds: list[JobKind] = ["throughput", "train_timing"] if precision.training_steps else ["throughput"]
        return [
            self._job(kind, precision.model, training, {**shared, "dtype": dtype})
            for dtype in precision.dtypes
            for kind in kinds
        ]

    def _job(
        self,
        kind: JobKind,
        model: str,
        training: Mapping[str, Job],
        parameters: dict[str, Scalar],
        content: object = None,
    ) -> Job:
        adapter = self.suite.models[model].adapter
        trained_by = adapter.trained_by if adapter else None
        identity = [kind, self._identity(model), parameters, content, self.basis]
        return Job(
            id=f"{kind}-{model}-{_hash(identity)[:12]}",
            kind=kind,
            model=model,
            needs=(training[trained_by].id,) if trained_by else (),
            parameters=parameters,
        )

    def _identity(self, name: str) -> list[object]:
        model: Model = self.suite.models[name]
        settings = model.model_dump(exclude={"like", "path", "adapter", "compare_to", "script"})
        mode = model.adapter.mode if model.adapter else None
        return [name, settings, self._content_hash(name), mode, self._adapter_hash(name, model.adapter)]

    def _adapter_hash(self, name: str, adapter: Adapter | None) -> str | None:
        if adapter is None:
            return None
        if adapter.trained_by:
            return self.training_hashes[adapter.trained_by]
        if name not in self.adapter_hashes:
            self.adapter_hashes[name] = content_hash(self.loaded.locate(adapter.path or ""), adapter.revision)
        return self.adapter_hashes[name]

    def _content_hash(self, name: str) -> str:
        if name not in self.model_hashes:
            model = self.suite.models[name]
            place = str(self.loaded.resolve(model.script)) if model.script else self.loaded.locate(model.path)
            self.model_hashes[name] = content_hash(place, model.revision)
        return self.model_hashes[name]


def fixed_batches(prompts: Sequence[Prompt], size: int) -> tuple[tuple[str, ...], ...]:
    """Group prompt ids into batches of `size`, longest prompts first, so that little is padded and memory runs out
    early or not at all. Characters stand in for tokens: no tokenizer is loaded to make a plan."""
    ordered = sorted(prompts, key=lambda prompt: (-len(prompt.text), prompt.id))
    ids = [prompt.id for prompt in ordered]
    return tuple(tuple(ids[start : start + size]) for start in range(0, len(ids), size))


def _code_hash() -> str:
    root = Path(__file__).parent
    files = [
        file
        for name in CODE_THAT_CHANGES_RESULTS
        for file in ([root / name] if (root / name).is_file() else sorted((root / name).glob("*.py")))
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _hash(value: object) -> str:
    def plain(item: object) -> object:
        return item.model_dump(mode="json") if hasattr(item, "model_dump") else str(item)

    return hashlib.sha256(json.dumps(value, sort_keys=True, default=plain).encode()).hexdigest()
