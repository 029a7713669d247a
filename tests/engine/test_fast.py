"""The fast engine against the plain path, on a real (tiny, random) Llama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engine import EngineUnsuited, Request, open_engine
from harness.engine.fast import FastEngine
from harness.engine.stepper import choose
from harness.orders import Partner, Progress, WorkOrder
from harness.records import Event, Generation, LoadedModel
from harness.suite import Adapter, Model, Sampling
from harness.workloads.generate import generate
from tests.backends.test_hf import make_adapter
from tests.orders import Inbox, make_order
from tests.tiny_models import make_tiny_llama

WORDS = ["하늘", "바다", "얼음", "물", "햇빛", "서울", "공기", "부탁", "수도", "대한민국"]
PROMPTS = {f"p{number}": " ".join(WORDS[: 1 + number * 7 % 10] * (1 + number % 3)) + "?" for number in range(23)}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def adapter(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(llama, tmp_path_factory.mktemp("adapter"))


def order(llama: Path, engine: str, adapter: Path | None = None, **sampling: Any) -> WorkOrder:
    """Answer all prompts with the base and, where there is one, with the adapter, in batches of ten."""
    ids = tuple(PROMPTS)
    model = Model(path="model", prompt_format="alpaca_ko", max_seq_length=256)
    made = make_order(
        llama,
        model=model,
        batches=(ids[:10], ids[10:20], ids[20:]),
        sampling=Sampling.model_validate({"max_new_tokens": 12, "batch_size": 8, **sampling}),
        parameters={"engine": engine},
    ).model_copy(update={"prompts": PROMPTS})
    if adapter is None:
        return made
    tuned = model.model_copy(update={"adapter": Adapter(path="adapter")})
    partner = Partner(name="tuned", model=tuned, adapter_place=str(adapter), adapter_hash="hash")
    job = made.job.model_copy(update={"partners": ("tuned",)})
    return made.model_copy(update={"partners": (partner,), "job": job})


def answers(order: WorkOrder) -> dict[tuple[str, str], Generation]:
    return {(record.model, record.prompt_id): record for record in run(order).records if isinstance(record, Generation)}


def run(order: WorkOrder) -> Inbox:
    inbox = Inbox()
    generate(order, inbox)
    return inbox


def without_job(generation: Generation) -> dict[str, Any]:
    return generation.model_dump(exclude={"job_id"})


@pytest.mark.parametrize("slots", [1, 2, 8, "auto"])
def test_base_and_tuned_in_one_pass_answer_as_each_does_alone_on_the_plain_path(
    llama: Path, adapter: Path, slots: int | str
) -> None:
    together = answers(order(llama, "fast", adapter, batch_size=slots))
    plain = answers(order(llama, "plain", adapter))
    assert together.keys() == plain.keys() and len(together) == 2 * len(PROMPTS)
    assert {key: without_job(one) for key, one in together.items()} == {
        key: without_job(one) for key, one in plain.items()
    }
    changed = [prompt for prompt in PROMPTS if plain["base", prompt].text != plain["tuned", prompt].text]
    assert len(changed) > len(PROMPTS) / 2, "the adapter must make a difference for this test to mean something"


def test_the_record_names_the_engine_and_each_model_s_own_adapter(llama: Path, adapter: Path) -> None:
    inbox = run(order(llama, "fast", adapter))
    base, tuned = (record for record in inbox.records if isinstance(record, LoadedModel))
    assert (base.model, base.engine, base.adapter_hash, base.adapter_nonzero_b) == ("base", "fast", None, None)
    assert (tuned.model, tuned.engine, tuned.adapter_hash, tuned.adapter_nonzero_b) == ("tuned", "fast", "hash", 4)
    assert tuned.parameter_count > base.parameter_count
    warmup = [record for record in inbox.records if isinstance(record, Event) and record.code == "engine_warmup"]
    assert len(warmup) == 1


def test_batches_come_whole_and_finished_ones_are_left_alone(llama: Path, adapter: Path) -> None:
    inbox = run(order(llama, "fast", adapter).model_copy(update={"finished_batches": frozenset({1})}))
    generations = [record for record in inbox.records if isinstance(record, Generation)]
    assert {one.batch for one in generations} == {0, 2}
    assert len(generations) == 2 * 13
    batches = [
        {record.batch for record in message.records if isinstance(record, Generation)}
        for message in inbox.messages
        if hasattr(message, "records") and any(isinstance(record, Generation) for record in message.records)
    ]
    assert sorted(map(sorted, batches)) == [[0], [2]]
    progress = [message for message in inbox.messages if isinstance(message, Progress)]
    assert (progress[0].done, progress[-1].done, progress[-1].total) == (20, 46, 46)


def test_a_prompt_too_long_for_the_model_fails_alone(llama: Path) -> None:
    prompts = {**PROMPTS, "p3": "하늘 " * 400}
    found = answers(order(llama, "fast").model_copy(update={"prompts": prompts}))
    assert found["base", "p3"].finish_reason == "error"
    assert "max_seq_length" in (found["base", "p3"].error or "")
    assert all(one.error is None for (_, prompt), one in found.items() if prompt != "p3")


def test_a_model_with_sliding_windows_is_left_to_the_plain_path_and_that_is_said(tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    make_tiny_llama(tmp_path)
    config = MistralConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
    )
    MistralForCausalLM(config).save_pretrained(tmp_path)
    inbox = run(order(tmp_path, "fast"))
    warning = next(record for record in inbox.records if isinstance(record, Event))
    assert (warning.code, warning.level) == ("engine_unsuited", "warning")
    assert "whole text in every layer" in warning.message
    assert len([record for record in inbox.records if isinstance(record, Generation)]) == len(PROMPTS)


def test_an_adapter_on_layers_that_see_all_tokens_in_a_line_gets_its_own_rows(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import OPTConfig, OPTForCausalLM

    make_tiny_llama(tmp_path)  # for its tokenizer
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=400, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, init_std=0.2
    )
    model = OPTForCausalLM(config)
    model.save_pretrained(tmp_path)
    lora = LoraConfig(r=4, target_modules=["fc1", "fc2", "q_proj"], init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    together = run(order(tmp_path, "fast", tmp_path / "adapter")).records
    assert [one.engine for one in together if isinstance(one, LoadedModel)] == ["fast", "fast"]
    plain = answers(order(tmp_path, "plain", tmp_path / "adapter"))
    found = {(one.model, one.prompt_id): one.text for one in together if isinstance(one, Generation)}
    assert found == {key: one.text for key, one in plain.items()}
    assert any(plain["base", prompt].text != plain["tuned", prompt].text for prompt in PROMPTS)


def test_an_engine_that_mixes_rows_up_is_not_used(llama: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.engine import fast
    from harness.engine.stepper import Stepper

    def swapped(*arguments: Any) -> Any:
        model, cache, rows, spans, sampling, ends = arguments
        half = cache.slots // 2
        return Stepper(model, cache, rows, dict.fromkeys(spans, (0, half)), sampling, ends)

    monkeypatch.setattr(fast, "Stepper", swapped)
    with pytest.raises(EngineUnsuited, match="off the plain path's"):
        open_engine(order(llama, "fast", adapter))


def test_memory_that_runs_out_halves_the_rows_and_no_answer_is_lost(
    llama: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.engine.stepper import Stepper

    rows: list[int] = []
    step = Stepper.step

    def scarce(stepper: Stepper, longest: int) -> None:
        rows.append(len(stepper.active))
        if len(stepper.active) > 4 and len(rows) > 20:
            raise torch.OutOfMemoryError("not enough")
        step(stepper, longest)

    plain = answers(order(llama, "plain", adapter))
    monkeypatch.setattr(Stepper, "step", scarce)
    found = answers(order(llama, "fast", adapter, batch_size=16))
    assert {key: one.text for key, one in found.items()} == {key: one.text for key, one in plain.items()}
    assert [size for size, before in zip(rows[1:], rows, strict=False) if size != before] == [16, 8, 4]


def test_memory_for_not_even_one_row_a_model_is_said(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.backends import OutOfMemory
    from harness.engine.stepper import Stepper

    engine = open_engine(order(llama, "fast"))

    def none_at_all(stepper: Stepper, longest: int) -> None:
        raise torch.OutOfMemoryError("not enough")

    monkeypatch.setattr(Stepper, "step", none_at_all)
    with pytest.raises(OutOfMemory):
        list(engine.answers([Request(text) for text in PROMPTS.values()], Sampling(max_new_tokens=4)))


def test_every_row_ends_at_its_own_end_token(llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    made = order(llama, "plain", max_new_tokens=40)
    plain = answers(made)
    # An end token that several answers reach at different places.
    engine = open_engine(made.model_copy(update={"job": order(llama, "fast").job}))
    assert isinstance(engine, FastEngine)
    model = AutoModelForCausalLM.from_pretrained(llama)
    prompt = torch.tensor(engine.loaded.texts.token_ids([PROMPTS["p5"]]))
    written = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=False)
    common = int(written[0, prompt.shape[1] + 20])
    engine.loaded.end_tokens.append(common)
    engine.loaded.texts.end_tokens.append(common)
    sampling = Sampling(max_new_tokens=40, batch_size=8)
    found = dict(engine.answers([Request(text) for text in PROMPTS.values()], sampling))
    stopped = [answer for answer in found.values() if answer.finish_reason == "stop"]
    assert len(found) == len(PROMPTS)
    assert stopped
    assert all(answer.new_tokens < 40 for answer in stopped)
    assert all(plain["base", list(PROMPTS)[index]].text.startswith(answer.text) for index, answer in found.items())


def test_a_timed_pass_reads_the_clock_once_a_token(llama: Path) -> None:
    engine = open_engine(order(llama, "fast"))
    times = engine.time_pass(3, 20, 7)
    readings = (times.start, *times.tokens)
    assert len(times.tokens) == 7
    assert all(earlier < later for earlier, later in zip(readings, readings[1:], strict=False))


def test_the_same_seed_draws_the_same_answers_and_another_seed_others(llama: Path) -> None:
    sampled = order(llama, "fast", temperature=1.0)
    first, again = answers(sampled), answers(sampled)
    other = answers(sampled.model_copy(update={"sampling": sampled.sampling.model_copy(update={"seed": 1})}))
    assert {key: one.text for key, one in first.items()} == {key: one.text for key, one in again.items()}
    assert {key: one.text for key, one in first.items()} != {key: one.text for key, one in other.items()}


def test_what_is_drawn_for_a_prompt_does_not_depend_on_what_runs_beside_it(llama: Path, adapter: Path) -> None:
    whole = answers(order(llama, "fast", adapter, temperature=0.8))
    rest = answers(
        order(llama, "fast", adapter, temperature=0.8, batch_size=2).model_copy(
            update={"finished_batches": frozenset({0})}
        )
    )
    assert len(rest) == 2 * 13
    assert {key: one.text for key, one in rest.items()} == {key: whole[key].text for key in rest}


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    from scipy.stats import chisquare

    logits = torch.tensor([1.0, 2.0, -1.0, 0.0], dtype=torch.float64)
    draws = 20_000
    uniform = torch.rand(draws, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = choose(logits.expand(draws, 4), Sampling(temperature=0.7), uniform).bincount(minlength=4)
    expected = (logits / 0.7).softmax(0) * draws
    assert chisquare(drawn.numpy(), expected.numpy()).pvalue > 1e-4
    # 0.7: probabilities 0.75, 0.18, 0.04, 0.01; the nucleus of mass 0.9 is the first two.
    nucleus = choose(logits.expand(draws, 4), Sampling(temperature=0.7, top_p=0.9), uniform).bincount(minlength=4)
    assert nucleus[2:].sum() == 0
    renormalised = expected[:2] / expected[:2].sum() * draws
    assert chisquare(nucleus[:2].numpy(), renormalised.numpy()).pvalue > 1e-4
    assert choose(logits.expand(3, 4), Sampling(), uniform[:3]).tolist() == [1, 1, 1]
    edges = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert choose(logits.expand(2, 4), Sampling(temperature=0.7, top_p=0.9), edges).tolist() == [1, 0]
