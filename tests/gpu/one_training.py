"""One training of the matrix, through the harness's own training code, in this process alone.

    python -m tests.gpu.one_training '{"name": ..., ...}' MODEL_FOLDER WORK_FOLDER

Says on stdout, a JSON object a line: `ready` after the imports, then waits for a line on stdin, so that imports of one
process overlap another's work and timings do not; `counting` when the warm-up is over; `point` with all figures, or
`failed` with the reason.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.gpu.configurations import Configuration
from tests.gpu.rows import write_rows


def say(kind: str, **values: Any) -> None:
    """Write one message."""
    print(json.dumps({"kind": kind, "at": time.time(), **values}), file=_messages, flush=True)


def main() -> None:
    """Import, wait for the word, train, tell."""
    configuration = Configuration(**json.loads(sys.argv[1]))
    model, work = Path(sys.argv[2]), Path(sys.argv[3])
    try:
        started = time.perf_counter()
        from harness.workloads.train_lora import import_in_order

        import_in_order(configuration.backend)
        rows = write_rows(work, model, configuration)
        import_seconds = time.perf_counter() - started
        say("ready", import_seconds=import_seconds)
        sys.stdin.readline()
        point = train(configuration, model, rows, work)
        say("point", point={**point, "import_seconds": import_seconds})
    except Exception as error:
        traceback.print_exc()
        say("failed", reason=f"{type(error).__name__}: {error}"[:2000])


def train(configuration: Configuration, model: Path, rows: Path, work: Path) -> dict[str, Any]:
    """Train and return every figure. Peaks are those of the training loop, the loaded model included."""
    from harness.records import Event, JobRecord, Measurement, TrainingStep
    from harness.suite import Model
    from harness.workloads.train_lora import TrainingWork, train_lora

    records: list[JobRecord] = []

    def progress(done: int, total: int) -> None:
        if done == configuration.warmup_steps:
            say("counting")

    before = device_bytes()
    started = time.perf_counter()
    job = TrainingWork(
        job_id=configuration.name,
        name=configuration.name,
        training=training_of(configuration, rows),
        model=Model(path=str(model), dtype=configuration.dtype, backend=configuration.backend),
        model_place=str(model),
        data_place=str(rows),
        adapter_folder=work / "adapters" / configuration.name,
    )
    result = train_lora(job, records.append, progress)
    whole = time.perf_counter() - started
    shutil.rmtree(job.adapter_folder)
    figures = {one.name: one.values for one in records if isinstance(one, Measurement)}
    seconds, tokens = figures["adapter_training_step_seconds"], figures["adapter_training_step_tokens"]
    counted = seconds[configuration.warmup_steps :]
    speeds = [n / s for n, s in zip(tokens[configuration.warmup_steps :], counted, strict=True)]
    peak = "adapter_training_peak_"
    return {
        **asdict(configuration),
        "model": json.loads((model / "config.json").read_text(encoding="utf-8")).get("_name_or_path") or model.name,
        "phase": "train",
        "step_seconds": list(seconds),
        "step_tokens": list(tokens),
        "seconds_a_step": quartiles(counted),
        "tokens_per_second": quartiles(speeds),
        "peak_allocated_bytes": first(figures.get(f"{peak}torch_allocated_bytes")),
        "peak_reserved_bytes": first(figures.get(f"{peak}torch_reserved_bytes")),
        "nvml_process_bytes": first(figures.get(f"{peak}nvml_process_bytes")),
        "nvml_device_bytes": first(figures.get(f"{peak}nvml_device_bytes")),
        "process_rss_bytes": first(figures.get(f"{peak}process_rss_bytes")),
        "nvml_device_bytes_before": before,
        "losses": [one.loss for one in records if isinstance(one, TrainingStep)],
        "gradient_norms": [one.gradient_norm for one in records if isinstance(one, TrainingStep)],
        "non_finite_steps": result.non_finite_steps,
        "trainable_parameters": result.trainable_parameters,
        "settings": result.settings,
        "substitutions": result.substitutions,
        "events": [one.message for one in records if isinstance(one, Event)],
        "training_seconds": result.seconds,
        "seconds_without_imports": whole,
    }


def training_of(configuration: Configuration, rows: Path) -> Any:
    """Return the suite section that asks for this configuration."""
    from harness.suite import Lora, Trainer, Training, TrainingData

    return Training(
        model="base",
        data=TrainingData(path=str(rows)),
        max_seq_length=configuration.seq_len,
        load_in_4bit=configuration.quantization == "4bit",
        lora=Lora(
            r=configuration.r,
            use_rslora=configuration.use_rslora,
            loftq_config={"loftq_bits": 4, "loftq_iter": 1} if configuration.loftq else None,
            use_gradient_checkpointing=configuration.checkpointing,
        ),
        trainer=Trainer(
            per_device_train_batch_size=configuration.batch_size,
            gradient_accumulation_steps=configuration.accumulation,
            max_steps=configuration.steps,
            warmup_steps=1,  # a learning rate of 0 in the first step only
            packing=configuration.packing,
            optim=configuration.optimizer,
        ),
    )


def device_bytes() -> int | None:
    """Return the memory in use on the whole GPU, without touching it; None where NVML cannot say."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)
    except Exception:
        return None


def quartiles(values: Any) -> dict[str, float]:
    """Return median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}


def first(values: Any) -> int | None:
    """Return the only value, or None where the figure could not be had."""
    return int(values[0]) if values else None


if __name__ == "__main__":
    # Libraries print; messages have a descriptor of their own, and everything else goes to the log.
    _messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    main()
    _messages.flush()
    os._exit(0)  # some libraries' threads outlive the work
