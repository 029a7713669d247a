"""From a planned job to the work order its process gets: places made absolute, the adapter found by its hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.adapter_cache import checkpoint_folder, checkpoint_hash, entry_folder
from harness.orders import Partner, Served, WorkOrder
from harness.plan import Plan
from harness.random_weights import weights_folder
from harness.records import Job
from harness.suite import Model, TimingPoint
from harness.suite_file import LoadedSuite


@dataclass(frozen=True)
class Dispatcher:
    """Makes the work orders of one plan."""

    loaded: LoadedSuite
    plan: Plan
    results: Path
    stream: bool = False

    def order(self, job: Job, log_file: Path, finished_batches: frozenset[int] = frozenset()) -> WorkOrder:
        """Return everything the job's process needs to know."""
        suite, loaded = self.loaded.suite, self.loaded
        model = suite.models[job.model]
        varied: dict[str, object] = {
            key: job.parameters[key] for key in ("dtype", "quantization") if key in job.parameters
        }
        model = model.model_copy(update=varied)
        if job.kind in ("train", "train_timing"):
            model = model.for_training()
        training = suite.training[job.training] if job.training else None
        data_path = training.data.path if training else None
        adapter_place, adapter_hash = self.adapter(job.model)
        return WorkOrder(
            job=job,
            model=model,
            model_place=self._place(job),
            model_hash=self.plan.model_hashes[job.model],
            adapter_place=adapter_place,
            adapter_hash=adapter_hash,
            partners=tuple(self._partner(name) for name in job.partners),
            weights_folder=str(self.weights_folder(job.model)) if job.kind == "make_weights" else None,
            served=self._served(model),
            script_place=str(loaded.resolve(model.script)) if model.script else None,
            training=training,
            training_hash=self.plan.training_hashes[job.training] if job.training else None,
            training_folder=str(self.training_folder(job.training)) if job.training else None,
            data_place=str(loaded.resolve(data_path)) if data_path else None,
            sampling=suite.sampling,
            points=self._points(job),
            lm_eval=suite.lm_eval if job.kind == "lm_eval" else None,
            task_folders=self._task_folders(job),
            prompts=self._texts(job),
            finished_batches=finished_batches,
            stream=self.stream,
            log_file=str(log_file.resolve()),
        )

    def weights_folder(self, model: str) -> Path:
        """Return the folder of a model's random weights."""
        place = self.loaded.locate(self.loaded.suite.models[model].path)
        return weights_folder(self.results.resolve(), place, self.plan.model_hashes[model])

    def training_folder(self, name: str) -> Path:
        """Return the adapter cache entry of a training step."""
        return entry_folder(self.results.resolve(), name, self.plan.training_hashes[name])

    def _partner(self, name: str) -> Partner:
        place, digest = self.adapter(name)
        return Partner(name=name, model=self.loaded.suite.models[name], adapter_place=place, adapter_hash=digest)

    def _place(self, job: Job) -> str:
        """Return what the job loads its model from; random weights are made from the place that the suite names."""
        model = self.loaded.suite.models[job.model]
        if model.weights == "random" and job.kind != "make_weights":
            return str(self.weights_folder(job.model))
        return self.loaded.locate(model.path) if model.path else ""

    def adapter(self, model: str) -> tuple[str | None, str | None]:
        """Return place and hash of the model's adapter."""
        adapter = self.loaded.suite.models[model].adapter
        if adapter is None:
            return None, None
        if adapter.trained_by:
            folder, digest = self.training_folder(adapter.trained_by), self.plan.training_hashes[adapter.trained_by]
            return str(checkpoint_folder(folder, adapter.checkpoint)), checkpoint_hash(digest, adapter.checkpoint)
        return self.loaded.locate(adapter.path or ""), self.plan.adapter_hashes[model]

    def _served(self, model: Model) -> Served | None:
        if model.backend != "openai_http" or model.server is None:
            return None
        settings = self.loaded.suite.servers[model.server]
        return Served(
            server=model.server, settings=settings, endpoint=settings.endpoint or "", name=model.served_name or ""
        )

    def _points(self, job: Job) -> tuple[TimingPoint, ...]:
        section = self.loaded.suite.performance.throughput
        return section.grid() if section and job.parameters.get("study") == "throughput" else ()

    def _task_folders(self, job: Job) -> tuple[str, ...]:
        section = self.loaded.suite.lm_eval
        if job.kind != "lm_eval" or section is None:
            return ()
        return tuple(str(self.loaded.resolve(folder)) for folder in section.task_folders)

    def _texts(self, job: Job) -> dict[str, str]:
        wanted = {prompt_id for batch in job.batches for prompt_id in batch}
        return {prompt.id: prompt.text for prompt in self.loaded.prompts if prompt.id in wanted}
