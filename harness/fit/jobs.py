"""The jobs of a suite as configurations whose memory can be predicted, with the keys that change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from harness.fit.architecture import Architecture, read_architecture
from harness.fit.gpus import LARGEST, Gpu
from harness.fit.lengths import longest_prompt, longest_row, read_adapter_config
from harness.fit.memory import Configuration, predict
from harness.plan import AUTO_BATCH_SIZE
from harness.suite import Lora, Model, Precision, Throughput, Training
from harness.suite_file import LoadedSuite
from harness.workloads.training_settings import Device, resolve


@dataclass(frozen=True)
class FitJob:
    """One job. `keys` maps what advice may change (batch, rows) to the suite's key; `notes` say what it rests on.

    `optional` names what a run leaves out where the job does not fit, to go on with the rest; empty: it cannot go on.
    """

    name: str
    configuration: Configuration
    keys: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    optional: str = ""


@dataclass(frozen=True)
class SuiteJobs:
    """The jobs that are predicted, and a sentence for each part of the suite that is not."""

    jobs: tuple[FitJob, ...]
    left_out: tuple[str, ...]


def jobs_of(loaded: LoadedSuite, gpu: Gpu | None) -> SuiteJobs:
    """Take a suite apart. Raises `NotAvailable` for a model whose configuration cannot be had or is not understood."""
    found = _Jobs(loaded, gpu)
    return SuiteJobs(tuple(found.all()), tuple(found.left_out))


class _Jobs:
    def __init__(self, loaded: LoadedSuite, gpu: Gpu | None) -> None:
        self.loaded = loaded
        self.suite = loaded.suite
        self.gpu = gpu
        self.left_out: list[str] = []
        self._shapes: dict[tuple[str, str | None], Architecture] = {}

    def all(self) -> Iterator[FitJob]:
        suite = self.suite
        models = {name: model for name, model in suite.models.items() if self._on_gpu(name, model)}
        for name, training in suite.training.items():
            if training.model in models:
                yield self._training(name, training)
        if self.loaded.prompts:
            yield from (self._answers(name, model) for name, model in models.items())
        throughput, precision = suite.performance.throughput, suite.performance.precision
        if throughput is not None:
            yield from (
                self._throughput(name, models[name], throughput)
                for name in throughput.models or models
                if name in models
            )
        if precision is not None and precision.model in models:
            yield from self._precision(models[precision.model], precision)
        if suite.lm_eval:
            self.left_out.append("lm_eval is not predicted: how long its questions are is known once they are loaded.")

    def _on_gpu(self, name: str, model: Model) -> bool:
        if model.backend in ("hf", "unsloth") and model.device != "cpu":
            return True
        where = "runs on the CPU" if model.device == "cpu" else f"has backend {model.backend}"
        self.left_out.append(f"{name} is not predicted: it {where}.")
        return False

    def _base(self, model: Model, **more: object) -> Configuration:
        place = (self.loaded.locate(model.path), model.revision)
        if place not in self._shapes:
            self._shapes[place] = read_architecture(*place)
        start = Configuration(
            self._shapes[place],
            phase="generate",
            batch_size=1,
            row_tokens=1,
            backend="unsloth" if model.backend == "unsloth" else "hf",
            dtype=model.dtype,
            quantization=model.quantization,
            attention=model.attention,
        )
        return replace(start, **more)  # type: ignore[arg-type]

    def _training(self, name: str, training: Training) -> FitJob:
        model = self.suite.models[training.model]
        settings = resolve(training, model, Device("cuda", bfloat16=True, bitsandbytes=True))
        trainer, lora = training.trainer, training.lora
        length = longest_row(self.loaded, training, model)
        checkpointing = {False: "off", True: "on", "unsloth": "unsloth"}[lora.use_gradient_checkpointing]
        configuration = self._base(
            model,
            phase="train",
            batch_size=trainer.per_device_train_batch_size,
            row_tokens=length.tokens,
            backend=settings.backend,
            dtype=settings.dtype,
            quantization=settings.quantization,
            rank=lora.r,
            targets=lora.target_modules,
            checkpointing=checkpointing,
            optimizer=settings.optim,
            accumulates=trainer.gradient_accumulation_steps > 1,
            padded=not trainer.packing,
            loss="unsloth" if settings.backend == "unsloth" else "trl",
        )
        prefix = f"training.{name}"
        keys = {
            "checkpointing": f"{prefix}.lora.use_gradient_checkpointing",
            "batch": f"{prefix}.trainer.per_device_train_batch_size",
            "quantization": f"{prefix}.load_in_4bit",
            "optimizer": f"{prefix}.trainer.optim",
            "rows": f"{prefix}.max_seq_length",
            "rank": f"{prefix}.lora.r",
        }
        return FitJob(f"train {name}", configuration, keys, (f"{length.tokens:,} tokens a row ({length.how})",))

    def _answers(self, name: str, model: Model) -> FitJob:
        sampling = self.suite.sampling
        length = longest_prompt(self.loaded, model)
        rank, targets, notes = self._adapter(model)
        configuration = self._base(
            model,
            batch_size=min(AUTO_BATCH_SIZE, len(self.loaded.prompts)),
            row_tokens=length.tokens,
            new_tokens=sampling.max_new_tokens,
            rank=rank,
            targets=targets,
        )
        if sampling.batch_size == "auto":
            configuration = self._shrunk(configuration)
            notes = (*notes, f"batch {configuration.batch_size} (auto)")
        else:
            configuration = replace(configuration, batch_size=min(sampling.batch_size, len(self.loaded.prompts)))
        if sampling.engine == "vllm":
            share = sampling.vllm.share_of("cuda")
            notes = (*notes, f"vllm reserves {share:.0%} of the GPU whatever it needs; this is what it must hold")
        keys = {
            "batch": "sampling.batch_size",
            "new_tokens": "sampling.max_new_tokens",
            "quantization": f"models.{name}.quantization",
        }
        note = f"prompts of {length.tokens:,} tokens ({length.how})"
        return FitJob(f"answers of {name}", configuration, keys, (note, *notes))

    def _shrunk(self, configuration: Configuration) -> Configuration:
        """Halve the batch until it fits, as `auto` does when memory runs out."""
        while self.gpu and configuration.batch_size > 1 and predict(configuration).process > self.gpu.usable_bytes:
            configuration = replace(configuration, batch_size=configuration.batch_size // 2)
        return configuration

    def _adapter(self, model: Model) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
        """Return rank and targets of the model's adapter (rank 0: none, or merged), and what was assumed."""
        adapter = model.adapter
        if adapter is None or adapter.mode == "merged":
            return 0, (), ()
        if adapter.trained_by:
            lora = self.suite.training[adapter.trained_by].lora
            return lora.r, lora.target_modules, ()
        config = read_adapter_config(self.loaded.locate(adapter.path or ""), adapter.revision)
        if config is None:
            lora = Lora()
            return lora.r, lora.target_modules, (f"the adapter is not at hand: rank {lora.r} assumed",)
        targets = config["target_modules"]
        if isinstance(targets, str):  # a pattern for whole names of layers, or all-linear
            return config["r"], Lora().target_modules, (f"target_modules {targets!r} taken as all seven projections",)
        return config["r"], tuple(targets), ()

    def _throughput(self, name: str, model: Model, throughput: Throughput) -> FitJob:
        """Predict the largest point of the grid; the others need less, and are timed without it if they fit."""
        rank, targets, notes = self._adapter(model)
        points = [
            self._base(
                model,
                batch_size=point.batch_size,
                row_tokens=point.prompt_tokens,
                new_tokens=point.new_tokens,
                rank=rank,
                targets=targets,
                padded=False,
            )
            for point in throughput.grid()
        ]
        points.sort(key=lambda one: predict(one).process)
        largest, usable = points[-1], (self.gpu or LARGEST).usable_bytes
        at = f"at batch {largest.batch_size}, {largest.row_tokens} tokens in, {largest.new_tokens} out"
        keys = {"quantization": f"models.{name}.quantization"}
        if not throughput.points:
            keys["batch"] = "performance.throughput.batch_sizes"
        optional = "points as large as this" if predict(points[0]).process <= usable else ""
        return FitJob(f"speed of {name}", largest, keys, (at, *notes), optional)

    def _precision(self, model: Model, precision: Precision) -> Iterator[FitJob]:
        rank, targets, notes = self._adapter(model)
        keys = {"batch": "performance.precision.batch_size"}
        for point in precision.grid(model.quantization):
            shared = self._base(
                model,
                batch_size=precision.batch_size,
                dtype=point.dtype,
                quantization=point.quantization,
                padded=False,
                backend="hf",
            )
            kind = point.dtype + ("" if point.quantization == "none" else f" {point.quantization}")
            generation = replace(
                shared,
                row_tokens=precision.prompt_tokens,
                new_tokens=precision.new_tokens,
                rank=rank,
                targets=targets,
            )
            yield FitJob(f"speed in {kind}", generation, keys, notes, "this job")
            if precision.training_steps:
                lora = Lora()
                yield FitJob(
                    f"training speed in {kind}",
                    replace(
                        shared,
                        phase="train",
                        row_tokens=precision.prompt_tokens + precision.new_tokens,
                        rank=lora.r,
                        targets=lora.target_modules,
                        optimizer="adamw_torch",
                        accumulates=False,
                        loss="plain",
                    ),
                    keys,
                    optional="this job",
                )
