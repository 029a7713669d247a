"""The transformers backend on a real (tiny, random) Llama: answers, adapters, proofs and self-tests."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.backends import Answer, OutOfMemory, open_backend
from harness.backends.transformers_model import TransformersModel
from harness.errors import HarnessError, NotAvailable, PrecisionMismatch
from harness.orders import Streamed
from harness.records import Event, Generation, LoadedModel
from harness.suite import Model, Sampling
from harness.workloads.generate import generate
from tests.orders import PROMPTS, Inbox, make_order
from tests.tiny_models import make_tiny_llama


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


def make_adapter(llama: Path, folder: Path, *, zero: bool = False) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(llama)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=zero))
    adapted.save_pretrained(folder)
    return folder


def generations(inbox: Inbox) -> dict[str, Generation]:
    return {record.prompt_id: record for record in inbox.records if isinstance(record, Generation)}


def loaded(inbox: Inbox) -> LoadedModel:
    return next(record for record in inbox.records if isinstance(record, LoadedModel))


def run(order: Any) -> Inbox:
    inbox = Inbox()
    generate(order, inbox)
    return inbox


def test_batched_answers_equal_those_of_the_bare_model_alone(llama: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    answers = generations(run(make_order(llama, batches=(("a", "b", "c"),))))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    for prompt_id in PROMPTS:
        ids = tokenizer(answers[prompt_id].rendered_prompt, return_tensors="pt")["input_ids"]
        new = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        assert answers[prompt_id].text == tokenizer.decode(new, skip_special_tokens=True)
        assert answers[prompt_id].prompt_tokens == ids.shape[1]
        assert answers[prompt_id].new_tokens == 12
        assert answers[prompt_id].finish_reason == "length"


def test_what_was_loaded_is_read_from_the_model(llama: Path) -> None:
    record = loaded(run(make_order(llama)))
    assert record.parameter_dtypes == {"float32": record.parameter_count}
    assert (record.compute_dtype, record.bos_count, record.device) == ("float32", 1, "cpu")
    assert record.padding_max_logit_difference is not None and record.padding_tolerance is not None
    assert record.padding_max_logit_difference <= record.padding_tolerance


def test_bfloat16_computes_in_bfloat16(llama: Path) -> None:
    record = loaded(run(make_order(llama, model=Model(path="model", prompt_format="plain", dtype="bfloat16"))))
    assert (record.requested_dtype, record.compute_dtype) == ("bfloat16", "bfloat16")


def test_float16_on_a_cpu_is_refused_with_the_reason(llama: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(NotAvailable, match="float16 on a CPU"):
        open_backend(make_order(llama, model=Model(path="model", dtype="float16")))


def test_another_precision_than_asked_for_stops_the_job(llama: Path) -> None:
    backend = open_backend(make_order(llama))
    assert isinstance(backend, TransformersModel)
    backend.model.to(torch.bfloat16)
    with pytest.raises(PrecisionMismatch, match="float32 was asked for, but the model computes in bfloat16"):
        backend.describe()


def test_a_model_that_pads_wrongly_is_caught(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_backend(make_order(llama))
    assert isinstance(backend, TransformersModel)
    real = backend.encode

    def forget_the_mask(prompts: Any) -> dict[str, torch.Tensor]:
        encoded = real(prompts)
        return {**encoded, "attention_mask": torch.ones_like(encoded["attention_mask"])}

    monkeypatch.setattr(backend, "encode", forget_the_mask)
    with pytest.raises(HarnessError, match="Padding self-test"):
        backend.describe()


def test_two_bos_tokens_are_caught(tmp_path: Path) -> None:
    llama = make_tiny_llama(tmp_path / "llama")
    path = llama / "tokenizer_config.json"
    template = llama / "chat_template.jinja"
    template.write_text("{{ bos_token }}" + template.read_text())
    assert path.exists()
    with pytest.raises(HarnessError, match="2 BOS tokens"):
        run(make_order(llama, model=Model(path="model", prompt_format="chat_template")))


def test_the_chat_template_gives_one_bos(llama: Path) -> None:
    assert loaded(run(make_order(llama, model=Model(path="model", prompt_format="chat_template")))).bos_count == 1


def test_the_models_own_generation_settings_do_not_leak_in(tmp_path: Path) -> None:
    llama = make_tiny_llama(tmp_path / "llama")
    plain = generations(run(make_order(llama)))
    (llama / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "max_length": 3})
    )
    assert {key: value.text for key, value in generations(run(make_order(llama))).items()} == {
        key: value.text for key, value in plain.items()
    }


def test_an_adapter_is_proved_and_changes_answers(llama: Path, tmp_path: Path) -> None:
    base = generations(run(make_order(llama)))
    inbox = run(make_order(llama, adapter=make_adapter(llama, tmp_path / "adapter")))
    record = loaded(inbox)
    assert record.adapter_nonzero_b == 4
    assert record.adapter_max_logit_change is not None and record.adapter_max_logit_change > 0
    assert any(generations(inbox)[key].text != base[key].text for key in PROMPTS)


def test_attached_and_merged_agree_up_to_rounding(llama: Path, tmp_path: Path) -> None:
    adapter = make_adapter(llama, tmp_path / "adapter")
    logits = []
    for mode in ("attached", "merged"):
        backend = open_backend(make_order(llama, adapter=adapter, adapter_mode=mode))
        assert isinstance(backend, TransformersModel)
        with torch.inference_mode():
            logits.append(backend.model(**backend.encode(list(PROMPTS.values()))).logits[:, -1])
    assert torch.allclose(logits[0], logits[1], atol=1e-4)


def test_an_adapter_that_was_never_trained_is_refused(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="the adapter changes nothing"):
        open_backend(make_order(llama, adapter=make_adapter(llama, tmp_path / "adapter", zero=True)))


def test_a_missing_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="the model could not be loaded"):
        open_backend(make_order(tmp_path))


def test_weights_that_are_cut_short_are_named(llama: Path, tmp_path: Path) -> None:
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(HarnessError, match="the model could not be loaded: .*not fully covered") as caught:
        open_backend(make_order(tmp_path))
    assert str(tmp_path) in caught.value.message and "cut short" in (caught.value.hint or "")


def test_a_missing_tokenizer_is_said_to_be_one(llama: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((llama / name).read_bytes())
    with pytest.raises(NotAvailable, match="the tokenizer could not be loaded: .*[^:]$"):
        open_backend(make_order(tmp_path))


@pytest.mark.parametrize("damage", ["weights", "configuration", "another base"])
def test_an_adapter_that_does_not_fit_is_one_sentence(llama: Path, tmp_path: Path, damage: str) -> None:
    base = make_tiny_llama(tmp_path / "other", hidden_size=64) if damage == "another base" else llama
    adapter = make_adapter(base, tmp_path / "adapter")
    if damage == "weights":
        weights = adapter / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "configuration":
        (adapter / "adapter_config.json").write_text('{"r": 4,')
    with pytest.raises(HarnessError, match="the adapter could not be put on the model: .*") as caught:
        open_backend(make_order(llama, adapter=adapter))
    assert caught.value.message.startswith(str(adapter)) and len(caught.value.message.splitlines()) == 1


def test_weights_in_pickle_form_are_not_read(llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(NotAvailable, match="the model could not be loaded"):
        open_backend(make_order(tmp_path))


def test_sampling_repeats_with_its_seed_and_changes_with_another(llama: Path) -> None:
    texts = [
        generations(run(make_order(llama, sampling=Sampling(max_new_tokens=12, temperature=1.0, seed=seed))))["a"].text
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_prompt_too_long_for_the_model_fails_alone(llama: Path) -> None:
    model = Model(path="model", prompt_format="plain", max_seq_length=30)
    answers = generations(run(make_order(llama, model=model, batches=(("a", "b", "c"),))))
    assert answers["c"].finish_reason == "error" and "max_seq_length" in (answers["c"].error or "")
    assert answers["b"].error is None and answers["b"].text


def test_streaming_sends_the_answer_in_pieces_that_add_up(llama: Path) -> None:
    inbox = run(make_order(llama, batches=(("a",),), stream=True))
    pieces = [message for message in inbox.messages if isinstance(message, Streamed)]
    assert len(pieces) > 2 and pieces[-1].end
    assert "".join(piece.text for piece in pieces) == generations(inbox)["a"].text


def test_running_out_of_memory_halves_the_batch_and_says_so(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = generations(run(make_order(llama, batches=(("a", "b", "c"),))))
    real = TransformersModel.answer
    sizes = []

    def only_one_fits(self: TransformersModel, prompts: Any, *rest: Any) -> list[Answer]:
        sizes.append(len(prompts))
        if len(prompts) > 1:
            raise OutOfMemory("too big")
        return real(self, prompts, *rest)

    monkeypatch.setattr(TransformersModel, "answer", only_one_fits)
    inbox = run(make_order(llama, batches=(("a", "b", "c"),)))
    assert sizes == [3, 1, 1, 1]
    events = [record for record in inbox.records if isinstance(record, Event)]
    assert [(event.code, event.data) for event in events] == [("batch_halved", {"from": 3, "to": 1})]
    assert {key: value.text for key, value in generations(inbox).items()} == {
        key: value.text for key, value in whole.items()
    }


def test_a_timed_pass_reads_the_clock_once_a_token(llama: Path) -> None:
    times = open_backend(make_order(llama, kind="throughput")).time_pass(batch_size=2, prompt_tokens=8, new_tokens=5)
    assert len(times.tokens) == 5
    assert times.start < times.tokens[0]
    assert all(earlier < later for earlier, later in itertools.pairwise(times.tokens))


def test_an_adapter_trained_with_scaled_rope_is_used_with_it(llama: Path, tmp_path: Path) -> None:
    from harness.adapter_cache import write_records
    from tests.training_results import training_result

    adapter = make_adapter(llama, tmp_path / "adapter")
    write_records(adapter, [training_result(settings={"rope_scaling_factor": 4.0})])
    backend = open_backend(make_order(llama, adapter=adapter))
    assert isinstance(backend, TransformersModel)
    plain = open_backend(make_order(llama))
    assert isinstance(plain, TransformersModel)
    scaled, unscaled = (one.model.get_decoder().rotary_emb.inv_freq for one in (backend, plain))
    assert torch.allclose(scaled * 4, unscaled)
