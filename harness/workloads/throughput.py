"""Speed at fixed lengths: every model reads and writes exactly the same number of tokens, whatever it would answer.

Prefill is the time to the first token, decode the time from the first token to the last. Decoding a model of N bytes
of weights reads all of them once per token and batch, so at small batches the limit is memory bandwidth / N steps a
second; prefill does about 2 * parameters * tokens operations at once and is bound by arithmetic.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from harness.backends import PassTimes, open_backend
from harness.orders import Message, Progress, Records, WorkOrder
from harness.probes import PeakMemory
from harness.records import Measurement
from harness.workloads.measurements import Series

PREFILL_METHOD = "batch * prompt tokens / time to first token; greedy, end token ignored, clock read at each token"
DECODE_METHOD = "batch * (new tokens - 1) / time from first to last token"


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
    series = Series(order, {"dtype": loaded.compute_dtype, "quantization": loaded.quantization})
    load = series.one("load_seconds", "s", "load", (load_seconds,), "weights, tokenizer and adapter, until usable")
    speeds = _speeds(series, passes, batch_size, prompt_tokens, new_tokens)
    send(Records(records=(loaded, load, *speeds, *series.memory(memory.peaks, "generate"))))


def _has_gpu(order: WorkOrder) -> bool:
    import torch

    return order.model.device != "cpu" and torch.cuda.is_available()


def _speeds(
    series: Series, passes: list[PassTimes], batch_size: int, prompt_tokens: int, new_tokens: int
) -> list[Measurement]:
    first = tuple(one.tokens[0] - one.start for one in passes)
    decode = tuple(one.tokens[-1] - one.tokens[0] for one in passes)
    whole = tuple(one.tokens[-1] - one.start for one in passes)
    gaps = tuple(later - earlier for one in passes for earlier, later in itertools.pairwise(one.tokens))
    prefill_speed = tuple(batch_size * prompt_tokens / seconds for seconds in first)
    decode_speed = tuple(batch_size * (new_tokens - 1) / seconds for seconds in decode)
    return [
        series.one("prefill_tokens_per_second", "tokens/s", "prefill", prefill_speed, PREFILL_METHOD),
        series.one("decode_tokens_per_second", "tokens/s", "decode", decode_speed, DECODE_METHOD),
        series.one("time_to_first_token_seconds", "s", "prefill", first, "from the call to the first token"),
        series.one("inter_token_latency_seconds", "s", "decode", gaps, "between tokens of a row, all passes"),
        series.one("generate_seconds", "s", "generate", whole, "from the call to the last token"),
    ]
