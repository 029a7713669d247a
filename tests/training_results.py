"""A training result for tests."""

from __future__ import annotations

from harness.records import Scalar, TrainingResult


def training_result(settings: dict[str, Scalar | list[str]]) -> TrainingResult:
    return TrainingResult(
        job_id="train-lora-0",
        training="lora",
        adapter_hash="hash",
        adapter_folder="folder",
        settings=settings,
        rows=1,
        rows_truncated=0,
        trainable_parameters=1,
        steps=1,
        epochs=1.0,
        tokens=1,
        seconds=1.0,
        tokens_per_second=1.0,
        final_loss=1.0,
        non_finite_steps=0,
        device_name="cpu",
        device_memory_bytes=1,
        memory_method="process RSS",
        memory_before_bytes=1,
        memory_peak_bytes=2,
        memory_training_bytes=1,
    )
