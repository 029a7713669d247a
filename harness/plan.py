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

from harness.adapter_cache import checkpoint_hash, training_hash
from harness.content_hash import content_hash
from harness.engine_choice import generation_groups
from harness.lm_eval_tasks import folders_hash
from harness.random_weights import recipe_hash
from harness.records import Environment, Job, JobKind, Prompt, Scalar
from harness.suite import Adapter, LmEval, Model, Suite
from harness.suite_file import LoadedSuite
from harness.timing_jobs import timing_jobs

AUTO_BATCH_SIZE = 256
AUTO_ROUNDS_OF_REQUESTS = 4
CODE_THAT_CHANGES_RESULTS = (
    "backends",
    "engine",
    "workloads",
    "servers",
    "probes.py",
    "nvml.py",
    "model_cost.py",
    "prompt_formats.py",
    "openai_http.py",
    "openai_replies.py",
)
SERVER_KEYS_THAT_CHANGE_RESULTS = {"kind", "endpoint", "executable", "arguments", "extra_request"}
PACKAGES_THAT_CHANGE_RESULTS = ("torch", "transformers", "tokenizers", "peft", "trl", "unsloth", "bitsandbytes", "vllm")


@dataclass(frozen=True)
class Plan:
    """Jobs in the order they run: training before what needs the adapter, answers before timings."""

    jobs: tuple[Job, ...]
    training_hashes: Mapping[str, str]
    model_hashes: Mapping[str, str]
    adapter_hashes: Mapping[str, str]

    def training_only(self) -> Plan:
        """Return the plan without anything but its training jobs and what they need."""
        needed = {need for job in self.jobs if job.kind == "train" for need in job.needs}
        return replace(self, jobs=tuple(job for job in self.jobs if job.kind == "train" or job.id in needed))

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
        self.environment = environment
        self.basis = {
            "packages": {name: environment.packages.get(name) for name in PACKAGES_THAT_CHANGE_RESULTS},
            "gpus": [gpu.name for gpu in environment.gpus],
            "code": code_hash(),
        }
        self.device = "cuda" if environment.gpus else "cpu"
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
        jobs += self._timing_jobs(training)
        weights = self._weights_jobs(jobs)
        jobs = [*weights.values(), *(self._after_weights(job, weights) for job in jobs)]
        return Plan(tuple(jobs), self.training_hashes, self.model_hashes, self.adapter_hashes)

    def _weights_jobs(self, jobs: Sequence[Job]) -> dict[str, Job]:
        """Return a job per recipe of random weights, by its hash; models that are alike share one."""
        by_recipe: dict[str, str] = {}
        for job in jobs:
            if self.suite.models[job.model].weights == "random":
                by_recipe.setdefault(self._content_hash(job.model), job.model)
        return {
            digest: Job(
                id=f"make_weights-{name}-{digest[:12]}",
                kind="make_weights",
                model=name,
                parameters={"made_on": self.device},
            )
            for digest, name in by_recipe.items()
        }

    def _after_weights(self, job: Job, weights: Mapping[str, Job]) -> Job:
        made = weights.get(self.model_hashes[job.model])
        return job.model_copy(update={"needs": (made.id, *job.needs)}) if made else job

    def _training_job(self, name: str) -> Job:
        training = self.suite.training[name]
        model = self.suite.models[training.model].for_training()
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
        if not self.prompts:
            return []
        texts = [[prompt.id, prompt.text] for prompt in self.prompts]
        jobs = []
        for names, engine in generation_groups(self.suite, len(self.prompts), self.environment):
            batches = fixed_batches(self.prompts, self._batch_size(names[0]))
            content = [self.suite.sampling, texts, batches]
            jobs += [
                self._shared_job(names, engine, repeat, content, training).model_copy(
                    update={"batches": batches, "repeat": repeat}
                )
                for repeat in range(self.suite.sampling.repeats)
            ]
        return jobs

    def _batch_size(self, name: str) -> int:
        """Return the prompts per batch. A server's batches are short: they are what a run resumes on."""
        model, size = self.suite.models[name], self.suite.sampling.batch_size
        if size != "auto":
            return size
        if model.backend == "openai_http" and model.server:
            return AUTO_ROUNDS_OF_REQUESTS * self.suite.servers[model.server].concurrency
        return AUTO_BATCH_SIZE

    def _shared_job(
        self, names: Sequence[str], engine: str, repeat: int, content: object, training: Mapping[str, Job]
    ) -> Job:
        """Return one job that answers for all of `names`, which are the same weights with other adapters."""
        parameters: dict[str, Scalar] = {"repeat": repeat, "engine": engine}
        jobs = [self._job("generate", name, training, parameters, content) for name in names]
        if len(jobs) == 1:
            return jobs[0]
        return jobs[0].model_copy(
            update={
                "id": f"generate-{'-'.join(names)[:60]}-{_hash([job.id for job in jobs])[:12]}",
                "partners": tuple(names[1:]),
                "needs": tuple(dict.fromkeys(need for job in jobs for need in job.needs)),
            }
        )

    def _lm_eval_jobs(self, section: LmEval, training: Mapping[str, Job]) -> list[Job]:
        folders = [self.loaded.resolve(folder) for folder in section.task_folders]
        settings = section.model_dump(exclude={"models", "task_folders"})
        content = [settings, folders_hash(folders), self.lm_eval_version]
        return [
            self._job("lm_eval", name, training, {"tasks": ", ".join(section.tasks)}, content)
            for name in section.models or self.suite.models
            if self.suite.models[name].backend != "scripted"
        ]

    def _timing_jobs(self, training: Mapping[str, Job]) -> list[Job]:
        jobs = []
        for one in timing_jobs(self.suite, self.prompts):
            batches = fixed_batches(one.prompts, int(one.parameters["batch_size"] or 1)) if one.prompts else ()
            texts = [[prompt.id, prompt.text] for prompt in one.prompts]
            content = [one.content, self.suite.sampling, texts, batches] if texts else one.content
            job = self._job(one.kind, one.model, training, one.parameters, content)
            jobs.append(job.model_copy(update={"batches": batches}))
        return jobs

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
        settings: dict[str, object] = model.model_dump(exclude={"like", "path", "adapter", "compare_to", "script"})
        if model.backend == "openai_http" and model.server:
            settings["server"] = self.suite.servers[model.server].model_dump(include=SERVER_KEYS_THAT_CHANGE_RESULTS)
        mode = model.adapter.mode if model.adapter else None
        return [name, settings, self._content_hash(name), mode, self._adapter_hash(name, model.adapter)]

    def _adapter_hash(self, name: str, adapter: Adapter | None) -> str | None:
        if adapter is None:
            return None
        if adapter.trained_by:
            return checkpoint_hash(self.training_hashes[adapter.trained_by], adapter.checkpoint)
        if name not in self.adapter_hashes:
            self.adapter_hashes[name] = content_hash(self.loaded.locate(adapter.path or ""), adapter.revision)
        return self.adapter_hashes[name]

    def _content_hash(self, name: str) -> str:
        if name not in self.model_hashes:
            model = self.suite.models[name]
            place = str(self.loaded.resolve(model.script)) if model.script else self.loaded.locate(model.path)
            server = self.suite.servers[model.server] if model.backend == "openai_http" and model.server else None
            if server and not server.is_child and not (model.path and Path(place).is_absolute()):
                # What an external server answers with cannot be looked into; it is what its owner calls it.
                self.model_hashes[name] = _hash([server.endpoint, model.served_name, model.path, model.revision])
                return self.model_hashes[name]
            self.model_hashes[name] = (
                recipe_hash(place, model.revision, model.weights_seed, self.device)
                if model.weights == "random"
                else content_hash(place, model.revision)
            )
        return self.model_hashes[name]


def fixed_batches(prompts: Sequence[Prompt], size: int) -> tuple[tuple[str, ...], ...]:
    """Group prompt ids into batches of `size`, longest prompts first, so that little is padded and memory runs out
    early or not at all. Characters stand in for tokens: no tokenizer is loaded to make a plan."""
    ordered = sorted(prompts, key=lambda prompt: (-len(prompt.text), prompt.id))
    ids = [prompt.id for prompt in ordered]
    return tuple(tuple(ids[start : start + size]) for start in range(0, len(ids), size))


def code_hash() -> str:
    """Return the SHA-256 of the code that decides what a job yields."""
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
