"""LoRA training steps at fixed lengths in one precision: the same work whatever the data, for comparing precisions.

Each step is forward, backward and AdamW update of rank-16 LoRA on random tokens, the same tokens and the same initial
LoRA weights in every precision, so that losses differ by precision alone. Half precision runs under autocast
with float32 LoRA weights, float16 with a loss scaler besides, as the trainers do it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from harness.model_cost import lora_step_work
from harness.nvml import ForeignWatch, gpu_of
from harness.orders import Message, Progress, Records, WorkOrder
from harness.probes import PeakMemory, synchronize
from harness.records import Event, JobRecord, Measurement
from harness.suite import Lora
from harness.workloads.measurements import Series, marked, memory_is_a_result

STEP_METHOD = "forward, backward and AdamW step of LoRA (rank {rank}, {targets}) on random tokens of fixed length"


def time_training(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Time the steps after the warm-up ones; non-finite losses and skipped scaler steps are results, not errors."""
    parameters = order.job.parameters
    batch_size, steps, warmup = (int(parameters[name] or 0) for name in ("batch_size", "training_steps", "warmup"))
    length = int(parameters["prompt_tokens"] or 0) + int(parameters["new_tokens"] or 0)
    device = _device(order)
    with ForeignWatch(gpu_of(device)) as watch, memory_is_a_result(order), PeakMemory(device) as memory:
        stepper = _Stepper(order, device, batch_size, length)
        seconds = []
        for number in range(warmup + steps):
            synchronize(device)
            start = time.perf_counter()
            stepper.step()
            synchronize(device)
            if number >= warmup:
                seconds.append(time.perf_counter() - start)
            send(Progress(done=number + 1, total=warmup + steps, unit="steps"))
    series = Series(order, {"sequence_tokens": length, "quantization": order.model.quantization})
    tokens_per_second = tuple(batch_size * length / one for one in seconds)
    method = STEP_METHOD.format(rank=Lora().r, targets=_targets_in_words(stepper.model))
    records = [
        series.one("training_step_seconds", "s", "train", tuple(seconds), method),
        series.one("training_tokens_per_second", "tokens/s", "train", tokens_per_second, method),
        series.one("training_loss", "nats", "train", tuple(stepper.losses[warmup:]), "mean cross-entropy per token"),
        *series.memory(memory.peaks, "train"),
    ]
    if parameters.get("roofline"):
        records += _roofline(series, stepper, batch_size, length, seconds)
    told: list[JobRecord] = [*records, *_numeric_events(order, stepper)]
    send(Records(records=marked(told, series, watch.use())))


def _device(order: WorkOrder) -> str:
    """Return the device that the order's backend trains on."""
    if order.model.backend == "unsloth":
        import harness.backends.unsloth  # noqa: F401  (before transformers, which it patches)
    from harness.backends.hf import choose_device

    return choose_device(order.model)


def _with_lora(order: WorkOrder, device: str, length: int) -> Any:
    """Load the order's model by the backend it names and put fresh LoRA on it, the same in every precision."""
    lora = Lora()
    config: dict[str, Any] = {"r": lora.r, "lora_alpha": lora.lora_alpha, "target_modules": list(lora.target_modules)}
    if order.model.backend == "unsloth":
        from harness.backends import unsloth

        base = unsloth.load_base(order.model, order.model_place, length, seed=0)
        return unsloth.add_lora(base, config, lora, length)
    from peft import LoraConfig, get_peft_model

    from harness.backends.hf import load_base

    base = load_base(order.model, order.model_place, device)
    names = {name.rpartition(".")[2] for name, _ in base.named_modules()}
    if not names.issuperset(lora.target_modules):  # a model with layers of other names: GPT-NeoX, Phi-3
        config["target_modules"] = "all-linear"
    torch.manual_seed(0)  # after loading, which may draw numbers of its own in one precision and not in another
    return get_peft_model(base, LoraConfig(**config, task_type="CAUSAL_LM"))


def _targets_in_words(model: Any) -> str:
    (config,) = model.peft_config.values()
    targets = {name.rpartition(".")[2] for name in config.target_modules}
    return "seven projections" if targets == set(Lora().target_modules) else ", ".join(sorted(targets))


class _Stepper:
    """A model with LoRA and its optimizer."""

    def __init__(self, order: WorkOrder, device: str, batch_size: int, length: int) -> None:
        self.model = _with_lora(order, device, length).train()
        self.device = device
        self.dtype = getattr(torch, order.model.dtype)
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=2e-4)
        self.scaler = torch.amp.GradScaler(device, enabled=self.dtype == torch.float16)
        vocabulary = self.model.get_input_embeddings().num_embeddings
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(0, vocabulary, (batch_size, length), generator=generator).to(device)
        self.losses: list[float] = []
        self.skipped_steps = 0

    def step(self) -> None:
        """Do one optimizer step and keep its loss."""
        with torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype != torch.float32):
            loss = self.model(input_ids=self.ids, labels=self.ids).loss
        self.scaler.scale(loss).backward()
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.skipped_steps += self.scaler.get_scale() < scale
        self.optimizer.zero_grad()
        self.losses.append(loss.item())


def _roofline(
    series: Series, stepper: _Stepper, batch_size: int, length: int, seconds: list[float]
) -> list[Measurement]:
    """Achieved arithmetic, from times measured and work counted (see `model_cost`)."""
    from harness.workloads.model_shape import model_shape

    shape = model_shape(stepper.model.get_base_model(), stepper.dtype.itemsize)
    if shape is None:
        return []
    work = lora_step_work(shape, batch_size, length)
    counted = f"{work.flop:.4g} FLOP and {work.bytes:.4g} bytes of weights counted from the model's shape"
    speeds = tuple(work.flop / taken for taken in seconds)
    return [
        series.one("training_flop_per_second", "FLOP/s", "train", speeds, counted),
        series.one("training_flop_per_byte", "FLOP/B", "train", (work.intensity,), counted),
    ]


def _numeric_events(order: WorkOrder, stepper: _Stepper) -> list[Event]:
    non_finite = sum(not math.isfinite(loss) for loss in stepper.losses)
    if not non_finite and not stepper.skipped_steps:
        return []
    data = {"dtype": order.model.dtype, "non_finite_losses": non_finite, "skipped_scaler_steps": stepper.skipped_steps}
    message = f"{order.model.dtype}: {non_finite} non-finite losses, {stepper.skipped_steps} skipped scaler steps."
    return [Event(job_id=order.job.id, level="warning", code="numeric_trouble", message=message, data=data)]
