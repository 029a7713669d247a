"""Speed at fixed lengths: every model reads and writes exactly the same number of tokens, whatever it would answer.

Prefill is the time to the first token, decode the time from the first token to the last. Decoding a model of N bytes
of weights reads all of them once per token and batch, so at small batches the limit is memory bandwidth / N steps a
second; prefill does about 2 * parameters * tokens operations at once and is bound by arithmetic.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.backends import PassTimes, open_backend
from harness.orders import Message, Progress, Records, WorkOrder
from harness.probes import PeakMemory
from harness.records import LoadedModel, Measurement, Scalar

PREFILL_METHOD = "batch * prompt tokens / time to first token; greedy, end token ignored, clock read at each token"
DECODE_METHOD = "batch * (new tokens - 1) / time from first to last token"
MEMORY_METHODS = {
    "process_rss_bytes": "resident set of the job's process, kernel peak (VmHWM) over loading and generation",
    "torch_allocated_bytes": "torch.cuda.max_memory_allocated over loading and generation",
    "torch_reserved_bytes": "torch.cuda.max_memory_reserved over loading and generation",
    "nvml_process_bytes": "NVML memory of the job's process, sampled every 20 ms",
    "nvml_device_bytes": "NVML memory of the whole device, sampled every 20 ms, other processes included",
}


def measure_throughput(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Load the model, make the warm-up passes, then the counted ones."""
    parameters = order.job.parameters
    batch_size, prompt_tokens, new_tokens, warmup, repeats = (
        int(parameters[name] or 0) for name in ("batch_size", "prompt_tokens", "new_tokens", "warmup", "repeats")
    )
    device = "cuda" if _has_gpu(order) else "cpu"
    passes: list[PassTimes] = []
    with PeakMemory(device) as memory:
        started = time.perf_counter()
        backend = open_backend(order)
        load_seconds = time.perf_counter() - started
        loaded = backend.describe()
        for number in range(warmup + repeats):
            times = backend.time_pass(batch_size, prompt_tokens, new_tokens)
            if number >= warmup:
                passes.append(times)
            send(Progress(done=number + 1, total=warmup + repeats, unit="passes"))
    conditions: dict[str, Scalar] = {**parameters, "dtype": loaded.compute_dtype, "quantization": loaded.quantization}
    series = _Series(order, conditions)
    measurements = series.speeds(passes, batch_size, prompt_tokens, new_tokens)
    measurements.append(series.one("load_seconds", "s", "load", (load_seconds,), "weights, tokenizer and adapter"))
    measurements += [
        series.one(f"peak_{name}", "bytes", "generate", (float(value),), MEMORY_METHODS[name])
        for name, value in memory.peaks.items()
    ]
    send(Records(records=(loaded, *measurements)))


def _has_gpu(order: WorkOrder) -> bool:
    import torch

    return order.model.device != "cpu" and torch.cuda.is_available()


class _Series:
    """Makes the measurements of one job, which share its conditions."""

    def __init__(self, order: WorkOrder, conditions: dict[str, Scalar]) -> None:
        self.order = order
        self.conditions = conditions

    def one(self, name: str, unit: str, phase: str, values: tuple[float, ...], method: str) -> Measurement:
        return Measurement(
            job_id=self.order.job.id,
            model=self.order.job.model,
            name=name,
            unit=unit,
            phase=phase,
            values=values,
            conditions=self.conditions,
            method=method,
        )

    def speeds(
        self, passes: list[PassTimes], batch_size: int, prompt_tokens: int, new_tokens: int
    ) -> list[Measurement]:
        first = [one.tokens[0] - one.start for one in passes]
        decode = [one.tokens[-1] - one.tokens[0] for one in passes]
        whole = [one.tokens[-1] - one.start for one in passes]
        gaps = [later - earlier for one in passes for earlier, later in zip(one.tokens, one.tokens[1:], strict=False)]
        prefill_speed = tuple(batch_size * prompt_tokens / seconds for seconds in first)
        decode_speed = tuple(batch_size * (new_tokens - 1) / seconds for seconds in decode)
        return [
            self.one("prefill_tokens_per_second", "tokens/s", "prefill", prefill_speed, PREFILL_METHOD),
            self.one("decode_tokens_per_second", "tokens/s", "decode", decode_speed, DECODE_METHOD),
            self.one("time_to_first_token_seconds", "s", "prefill", tuple(first), "from the call to the first token"),
            self.one("inter_token_latency_seconds", "s", "decode", tuple(gaps), "between the tokens of a row, all passes"),
            self.one("generate_seconds", "s", "generate", tuple(whole), "from the call to the last token"),
        ]
