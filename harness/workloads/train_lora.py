"""Trains one LoRA adapter from the rows of a suite's training step, and says what it did and cost.

`train_lora` shows the order: decide what this machine does, read and tokenize the rows, load the base, put LoRA on,
train, prove, save. Everything is written into the adapter's cache entry, which appears whole or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.adapter_cache import adapter_hash, checkpoint_folder, new_entry, write_records
from harness.records import Event, JobRecord, Measurement, Scalar, TrainingResult
from harness.suite import Model, Training
from harness.workloads.training_data import LoadedRows, TokenizedRows, load_rows, tokenize
from harness.workloads.training_settings import Settings, resolve, settings_record, trainer_arguments

if TYPE_CHECKING:
    from harness.workloads.fitting import Fit

MEMORY_METHODS = {
    "torch_reserved_bytes": "torch CUDA memory: reserved before training, largest reserved during it",
    "process_rss_bytes": "process RSS: resident before training, largest resident (VmHWM) during it",
}


@dataclass(frozen=True)
class TrainingWork:
    """One training step with everything it needs; places are absolute paths or hub names."""

    job_id: str
    name: str
    training: Training
    model: Model
    model_place: str
    data_place: str
    adapter_folder: Path


def train_lora(
    work: TrainingWork, emit: Callable[[JobRecord], None], progress: Callable[[int, int], None]
) -> TrainingResult:
    """Train the adapter into `work.adapter_folder` and return what that cost.

    `emit` gets every record as it comes, the result last; `progress` gets optimizer steps done and to do.

    Raises `NotAvailable` for a setting that cannot be honoured here, `InvalidInput` for faulty rows,
    `PrecisionMismatch` where training computes in another precision than asked for, and `HarnessError` where it left
    nothing usable. Nothing of a failed training is kept.
    """
    records: list[JobRecord] = []

    def note(record: JobRecord) -> None:
        records.append(record)
        emit(record)

    with new_entry(work.adapter_folder) as folder:
        result = _train(work, folder, note, progress)
        records.append(result)
        write_records(folder, records)
    emit(result)
    return result


def import_in_order(backend: str) -> None:
    """Import the libraries that training with this backend needs: unsloth first, for it patches the others.

    Takes up to half a minute. Raises `NotAvailable` where unsloth cannot be imported.
    """
    if backend == "unsloth":
        import harness.backends.unsloth
    import harness.workloads.fitting
    import harness.workloads.lora_model  # noqa: F401


def _train(
    work: TrainingWork, folder: Path, note: Callable[[JobRecord], None], progress: Callable[[int, int], None]
) -> TrainingResult:
    training = work.training
    import_in_order(training.backend or work.model.backend)
    from harness.backends.hf import load_tokenizer
    from harness.workloads.fitting import Keep, fit, out_of_memory_named, quiet
    from harness.workloads.lora_model import describe_device, make_lora_model, prove_trained, save

    settings = resolve(training, work.model, describe_device(work.model))
    loaded = load_rows(training.data, work.data_place)
    with quiet(), out_of_memory_named():
        tokenizer = load_tokenizer(work.model, work.model_place)
        rows = tokenize(
            loaded.rows, training.data, tokenizer, training.max_seq_length, training.trainer.dataset_num_proc
        )
        adapted = make_lora_model(training, work.model, settings, work.model_place, rows)
        model = adapted.model
        for event in _events(work, settings, loaded, rows, adapted.rope_scaling):
            note(event)
        arguments = trainer_arguments(training, settings, str(folder / training.trainer.output_dir))
        dtype, kept = settings.compute_dtype, training.checkpoints
        keep = Keep(kept, lambda step: save(model, checkpoint_folder(folder, step))) if kept else None
        outcome = fit(work.job_id, model, tokenizer, rows.dataset, arguments, dtype, note, progress, keep)
        nonzero = prove_trained(model)
        save(model, folder)
        shutil.rmtree(folder / training.trainer.output_dir, ignore_errors=True)
    for measurement in _measurements(work, settings, outcome):
        note(measurement)
    effective = {
        **settings_record(training, settings),
        "max_grad_norm": 1.0,
        "rope_scaling_factor": adapted.rope_scaling,
        "loftq_error_left": adapted.loftq_error_left,
        "lora_b_nonzero": nonzero,
        "skipped_scaler_steps": outcome.skipped_steps,
        **outcome.effective,
    }
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    result = _result(work, settings, outcome, rows, effective, trainable, adapter_hash(folder))
    kept_hashes = {str(step): adapter_hash(checkpoint_folder(folder, step)) for step in training.checkpoints}
    return result.model_copy(update={"checkpoints": kept_hashes})


def _events(
    work: TrainingWork, settings: Settings, loaded: LoadedRows, rows: TokenizedRows, scaling: float | None
) -> list[Event]:
    length = work.training.max_seq_length
    events = []

    def add(level: Literal["info", "warning"], code: str, message: str, **data: Scalar) -> None:
        events.append(Event(job_id=work.job_id, level=level, code=code, message=message, data=data))

    for key, text in settings.substitutions.items():
        asked, used = getattr(work.training.trainer, key), getattr(settings, key)
        add("info", "setting_substituted", f"{key}: {text}.", key=key, asked=asked, used=used)
    if loaded.left_out:
        message = f"{loaded.left_out} rows have no instruction or no output and were left out."
        add("warning", "rows_left_out", message, rows=loaded.left_out)
    if rows.truncated:
        message = f"{rows.truncated} rows are longer than {length} tokens and were cut"
        lost = f"; {rows.without_loss} of them had no answer left and were dropped." if rows.without_loss else "."
        add("warning", "rows_truncated", message + lost, rows=rows.truncated, tokens=length, dropped=rows.without_loss)
    if scaling:
        message = f"RoPE was scaled by {scaling:g} to reach {length} tokens; the adapter must be used with it."
        add("warning", "rope_scaled", message, factor=scaling, tokens=length)
    return events


def _measurements(work: TrainingWork, settings: Settings, outcome: Fit) -> list[Measurement]:
    trainer = work.training.trainer
    conditions: dict[str, Scalar] = {
        "training": work.name,
        "dtype": settings.compute_dtype,
        "quantization": settings.quantization,
        "batch_size": trainer.per_device_train_batch_size,
        "gradient_accumulation_steps": trainer.gradient_accumulation_steps,
    }

    def one(name: str, unit: str, values: tuple[float, ...], method: str) -> Measurement:
        return Measurement(
            job_id=work.job_id,
            model=work.training.model,
            name=f"adapter_training_{name}",
            unit=unit,
            phase="train",
            values=values,
            conditions=conditions,
            method=method,
        )

    steps = one("step_seconds", "s", outcome.step_seconds, "wall clock from the end of one optimizer step to the next")
    tokens = one("step_tokens", "tokens", tuple(map(float, outcome.step_tokens)), "non-padding tokens of the step")
    peaks = [
        one(f"peak_{name}", "bytes", (float(value),), "largest during training")
        for name, value in outcome.memory_peaks.items()
    ]
    return [steps, tokens, *peaks]


def _result(
    work: TrainingWork,
    settings: Settings,
    outcome: Fit,
    rows: TokenizedRows,
    effective: dict[str, Scalar | list[str]],
    trainable_parameters: int,
    digest: str,
) -> TrainingResult:
    figure = next(name for name in MEMORY_METHODS if name in outcome.memory_peaks)
    before, peak = outcome.memory_before[figure], outcome.memory_peaks[figure]
    name, memory = _device_memory(settings)
    return TrainingResult(
        job_id=work.job_id,
        training=work.name,
        adapter_hash=digest,
        adapter_folder=str(work.adapter_folder),
        settings=effective,
        substitutions=dict(settings.substitutions),
        rows=len(rows.dataset),
        rows_truncated=rows.truncated,
        trainable_parameters=trainable_parameters,
        steps=outcome.steps,
        epochs=outcome.epochs,
        tokens=outcome.tokens,
        seconds=outcome.seconds,
        tokens_per_second=outcome.tokens / outcome.seconds,
        final_loss=outcome.final_loss,
        non_finite_steps=outcome.non_finite_steps,
        device_name=name,
        device_memory_bytes=memory,
        memory_method=MEMORY_METHODS[figure],
        memory_before_bytes=before,
        memory_peak_bytes=peak,
        memory_training_bytes=peak - before,
    )


def _device_memory(settings: Settings) -> tuple[str, int]:
    """Return the device's name and its memory in bytes."""
    if settings.device == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(0)
        return str(properties.name), int(properties.total_memory)
    import psutil

    from harness.environment import cpu_name

    return cpu_name(), int(psutil.virtual_memory().total)
