"""The arithmetic against published figures, and the counted activations against what autograd really keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import NotAvailable
from harness.fit.architecture import Architecture, architecture_of, read_architecture
from harness.fit.memory import OPTIMIZER_BYTES, Configuration, layer_bytes, predict, weight_bytes
from harness.suite import SEVEN_PROJECTIONS, Optimizer

LLAMA = read_architecture(str(Path(__file__).parents[2] / "suites/configs/llama31_8b"))
GIB = 1 << 30


def training(**changes: Any) -> Configuration:
    return replace(Configuration(LLAMA, phase="train", batch_size=2, row_tokens=512, rank=16), **changes)


def generation(**changes: Any) -> Configuration:
    return replace(
        Configuration(LLAMA, phase="generate", batch_size=8, row_tokens=200, new_tokens=128, padded=False), **changes
    )


def test_llama_3_1_8b_has_its_published_sizes() -> None:
    assert LLAMA.parameters == 8_030_261_248
    assert weight_bytes(generation()) == 16_060_522_496
    assert LLAMA.key_value_bytes(2) == 131_072
    assert LLAMA.lora_parameters(16, SEVEN_PROJECTIONS) == 41_943_040


@pytest.mark.parametrize(
    ("kind", "sizes", "parameters"),
    [
        # hidden, intermediate, layers, heads, key-value heads, vocabulary, tied; published parameter counts
        ("mistral", (4096, 14336, 32, 32, 8, 32000, False), 7_241_732_096),
        ("qwen2", (896, 4864, 24, 14, 2, 151936, True), 494_032_768),
        ("llama", (2048, 8192, 16, 32, 8, 128256, True), 1_235_814_400),
        ("llama", (4096, 11008, 32, 32, 32, 32000, False), 6_738_415_616),
    ],
)
def test_other_models_have_their_published_sizes(kind: str, sizes: tuple[int, ...], parameters: int) -> None:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    config = {**dict(zip(names, sizes, strict=False)), "vocab_size": sizes[5], "tie_word_embeddings": sizes[6]}
    assert architecture_of({**config, "model_type": kind, "max_position_embeddings": 2048}).parameters == parameters


def test_qwen3_has_the_parameters_of_the_real_class() -> None:
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    config = Qwen3Config(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=100,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    real = sum(parameter.numel() for parameter in model.parameters())
    assert architecture_of(json.loads(config.to_json_string(use_diff=False))).parameters == real


def test_quantization_spares_embeddings_and_output_layer() -> None:
    kept = 2 * (2 * 128256 * 4096 + 65 * 4096)
    linear = 8_030_261_248 - kept // 2
    assert weight_bytes(generation(quantization="4bit")) == pytest.approx(kept + 0.516 * linear, rel=1e-3)
    assert weight_bytes(generation(quantization="8bit")) == pytest.approx(kept + linear, rel=1e-3)


def test_every_optimizer_of_a_suite_is_known() -> None:
    assert set(OPTIMIZER_BYTES) == set(Optimizer.__args__)  # type: ignore[attr-defined]


def saved_bytes(layers: int, *, dtype: str, padded: bool, checkpointing: bool, attention: str) -> tuple[int, int]:
    """Run a small Llama with LoRA forward; return the bytes autograd keeps, and the LoRA parameters."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50,
        hidden_size=SMALL.hidden,
        intermediate_size=SMALL.intermediate,
        num_hidden_layers=layers,
        num_attention_heads=SMALL.heads,
        num_key_value_heads=SMALL.key_value_heads,
        attn_implementation=attention,
    )
    precision = getattr(torch, dtype)
    lora = LoraConfig(r=8, target_modules=list(SEVEN_PROJECTIONS), task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM(config).to(precision), lora).train()
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, 50, (2, ROW))
    mask = torch.ones_like(ids)
    if padded:
        mask[0, :3] = 0
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=precision, enabled=dtype != "float32"),
    ):
        hidden = model.get_base_model().model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    del hidden
    return sum(kept.values()), sum(one.numel() for one in model.parameters() if one.requires_grad)


SMALL = Architecture(256, 704, 2, 8, 4, 32, 50, True, 0, 512)
ROW = 96


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_layer_keeps_what_the_formula_says(dtype: str, padded: bool, attention: str) -> None:
    def measured(layers: int) -> tuple[int, int]:
        return saved_bytes(layers, dtype=dtype, padded=padded, checkpointing=False, attention=attention)

    (two, lora_two), (three, lora_three) = measured(2), measured(3)
    casts = 2 * (lora_three - lora_two) if dtype == "bfloat16" else 0
    job = Configuration(
        SMALL, phase="train", batch_size=2, row_tokens=ROW, dtype=dtype, rank=8, padded=padded, attention=attention
    )
    assert (three - two - casts) / (2 * ROW) == pytest.approx(layer_bytes(job), rel=0.01)


def test_checkpointing_keeps_a_layers_input_alone() -> None:
    def measured(layers: int) -> int:
        return saved_bytes(layers, dtype="bfloat16", padded=False, checkpointing=True, attention="sdpa")[0]

    assert measured(3) - measured(2) == 2 * ROW * SMALL.hidden * 2


def test_parts_add_up() -> None:
    parts = predict(training())
    counted = parts.weights + parts.adapter + parts.gradients + parts.optimizer + parts.activations + parts.working
    assert 0 < parts.allocated - counted < 64 << 20
    assert parts.process - parts.reserved == parts.context
    assert parts.adapter == parts.gradients == 4 * 41_943_040


@given(
    tokens=st.integers(16, 4096),
    batch=st.integers(1, 16),
    rank=st.integers(1, 128),
    backend=st.sampled_from(["hf", "unsloth"]),
    quantization=st.sampled_from(["none", "4bit", "8bit"]),
)
def test_more_of_anything_never_needs_less(tokens: int, batch: int, rank: int, backend: str, quantization: str) -> None:
    job = training(
        row_tokens=tokens,
        batch_size=batch,
        rank=rank,
        backend=backend,
        quantization=quantization,
        loss=("unsloth" if backend == "unsloth" else "trl"),
    )
    need = predict(job).process
    for more in (
        replace(job, row_tokens=tokens + 1),
        replace(job, batch_size=batch + 1),
        replace(job, rank=rank + 1),
        replace(job, optimizer="adamw_torch"),
        replace(job, dtype="float32"),
    ):
        assert predict(more).process >= need
    assert predict(replace(job, checkpointing="on")).process <= need


def test_what_saves_memory_saves_what_it_should() -> None:
    whole, nf4 = predict(generation()), predict(generation(quantization="4bit"))
    assert 9.5 * GIB < whole.weights - nf4.weights < 9.8 * GIB
    cache = predict(generation(batch_size=64)).cache
    assert cache == 64 * 328 * 131_072
    assert predict(training(checkpointing="on")).activations < predict(training()).activations / 5
    assert predict(training(accumulates=False)).gradients == 0


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "lama"}, "config.json: the memory of model_type 'lama' is not known"),
        ({"model_type": "llama"}, r"config.json: the key 'hidden_size' is missing"),
        ({}, r"config.json: the key 'model_type' is missing"),
        ([], r"config.json: it is not a model's configuration"),
        ({"model_type": "llama", "hidden_size": "x"}, r"config.json: it is not a model's configuration|is missing"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(tmp_path: Path, config: Any, sentence: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(NotAvailable, match=sentence):
        read_architecture(str(tmp_path))


def test_a_hub_name_that_is_not_cached_is_one_sentence() -> None:
    with pytest.raises(NotAvailable, match=r"no/such-model: its config.json is not in the local hub cache"):
        read_architecture("no/such-model")
