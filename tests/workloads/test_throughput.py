"""Speeds against a clock that is known, and the whole job on a real tiny model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.backends import OutOfMemory, PassTimes
from harness.errors import NotAvailable
from harness.nvml import Gpu, idle_power_watts
from harness.records import Event, LoadedModel, Measurement, Scalar
from harness.suite import Dtype, Model, Sampling, Throughput, Vllm
from harness.workloads.throughput import measure_throughput
from harness.workloads.train_timing import time_training
from tests.fake_nvml import FakeNvml
from tests.orders import Inbox, make_order
from tests.tiny_models import make_tiny_llama, make_tokenizer

PARAMETERS: dict[str, Scalar] = {
    "study": "throughput",
    "batch_size": 4,
    "prompt_tokens": 10,
    "new_tokens": 5,
    "warmup": 1,
    "repeats": 3,
}


class KnownClock:
    """A model whose first token takes half a second and every further one a tenth."""

    def __init__(self) -> None:
        self.passes = 0

    def describe(self) -> LoadedModel:
        return LoadedModel(
            job_id="throughput-base-0",
            model="base",
            backend="hf",
            path="",
            content_hash="",
            architecture="",
            parameter_count=0,
            parameter_dtypes={},
            requested_dtype="float32",
            compute_dtype="float32",
            quantization="none",
            attention="sdpa",
            device="cpu",
        )

    def time_pass(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> PassTimes:
        self.passes += 1
        slow = 100.0 if self.passes == 1 else 0.0  # the warm-up pass, which must not count
        return PassTimes(1.0, tuple(1.5 + slow + 0.1 * step for step in range(new_tokens)))


def measured(inbox: Inbox) -> dict[str, Measurement]:
    return {record.name: record for record in inbox.records if isinstance(record, Measurement)}


def test_speeds_are_tokens_over_seconds_and_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = KnownClock()
    monkeypatch.setattr("harness.workloads.throughput.open_backend", lambda order: clock)
    inbox = Inbox()
    measure_throughput(make_order(Path("none"), kind="throughput", parameters=PARAMETERS), inbox)
    figures = measured(inbox)
    assert clock.passes == 4
    assert figures["prefill_tokens_per_second"].values == pytest.approx([4 * 10 / 0.5] * 3)
    assert figures["decode_tokens_per_second"].values == pytest.approx([4 * 4 / 0.4] * 3)
    assert figures["time_to_first_token_seconds"].values == pytest.approx([0.5] * 3)
    assert figures["inter_token_latency_seconds"].values == pytest.approx([0.1] * 12)
    assert figures["generate_seconds"].values == pytest.approx([0.9] * 3)


def test_a_model_that_the_roofline_leaves_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = KnownClock()
    monkeypatch.setattr("harness.workloads.throughput.open_backend", lambda order: clock)
    inbox = Inbox()
    parameters: dict[str, Scalar] = {**PARAMETERS, "roofline": True}
    measure_throughput(make_order(Path("none"), kind="throughput", parameters=parameters), inbox)
    (event,) = [one for one in inbox.records if isinstance(one, Event) and one.code == "roofline_left_out"]
    assert event.data == {"model": "base"} and "leaves base out" in event.message


def test_the_memory_of_an_engine_that_reserves_is_not_shown_as_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = KnownClock()
    description = clock.describe().model_copy(update={"engine": "vllm"})
    monkeypatch.setattr(clock, "describe", lambda: (description,))
    monkeypatch.setattr("harness.workloads.throughput.open_engine", lambda order: clock)
    inbox = Inbox()
    sampling = Sampling(vllm=Vllm(gpu_memory_share=0.3))
    parameters = {**PARAMETERS, "engine": "vllm"}
    measure_throughput(make_order(Path("none"), kind="throughput", sampling=sampling, parameters=parameters), inbox)
    assert not [name for name in measured(inbox) if "bytes" in name or "gib" in name]
    (event,) = [one for one in inbox.records if isinstance(one, Event) and one.code == "memory_reserved"]
    assert "reserves 30%" in event.message


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


def test_a_real_model_is_timed_and_its_memory_is_named_for_what_it_is(llama: Path) -> None:
    inbox = Inbox()
    measure_throughput(make_order(llama, kind="throughput", parameters=PARAMETERS), inbox)
    figures = measured(inbox)
    assert all(value > 0 for figure in figures.values() for value in figure.values)
    assert {"load_seconds", "peak_process_rss_bytes"} <= figures.keys()
    told = {"dtype": "float32", "quantization": "none", "engine": "plain"}
    assert figures["decode_tokens_per_second"].conditions == {**PARAMETERS, **told}


def test_training_steps_are_timed_with_their_losses(llama: Path) -> None:
    parameters = {**PARAMETERS, "study": "precision", "training_steps": 4, "dtype": "float32"}
    inbox = Inbox()
    time_training(make_order(llama, kind="train_timing", parameters=parameters), inbox)
    figures = measured(inbox)
    assert len(figures["training_step_seconds"].values) == 4
    losses = figures["training_loss"].values
    assert losses[-1] < losses[0]
    steps, speeds = (figures[name].values for name in ("training_step_seconds", "training_tokens_per_second"))
    assert [step * speed for step, speed in zip(steps, speeds, strict=True)] == pytest.approx([4 * 15] * 4)


def test_a_model_whose_layers_have_other_names_is_timed_with_lora_on_all_of_them(tmp_path: Path) -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    tokenizer = make_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    parameters = {**PARAMETERS, "study": "precision", "training_steps": 2, "dtype": "float32"}
    inbox = Inbox()
    time_training(make_order(tmp_path, kind="train_timing", parameters=parameters), inbox)
    method = measured(inbox)["training_step_seconds"].method
    assert "(rank 16, dense, dense_4h_to_h, dense_h_to_4h, query_key_value)" in method


class Sized:
    """A model that needs memory for batch * tokens and has none above a limit; a token takes a tenth of a second."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.asked: list[tuple[int, int, int]] = []

    def describe(self) -> LoadedModel:
        return KnownClock().describe()

    def time_pass(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> PassTimes:
        if batch_size * (prompt_tokens + new_tokens) > self.limit:
            raise OutOfMemory("tried to allocate too much")
        self.asked.append((batch_size, prompt_tokens, new_tokens))
        return PassTimes(0.0, tuple(0.1 * step for step in range(1, new_tokens + 1)))


def run_sized(monkeypatch: pytest.MonkeyPatch, limit: int, parameters: dict[str, Scalar]) -> tuple[Sized, Inbox]:
    model: Any = Sized(limit)
    monkeypatch.setattr("harness.workloads.throughput.open_backend", lambda order: model)
    points = Throughput(batch_sizes=(4, 1), prompt_tokens=(16, 8), new_tokens=3).grid()
    order = make_order(Path("none"), kind="throughput", parameters=parameters).model_copy(update={"points": points})
    inbox = Inbox()
    measure_throughput(order, inbox)
    return model, inbox


FIXED: dict[str, Scalar] = {"study": "throughput", "warmup": 1, "repeats": 3}


def test_one_load_measures_every_point_the_smallest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inbox = run_sized(monkeypatch, 1000, FIXED)
    assert list(dict.fromkeys(model.asked)) == [(1, 8, 3), (1, 16, 3), (4, 8, 3), (4, 16, 3)]
    speeds = [one for one in inbox.records if isinstance(one, Measurement) and one.name == "decode_tokens_per_second"]
    assert [one.values[0] for one in speeds] == pytest.approx([10, 10, 40, 40])
    assert [(one.conditions["batch_size"], one.conditions["prompt_tokens"]) for one in speeds] == [
        (1, 8), (1, 16), (4, 8), (4, 16)
    ]  # fmt: skip
    assert sum(one.name == "load_seconds" for one in inbox.records if isinstance(one, Measurement)) == 1


def test_a_point_that_does_not_fit_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inbox = run_sized(monkeypatch, 44, FIXED)
    assert (4, 16, 3) not in model.asked and (4, 8, 3) in model.asked
    (event,) = [one for one in inbox.records if isinstance(one, Event) and one.code == "point_left_out"]
    assert "batch 4, 16 tokens in" in event.message


def test_speed_for_memory_divides_by_the_peak_of_the_same_point(monkeypatch: pytest.MonkeyPatch) -> None:
    _, inbox = run_sized(monkeypatch, 1000, FIXED)
    figures = measured(inbox)
    gib = figures["peak_process_rss_bytes"].values[0] / 2**30
    assert figures["decode_tokens_per_second_per_gib"].values[0] * gib == pytest.approx(40)
    assert "peak_process_rss_bytes" in figures["decode_tokens_per_second_per_gib"].method


def test_without_a_counter_there_is_no_energy_but_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    _, inbox = run_sized(monkeypatch, 1000, FIXED)
    assert "energy_joules_per_1000_tokens" not in measured(inbox)
    (event,) = [one for one in inbox.records if isinstance(one, Event)]
    assert (event.code, "no NVIDIA GPU" in event.message) == ("energy_not_measured", True)


def test_energy_is_that_of_the_counted_passes_over_their_new_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(processes={})
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    # Idle: 0 to 50 J. Then for each of four points: 90 J over 3 passes of 3 tokens.
    fake.millijoules = [0, 50_000] + [reading for point in range(4) for reading in (100_000, 190_000)]
    monkeypatch.setattr("harness.workloads.throughput.gpu_of", lambda device: Gpu("GPU-1"))
    monkeypatch.setattr("harness.workloads.throughput.idle_power_watts", lambda gpu: idle_power_watts(gpu, 0.05))
    _, inbox = run_sized(monkeypatch, 1000, FIXED)
    energy = [one for one in inbox.records if isinstance(one, Measurement) and one.name.startswith("energy")]
    assert [one.values[0] for one in energy] == pytest.approx([90 / 9 * 1000] * 2 + [90 / 36 * 1000] * 2)
    assert all("too short" in (one.not_comparable or "") for one in energy)  # the fake passes take no time
    assert measured(inbox)["idle_power_watts"].values[0] == pytest.approx(1000, rel=0.2)


def test_others_on_the_gpu_mark_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(processes={os.getpid() + 1: 2**30}))
    monkeypatch.setattr("harness.workloads.throughput.gpu_of", lambda device: Gpu("GPU-1"))
    monkeypatch.setattr("harness.workloads.throughput.idle_power_watts", lambda gpu: None)
    _, inbox = run_sized(monkeypatch, 1000, FIXED)
    figures = [one for one in inbox.records if isinstance(one, Measurement)]
    assert all(one.not_comparable == "other processes used the GPU" for one in figures)
    (event,) = [one for one in inbox.records if isinstance(one, Event) and one.code == "foreign_gpu_processes"]
    assert event.level == "warning" and event.data["before"] == 1


def test_what_does_not_fit_in_one_precision_is_a_result_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotAvailable, match="does not fit into memory"):
        run_sized(monkeypatch, 20, {**FIXED, "study": "precision"})


def test_achieved_work_is_counted_work_over_measured_time(llama: Path) -> None:
    inbox = Inbox()
    measure_throughput(make_order(llama, kind="throughput", parameters={**PARAMETERS, "roofline": True}), inbox)
    figures = measured(inbox)
    for phase, seconds_of in (("prefill", "time_to_first_token_seconds"),):
        work = [
            speed * seconds
            for speed, seconds in zip(
                figures[f"{phase}_flop_per_second"].values, figures[seconds_of].values, strict=True
            )
        ]
        assert work == pytest.approx([work[0]] * 3)
        assert f"{work[0]:.4g} FLOP" in figures[f"{phase}_flop_per_second"].method
    per_byte = figures["decode_flop_per_byte"].values[0]
    ratio = figures["decode_flop_per_second"].values[0] / figures["decode_bytes_per_second"].values[0]
    assert ratio == pytest.approx(per_byte)
    assert figures["prefill_flop_per_byte"].values[0] > per_byte


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_precision_trains_on_the_same_tokens_from_the_same_start(llama: Path, dtype: Dtype) -> None:
    parameters: dict[str, Scalar] = {
        **PARAMETERS,
        "study": "precision",
        "training_steps": 3,
        "dtype": dtype,
        "warmup": 0,
    }
    losses: list[tuple[float, ...]] = []
    for model in (Model(path="model", dtype="float32"), Model(path="model", dtype=dtype)):
        inbox = Inbox()
        torch.manual_seed(len(losses))  # what ran before must not matter
        time_training(make_order(llama, kind="train_timing", model=model, parameters=parameters), inbox)
        losses.append(measured(inbox)["training_loss"].values)
    reference, other = losses
    assert other == pytest.approx(reference, abs=0.05 if dtype == "bfloat16" else 0)
    assert (other == reference) is (dtype == "float32")


def test_a_training_step_has_its_achieved_work(llama: Path) -> None:
    parameters: dict[str, Scalar] = {**PARAMETERS, "study": "precision", "training_steps": 3, "roofline": True}
    inbox = Inbox()
    time_training(make_order(llama, kind="train_timing", parameters=parameters), inbox)
    figures = measured(inbox)
    speeds, seconds = (figures[name].values for name in ("training_flop_per_second", "training_step_seconds"))
    work = [speed * taken for speed, taken in zip(speeds, seconds, strict=True)]
    assert work == pytest.approx([work[0]] * 3)
    assert "roofline" not in figures["training_step_seconds"].conditions


@pytest.mark.gpu
def test_on_a_gpu_energy_and_the_four_memory_figures_are_there(llama: Path) -> None:
    inbox = Inbox()
    model = Model(path="model", prompt_format="alpaca_ko", dtype="bfloat16")
    parameters = {**PARAMETERS, "new_tokens": 64, "repeats": 20}
    measure_throughput(make_order(llama, kind="throughput", model=model, parameters=parameters), inbox)
    figures = measured(inbox)
    assert {"energy_joules_per_1000_tokens", "idle_power_watts", "peak_torch_allocated_bytes"} <= figures.keys()
    assert {"peak_torch_reserved_bytes", "peak_nvml_device_bytes"} <= figures.keys()
    assert figures["mean_power_watts"].values[0] > 30
