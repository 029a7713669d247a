"""From a planned job to the work order its process gets: places made absolute, the adapter found by its hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.adapter_cache import entry_folder
from harness.orders import WorkOrder
from harness.plan import Plan
from harness.records import Job
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
        if "dtype" in job.parameters:
            model = model.model_copy(update={"dtype": job.parameters["dtype"]})
        training = suite.training[job.training] if job.training else None
        data_path = training.data.path if training else None
        adapter_place, adapter_hash = self._adapter(job.model)
        return WorkOrder(
            job=job,
            model=model,
            model_place=loaded.locate(model.path) if model.path else "",
            model_hash=self.plan.model_hashes[job.model],
            adapter_place=adapter_place,
            adapter_hash=adapter_hash,
            script_place=str(loaded.resolve(model.script)) if model.script else None,
            training=training,
            training_hash=self.plan.training_hashes[job.training] if job.training else None,
            training_folder=str(self.training_folder(job.training)) if job.training else None,
            data_place=str(loaded.resolve(data_path)) if data_path else None,
            sampling=suite.sampling,
            lm_eval=suite.lm_eval if job.kind == "lm_eval" else None,
            task_folders=self._task_folders(job),
            prompts=self._texts(job),
            finished_batches=finished_batches,
            stream=self.stream,
            log_file=str(log_file.resolve()),
        )

    def training_folder(self, name: str) -> Path:
        """Return the adapter cache entry of a training step."""
        return entry_folder(self.results.resolve(), name, self.plan.training_hashes[name])

    def _adapter(self, model: str) -> tuple[str | None, str | None]:
        """Return place and hash of the model's adapter."""
        adapter = self.loaded.suite.models[model].adapter
        if adapter is None:
            return None, None
        if adapter.trained_by:
            return str(self.training_folder(adapter.trained_by)), self.plan.training_hashes[adapter.trained_by]
        return self.loaded.locate(adapter.path or ""), self.plan.adapter_hashes[model]

    def _task_folders(self, job: Job) -> tuple[str, ...]:
        section = self.loaded.suite.lm_eval
        if job.kind != "lm_eval" or section is None:
            return ()
        return tuple(str(self.loaded.resolve(folder)) for folder in section.task_folders)

    def _texts(self, job: Job) -> dict[str, str]:
        wanted = {prompt_id for batch in job.batches for prompt_id in batch}
        return {prompt.id: prompt.text for prompt in self.loaded.prompts if prompt.id in wanted}
