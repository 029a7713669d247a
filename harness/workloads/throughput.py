"""Speed at fixed lengths: every model reads and writes exactly the same number of tokens, whatever it would answer.

Prefill is the time to the first token, decode the time from the first token to the last. Decoding a model of N bytes
of weights reads all of them once per token and batch, so at small batches the limit is memory bandwidth / N steps a
second; prefill does about 2 * parameters * tokens operations at once and is bound by arithmetic.

A job loads its model once and measures all its points, the smallest first. The peak counters are set back before each
point, and torch gives its unused memory back to the driver, so that a point's peak is its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping

from harness.backends import Backend, OutOfMemory, PassTimes, open_backend
from harness.engine import Engine, EngineUnsuited, open_engine
from harness.errors import reason_of
from harness.model_cost import ModelShape, decode_work, prefill_work
from harness.nvml import EnergyMeter, ForeignWatch, Gpu, gpu_of, idle_power_watts
from harness.orders import Message, Progress, Records, WorkOrder
from harness.probes import PeakMemory
from harness.records import JobRecord, LoadedModel, Measurement
from harness.suite import TimingPoint
from harness.workloads.measurements import Series, marked, memory_is_a_result

PREFILL_METHOD = "batch * prompt tokens / time to first token; greedy, end token ignored, clock read at each token"
DECODE_METHOD = "batch * (new tokens - 1) / time from first to last token"
POINT_KEYS = tuple(TimingPoint.model_fields)
POINT_SPAN = "over the passes of this point, counters set back before it"
RESERVATION = "vLLM's reservation and not what the model needs"
SHORTEST_ENERGY_SECONDS = 1.0
"""The counter moves in steps of up to a tenth of a second; over less than this they would show."""


def measure_throughput(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Load the model and measure every point; a point that does not fit into memory is left out with a warning."""
    device = "cuda" if _has_gpu(order) else "cpu"
    gpu = gpu_of(device)
    with ForeignWatch(gpu) as watch, memory_is_a_result(order):
        with PeakMemory(device) as memory:
            started = time.perf_counter()
            try:
                subject, loaded = _open(order)
            except EngineUnsuited as reason:
                send(Records(records=(_unsuited(order, reason),)))
                return
            load_seconds = time.perf_counter() - started
        timer = _Timer(order, subject, loaded, device, gpu, send)
        load = timer.series.one(
            "load_seconds", "s", "load", (load_seconds,), "weights, tokenizer and adapter, until usable"
        )
        loading = timer.memory(timer.series, memory.peaks, "load", "while loading", prefix="loading_peak")
        records = [loaded, load, *loading, *timer.idle_power(), *timer.all_points()]
        if timer.reserves:
            records.append(_reservation(order, timer.series))
    send(Records(records=marked(records, timer.series, watch.use())))


def _has_gpu(order: WorkOrder) -> bool:
    import torch

    return order.model.device != "cpu" and torch.cuda.is_available()


def _open(order: WorkOrder) -> tuple[Backend | Engine, LoadedModel]:
    """Load the model with the engine that the job names; the backend's plain path if it names none."""
    if order.job.parameters.get("engine", "plain") == "plain":
        backend = open_backend(order)
        return backend, backend.describe()
    engine = open_engine(order)
    return engine, engine.describe()[0]


def _unsuited(order: WorkOrder, reason: Exception) -> JobRecord:
    engine = order.job.parameters["engine"]
    message = f"{order.job.model} was not timed with the engine '{engine}': {reason}"
    data = {"engine": engine, "model": order.job.model, "reason": str(reason)}
    return Series(order, {}).event("engine_unsuited", message, data, level="warning")


class _Timer:
    """Times one loaded model at each of the job's points."""

    def __init__(
        self,
        order: WorkOrder,
        subject: Backend | Engine,
        loaded: LoadedModel,
        device: str,
        gpu: Gpu | None,
        send: Callable[[Message], None],
    ) -> None:
        parameters = order.job.parameters
        self.subject = subject
        self.device = device
        self.gpu = gpu
        self.send = send
        self.warmup, self.repeats = int(parameters["warmup"] or 0), int(parameters["repeats"] or 0)
        self.model = order.job.model
        self.points = order.points or (TimingPoint.model_validate({key: parameters[key] for key in POINT_KEYS}),)
        self.study = parameters.get("study")
        self.roofline = bool(parameters.get("roofline"))
        self.shape = _shape(subject, loaded) if self.roofline else None
        same = {"dtype": loaded.compute_dtype, "quantization": loaded.quantization, "engine": loaded.engine}
        self.series = Series(order, same)
        self.reserves = loaded.engine == "vllm"
        self.no_energy: str | None = None
        self.done = 0

    def idle_power(self) -> list[JobRecord]:
        """Measure what the GPU draws with the model loaded and nothing to do."""
        watts = idle_power_watts(self.gpu) if self.gpu else None
        if watts is None:
            return []
        method = "mean over one second, model loaded, no work"
        return [self.series.one("idle_power_watts", "W", "load", (watts,), method)]

    def all_points(self) -> list[JobRecord]:
        """Measure every point. OutOfMemory only in the precision study, where it is for the caller to judge."""
        records: list[JobRecord] = []
        if self.roofline and self.shape is None:
            message = f"The roofline leaves {self.model} out: not all of its operations can be counted."
            records.append(self.series.event("roofline_left_out", message, {"model": self.model}))
        for point in self.points:
            series = self.series.at(point.model_dump())
            try:
                records += self._point(point, series)
            except OutOfMemory as error:
                if self.study == "precision":
                    raise
                what = f"batch {point.batch_size}, {point.prompt_tokens} tokens in, {point.new_tokens} out"
                message = f"{what} did not fit into memory and was left out: {reason_of(error)}"
                records.append(series.event("point_left_out", message, point.model_dump(), level="warning"))
        if self.no_energy:
            records.append(self.series.event("energy_not_measured", f"No energy is shown: {self.no_energy}.", {}))
        return records

    def _point(self, point: TimingPoint, series: Series) -> list[JobRecord]:
        with PeakMemory(self.device) as memory:
            started = time.perf_counter()
            self._passes(point, self.warmup)
            warmup_seconds = time.perf_counter() - started
            with EnergyMeter(self.gpu) as energy:
                passes = self._passes(point, self.repeats)
        if energy.joules is None:
            self.no_energy = energy.method
        speeds = _speeds(series, passes, point)
        warmup_method = f"{self.warmup} passes that are not counted, compiling and autotuning included"
        return [
            *speeds,
            series.one("warmup_seconds", "s", "generate", (warmup_seconds,), warmup_method),
            *self.memory(series, memory.peaks, "generate", POINT_SPAN),
            *(() if self.reserves else _per_gib(series, speeds[1], memory.peaks)),
            *_energy(series, energy, point.batch_size * point.new_tokens * self.repeats),
            *(_roofline(series, self.shape, passes, point) if self.shape else ()),
        ]

    def memory(
        self, series: Series, peaks: Mapping[str, int], phase: str, span: str, prefix: str = "peak"
    ) -> list[Measurement]:
        """Make `Series.memory`'s measurements; of an engine that reserves, only the device's, marked as that."""
        if not self.reserves:
            return series.memory(peaks, phase, span, prefix)
        of_device = {name: value for name, value in peaks.items() if name == "nvml_device_bytes"}
        found = series.memory(of_device, phase, span, prefix)
        return [one.model_copy(update={"not_comparable": RESERVATION}) for one in found]

    def _passes(self, point: TimingPoint, count: int) -> list[PassTimes]:
        passes = []
        for _ in range(count):
            passes.append(self.subject.time_pass(point.batch_size, point.prompt_tokens, point.new_tokens))
            self.done += 1
            total = len(self.points) * (self.warmup + self.repeats)
            self.send(Progress(done=self.done, total=total, unit="passes"))
        return passes


def _reservation(order: WorkOrder, series: Series) -> JobRecord:
    share = order.sampling.vllm.share_of("cuda" if _has_gpu(order) else "cpu")
    message = (
        f"No memory that {order.job.model} needs is shown: vLLM reserves {share:.0%} of the memory at its start, "
        "whatever the model needs, in processes of its own."
    )
    return series.event("memory_reserved", message, {"model": order.job.model, "share": f"{share:.0%}"})


def _shape(subject: Backend | Engine, loaded: LoadedModel) -> ModelShape | None:
    import torch

    from harness.workloads.model_shape import model_shape, torch_model

    model = torch_model(subject)
    dtype: torch.dtype = getattr(torch, loaded.compute_dtype)
    return None if model is None else model_shape(model, dtype.itemsize)


def _speeds(series: Series, passes: list[PassTimes], point: TimingPoint) -> list[Measurement]:
    first = tuple(one.tokens[0] - one.start for one in passes)
    decode = tuple(one.tokens[-1] - one.tokens[0] for one in passes)
    whole = tuple(one.tokens[-1] - one.start for one in passes)
    gaps = tuple(later - earlier for one in passes for earlier, later in itertools.pairwise(one.tokens))
    prefill_speed = tuple(point.batch_size * point.prompt_tokens / seconds for seconds in first)
    decode_speed = tuple(point.batch_size * (point.new_tokens - 1) / seconds for seconds in decode)
    return [
        series.one("prefill_tokens_per_second", "tokens/s", "prefill", prefill_speed, PREFILL_METHOD),
        series.one("decode_tokens_per_second", "tokens/s", "decode", decode_speed, DECODE_METHOD),
        series.one("time_to_first_token_seconds", "s", "prefill", first, "from the call to the first token"),
        series.one("inter_token_latency_seconds", "s", "decode", gaps, "between tokens of a row, all passes"),
        series.one("generate_seconds", "s", "generate", whole, "from the call to the last token"),
    ]


def _per_gib(series: Series, decode: Measurement, peaks: Mapping[str, int]) -> list[Measurement]:
    """Decode speed for each GiB of the memory that the process holds."""
    name = next((name for name in ("torch_reserved_bytes", "process_rss_bytes") if name in peaks), None)
    if name is None:
        return []
    values = tuple(speed / (peaks[name] / 2**30) for speed in decode.values)
    method = f"decode tokens/s divided by peak_{name} of the same point in GiB"
    return [series.one("decode_tokens_per_second_per_gib", "tokens/s/GiB", "decode", values, method)]


def _energy(series: Series, energy: EnergyMeter, tokens: int) -> list[Measurement]:
    """Energy of the counted passes for 1,000 new tokens, and the mean power."""
    if energy.joules is None:
        return []
    method = f"{energy.method}, prefill and idle draw included, over {energy.seconds:.1f} s of counted passes"
    per_thousand = series.one(
        "energy_joules_per_1000_tokens", "J", "generate", (energy.joules / tokens * 1000,), f"{method}; new tokens"
    )
    power = series.one("mean_power_watts", "W", "generate", (energy.joules / energy.seconds,), method)
    if energy.seconds >= SHORTEST_ENERGY_SECONDS:
        return [per_thousand, power]
    reason = f"the passes took {energy.seconds:.2f} s, too short for the counter's steps"
    return [one.model_copy(update={"not_comparable": reason}) for one in (per_thousand, power)]


def _roofline(series: Series, shape: ModelShape, passes: list[PassTimes], point: TimingPoint) -> list[Measurement]:
    """Achieved arithmetic and traffic, from times measured and work counted (see `model_cost`)."""
    prefill = prefill_work(shape, point.batch_size, point.prompt_tokens)
    decode = decode_work(shape, point.batch_size, point.prompt_tokens, point.new_tokens)
    seconds = {
        "prefill": [one.tokens[0] - one.start for one in passes],
        "decode": [one.tokens[-1] - one.tokens[0] for one in passes],
    }
    records = []
    for phase, work in (("prefill", prefill), ("decode", decode)):
        counted = f"{work.flop:.4g} FLOP and {work.bytes:.4g} bytes counted from the model's shape"
        speeds = tuple(work.flop / taken for taken in seconds[phase])
        traffic = tuple(work.bytes / taken for taken in seconds[phase])
        records += [
            series.one(f"{phase}_flop_per_second", "FLOP/s", phase, speeds, counted),
            series.one(f"{phase}_bytes_per_second", "B/s", phase, traffic, counted),
            series.one(f"{phase}_flop_per_byte", "FLOP/B", phase, (work.intensity,), counted),
        ]
    return records
