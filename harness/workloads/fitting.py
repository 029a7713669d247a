"""The training loop: trl.SFTTrainer, watched. Import after unsloth, where that is used."""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from harness.errors import HarnessError, reason_of
from harness.probes import PeakMemory, synchronize
from harness.records import Scalar, TrainingStep
from harness.workloads.effective import check_packing_kept, checked_precision, checkpointing_effect, trainer_effects
from harness.workloads.training_data import NOT_IN_LOSS

OnStep = Callable[[TrainingStep], None]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Keep:
    """Optimizer steps after which the adapter is kept, and what keeps it."""

    steps: tuple[int, ...]
    save: Callable[[int], None]


@dataclass(frozen=True)
class Fit:
    """What the loop did and took. Times in seconds; `step_seconds` and `step_tokens` have one entry per optimizer step.

    `skipped_steps` are those of `non_finite_steps` that the float16 loss scaler left out; `effective` says what took
    effect: precisions, packing, checkpointing.
    """

    steps: int
    epochs: float
    tokens: int
    seconds: float
    step_seconds: tuple[float, ...]
    step_tokens: tuple[int, ...]
    final_loss: float
    non_finite_steps: int
    skipped_steps: int
    effective: Mapping[str, Scalar]
    memory_before: Mapping[str, int]
    memory_peaks: Mapping[str, int]


def fit(
    job_id: str,
    model: Any,
    tokenizer: Any,
    rows: Any,
    arguments: Mapping[str, Any],
    compute_dtype: str,
    on_step: OnStep,
    on_progress: OnProgress,
    keep: Keep | None = None,
) -> Fit:
    """Train the LoRA matrices of `model` on `rows` (input_ids, labels); `arguments` are those of trl.SFTConfig.

    Raises `PrecisionMismatch` at the first forward pass that does not compute in `compute_dtype`, `NotAvailable` where
    packing was asked for and the trainer dropped it, and `HarnessError` where a step to keep is never reached.
    """
    config = SFTConfig(**arguments)
    device = "cpu" if config.use_cpu else "cuda"
    if device == "cuda":
        config.n_gpu  # noqa: B018  (reading it counts the GPUs; then we say that this process uses one)
        config._n_gpu = 1
    watch = _Watch(job_id, device, on_step, on_progress, keep)
    trainer = _WatchedTrainer(model, config, rows, tokenizer, watch)
    effects = trainer_effects(trainer)
    check_packing_kept(bool(arguments["packing"]), effects)
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad and "lora_" in name:
            parameter.data = parameter.data.float()  # trl rounds those of a quantized model to bfloat16
    with PeakMemory(device) as memory, checked_precision(trainer.model, device, compute_dtype) as precisions:
        synchronize(device)
        start = time.perf_counter()
        outcome = trainer.train()
        synchronize(device)
        seconds = time.perf_counter() - start
    return Fit(
        steps=trainer.state.global_step,
        epochs=float(trainer.state.epoch),
        tokens=int(trainer.tokens),
        seconds=seconds,
        step_seconds=tuple(watch.step_seconds),
        step_tokens=tuple(watch.step_tokens),
        final_loss=watch.last_loss if watch.last_loss is not None else float(outcome.training_loss),
        non_finite_steps=watch.non_finite_steps,
        skipped_steps=watch.skipped_steps,
        effective={
            **effects,
            **precisions,
            "checkpointing_effective": watch.checkpointing,
            "loss_scale_at_end": _loss_scale(trainer),
        },
        memory_before=memory.before,
        memory_peaks=memory.peaks,
    )


class _WatchedTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that counts non-padding tokens and notices losses that are not finite."""

    def __init__(self, model: Any, config: Any, rows: Any, tokenizer: Any, watch: _Watch) -> None:
        self.tokens: Any = 0
        self.finite: Any = True
        watch.trainer = self
        super().__init__(model=model, args=config, train_dataset=rows, processing_class=tokenizer, callbacks=[watch])
        self.remove_callback(PrinterCallback)

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **keywords: Any) -> Any:
        """Take trl's loss kernel on a GPU; it needs Triton, so on a CPU take the model's own loss, which is equal."""
        if self.args.use_cpu:
            return Trainer.compute_loss(self, model, _without_unused_logits(model, inputs), *arguments, **keywords)
        return super().compute_loss(model, inputs, *arguments, **keywords)

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **keywords: Any) -> Any:
        """Keep both figures on the device: reading them here would make it wait."""
        mask = inputs.get("attention_mask")
        self.tokens = self.tokens + (inputs["input_ids"].numel() if mask is None else mask.sum())
        loss = super().training_step(model, inputs, *arguments, **keywords)
        self.finite = torch.isfinite(loss).all() & self.finite
        return loss


def _without_unused_logits(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Ask for logits only from the first position on whose next token any row learns.

    Over a small model the output layer is a third of the work, and a loss on answers needs none of it for the prompts.
    """
    labels = inputs["labels"]
    learnt = (labels != NOT_IN_LOSS).any(dim=0).nonzero()
    before_first = max(int(learnt[0]) - 1, 0)
    if "logits_to_keep" not in inspect.signature(model.get_base_model().forward).parameters:
        return inputs
    return {**inputs, "labels": labels[:, before_first:], "logits_to_keep": labels.shape[1] - before_first}


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Hands on each step as it is logged, and takes the time of each."""

    def __init__(
        self, job_id: str, device: str, on_step: OnStep, on_progress: OnProgress, keep: Keep | None = None
    ) -> None:
        self.keep = keep
        self.job_id = job_id
        self.device = device
        self.on_step = on_step
        self.on_progress = on_progress
        self.trainer: Any = None
        self.step_seconds: list[float] = []
        self.step_tokens: list[int] = []
        self.last_loss: float | None = None
        self.non_finite_steps = 0
        self.skipped_steps = 0
        self.checkpointing = "off"
        self._step_ended = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Start the clock of the first step."""
        if self.keep and max(self.keep.steps) > state.max_steps:
            raise HarnessError(
                f"checkpoints: step {max(self.keep.steps)} is never reached; the training has {state.max_steps} steps.",
                "Name steps within the training, or train longer.",
            )
        self.checkpointing = checkpointing_effect(model)
        self.on_progress(0, state.max_steps)
        synchronize(self.device)
        self._step_ended = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock of this step; count it if its loss was not finite or the float16 scaler skipped it."""
        synchronize(self.device)
        now = time.perf_counter()
        self.step_seconds.append(now - self._step_ended)
        if self.keep and state.global_step in self.keep.steps:
            self.keep.save(state.global_step)
            now = time.perf_counter()  # saving is in no step's time
        self._step_ended = now
        self.step_tokens.append(int(self.trainer.tokens) - sum(self.step_tokens))
        skipped = bool(self.trainer.accelerator.optimizer_step_was_skipped)
        self.skipped_steps += skipped
        if skipped or not bool(self.trainer.finite):
            self.non_finite_steps += 1
        self.trainer.finite = True
        self.on_progress(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Make a record of a logged step; the trainer's closing summary has no `loss` and is left out."""
        if not logs or "loss" not in logs:
            return
        self.last_loss = float(logs["loss"])
        norm = logs.get("grad_norm")
        self.on_step(
            TrainingStep(
                job_id=self.job_id,
                step=state.global_step,
                epoch=float(state.epoch),
                loss=self.last_loss,
                learning_rate=float(logs["learning_rate"]),
                gradient_norm=None if norm is None else float(norm),
            )
        )


def _loss_scale(trainer: Any) -> float | None:
    """Return what the float16 loss scaler multiplies losses by in the end; None where there is no scaler."""
    scaler = getattr(trainer.accelerator, "scaler", None)
    return None if scaler is None or not scaler.is_enabled() else float(scaler.get_scale())


@contextlib.contextmanager
def out_of_memory_named() -> Iterator[None]:
    """Turn running out of memory into a HarnessError that says which settings need less of it."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise HarnessError(
            f"Training ran out of memory: {reason_of(error)}",
            "Lower per_device_train_batch_size and raise gradient_accumulation_steps by the same factor, set "
            "use_gradient_checkpointing, load_in_4bit, or lower max_seq_length.",
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' progress bars and advice out of the log; errors still show."""
    import datasets

    verbosity = transformers.utils.logging.get_verbosity()
    bars = datasets.are_progress_bars_disabled()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    loggers = [logging.getLogger(name) for name in ("trl", "accelerate", "datasets", "peft")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
