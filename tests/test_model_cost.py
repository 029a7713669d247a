"""Operations and bytes against counts made by hand, and against what torch counts while a model runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.model_cost import ModelShape, decode_work, lora_step_work, prefill_work
from harness.suite import Quantization
from harness.workloads.model_shape import model_shape, torch_model
from tests.tiny_models import make_tiny_llama

SHAPE = ModelShape(
    layers=2,
    query_width=8,
    key_value_width=4,
    body_parameters=1000,
    head_parameters=100,
    lora_parameters=0,
    body_bytes=2000,
    head_bytes=200,
    cache_element_bytes=2,
)


def test_a_prompt_is_counted_as_by_hand() -> None:
    # 3 tokens: 2 * 1000 each through the layers, 2 * 100 once through the head; positions looked at 1 + 2 + 3 = 6,
    # each 4 * 2 layers * 8 wide = 64. Cache: 2 * 2 layers * 4 wide * 2 bytes = 32 a token, written and read.
    work = prefill_work(SHAPE, batch_size=5, prompt_tokens=3)
    assert work.flop == 5 * (3 * 2000 + 200 + 6 * 64)
    assert work.bytes == 2000 + 200 + 5 * 3 * 32 * 2
    assert work.intensity == work.flop / work.bytes


def test_writing_tokens_is_counted_as_by_hand() -> None:
    # 3 new tokens after 4: two steps, looking at 5 and at 6 positions.
    work = decode_work(SHAPE, batch_size=5, prompt_tokens=4, new_tokens=3)
    assert work.flop == 5 * (2 * 2 * 1100 + (5 + 6) * 64)
    assert work.bytes == 2 * 2200 + 5 * (5 + 6 + 2) * 32


def test_decoding_in_a_larger_batch_does_more_with_the_same_weights() -> None:
    one, many = (decode_work(SHAPE, batch, 4, 8) for batch in (1, 64))
    assert many.flop == 64 * one.flop
    assert many.intensity > 5 * one.intensity


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    place: Path = make_tiny_llama(tmp_path_factory.mktemp("llama"))
    return AutoModelForCausalLM.from_pretrained(place, attn_implementation="eager")


def counted(run: Any) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def test_the_shape_of_a_real_model_gives_the_operations_that_torch_counts(llama: Any) -> None:
    import torch

    shape = model_shape(llama, 4)
    assert shape is not None
    tokens = 24
    ids = torch.ones((3, tokens), dtype=torch.long)
    with torch.no_grad():
        seen = counted(lambda: llama(ids, logits_to_keep=1))
    work = prefill_work(shape, 3, tokens)
    # Eager attention computes the whole square; causal work is its lower half with the diagonal.
    square = 3 * 4 * shape.layers * shape.query_width * (tokens * tokens - tokens * (tokens + 1) / 2)
    # The rotary embedding's outer product, 2 * head size / 2 a token, is the rest.
    assert work.flop + square == pytest.approx(seen, rel=0.001)


def test_a_lora_step_costs_what_torch_counts(llama: Any) -> None:
    import copy

    import torch
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(copy.deepcopy(llama), LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")).train()
    shape = model_shape(model.get_base_model(), 4)
    assert shape is not None
    assert shape.lora_parameters == sum(value.numel() for name, value in model.named_parameters() if "lora_" in name)
    tokens = 24
    ids = torch.ones((3, tokens), dtype=torch.long)
    seen = counted(lambda: model(input_ids=ids, labels=ids).loss.backward())
    square = 3 * 12 * shape.layers * shape.query_width * (tokens * tokens - tokens * (tokens + 1) / 2)
    # The first layer's input needs no gradient, which saves a little.
    assert lora_step_work(shape, 3, tokens).flop + square == pytest.approx(seen, rel=0.08)


def test_bytes_are_those_stored(llama: Any) -> None:
    import torch

    shape = model_shape(llama, 4)
    half = model_shape(llama.to(torch.bfloat16), 2)
    assert shape is not None and half is not None
    linear = sum(m.weight.numel() for m in llama.modules() if isinstance(m, torch.nn.Linear))
    assert shape.body_bytes + shape.head_bytes == 4 * linear
    assert half.body_bytes == shape.body_bytes // 2
    assert shape.cache_bytes_per_token == 2 * 2 * (2 * 8) * 4  # layers, key-value heads * head size, bytes


def test_layers_joined_for_speed_are_the_same_work(llama: Any) -> None:
    import copy

    from harness.engine.joint_linear import RowPlan, join_linears

    joined = copy.deepcopy(llama)
    join_linears(joined, RowPlan({}))
    assert model_shape(joined, 4) == model_shape(llama, 4)


def test_a_mixture_of_experts_has_no_shape() -> None:
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    model = MixtralForCausalLM(config)  # a token goes through some of its weights, not all
    assert model_shape(model, 4) is None
    assert torch_model(object()) is None
    assert isinstance(torch_model(type("Backend", (), {"model": model})()), torch.nn.Module)


@pytest.mark.gpu
@pytest.mark.parametrize(("quantization", "share"), [("8bit", 0.5), ("4bit", 0.25)])
def test_quantized_weights_count_as_they_are_stored(tmp_path: Path, quantization: Quantization, share: float) -> None:
    from harness.backends.hf import load_base
    from harness.suite import Model

    place = make_tiny_llama(tmp_path, hidden_size=512)
    whole, small = (
        model_shape(load_base(Model(path="m", dtype="bfloat16", quantization=how), str(place), "cuda"), 2)
        for how in ("none", quantization)
    )
    assert whole is not None and small is not None
    assert small.body_parameters == whole.body_parameters
    # Scales come on top: a few bytes a row of 8-bit weights, about an eighth of a bit for each 4-bit weight.
    assert share <= small.body_bytes / whole.body_bytes < 1.1 * share
