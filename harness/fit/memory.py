"""Peak GPU memory of one job, predicted from its configuration. Pure arithmetic; docs/fit.md explains each formula.

Saved activations are counted tensor by tensor from the code that runs (transformers' Llama with peft, or unsloth's
fused kernels); what cannot be counted is one of the constants below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.fit.architecture import Architecture
from harness.suite import SEVEN_PROJECTIONS

ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""A weight in nf4: 4 bits, an 8-bit scale per 64 weights, and a float32 scale per 256 of those (QLoRA, 2023)."""
OPTIMIZER_BYTES = {
    "adamw_torch": 8.0,
    "adamw_torch_fused": 8.0,
    "adamw_8bit": 2 + 8 / 256,  # two 8-bit moments, a float32 scale per 256 of each
    "paged_adamw_8bit": 0.0,  # paged states lie in host memory while the GPU needs its own
    "paged_adamw_32bit": 0.0,
    "adafactor": 0.5,  # row and column sums in place of a moment
    "sgd": 0.0,
}
LOGIT_TILE = (4096, 32768)
"""Tokens and vocabulary that trl's loss multiplies at once."""
UNSLOTH_LOGIT_BYTES = 6
"""Per token and vocabulary entry of unsloth's loss: logits in float32, their gradient in half precision."""
UNSLOTH_LOGIT_TILE = 512 * 151936
"""Logits that unsloth makes at once, at least: rows by vocabulary, rows rounded down to a power of two."""
UNSLOTH_WHOLE_MATRICES = 2
"""Quantized matrices that unsloth has whole at once: one in a buffer that it keeps, one that it multiplies."""
PLAIN_LOGIT_BYTES = {2: 10, 4: 12}
"""The same for a model's own loss: logits, their float32 copy, their logarithms (or gradients)."""
CUBLAS_WORKSPACE = 32 << 20
FRAGMENTATION = 0.08
"""What torch reserves beyond what it has given out, as a share of all that comes and goes."""
CACHE_FRAGMENTATION = 0.25
"""The same for a cache that grows by a token at a time, each time in a new and larger block."""
CONTEXT_BYTES = 700 << 20
"""CUDA context, kernels and libraries of a process, outside of torch's own memory."""


@dataclass(frozen=True)
class Configuration:
    """One job. Lengths are in tokens; `row_tokens` is a training row or a prompt, the longest of the batch.

    `rank` 0 is no adapter; `adapters` counts those held at once. `padded` says that rows of a batch differ in length.
    `loss` is who computes it: trl's trainer, unsloth's, or the model itself.
    """

    architecture: Architecture
    phase: Literal["train", "generate"]
    batch_size: int
    row_tokens: int
    new_tokens: int = 0
    backend: Literal["hf", "unsloth"] = "hf"
    dtype: str = "bfloat16"
    quantization: Literal["none", "4bit", "8bit"] = "none"
    attention: str = "sdpa"
    rank: int = 0
    targets: tuple[str, ...] = SEVEN_PROJECTIONS
    adapters: int = 1
    checkpointing: Literal["off", "on", "unsloth"] = "off"
    optimizer: str = "adamw_8bit"
    accumulates: bool = True
    padded: bool = True
    loss: Literal["trl", "unsloth", "plain"] = "trl"

    @property
    def element(self) -> int:
        """Bytes of a number in the model's dtype."""
        return ELEMENT_BYTES[self.dtype]

    @property
    def adapter_parameters(self) -> int:
        """LoRA parameters of one adapter."""
        return self.architecture.lora_parameters(self.rank, self.targets)


@dataclass(frozen=True)
class Parts:
    """Predicted bytes by what they are for, at the moment when their sum is largest."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    working: int
    cache: int
    fragmentation: int
    context: int = CONTEXT_BYTES

    @property
    def allocated(self) -> int:
        """What torch gives out (torch.cuda.max_memory_allocated)."""
        return (
            self.weights
            + self.adapter
            + self.gradients
            + self.optimizer
            + self.activations
            + self.working
            + self.cache
            + CUBLAS_WORKSPACE
        )

    @property
    def reserved(self) -> int:
        """What torch takes from the GPU (torch.cuda.max_memory_reserved)."""
        return self.allocated + self.fragmentation

    @property
    def process(self) -> int:
        """What the process takes from the GPU (NVML)."""
        return self.reserved + self.context


def predict(job: Configuration) -> Parts:
    """Predict the peak memory of a job."""
    return _training(job) if job.phase == "train" else _generation(job)


def weight_bytes(job: Configuration) -> int:
    """Bytes of the base's weights: quantization leaves embeddings, output layer and norms as they are."""
    shape = job.architecture
    if job.quantization == "4bit":
        linear = shape.linear_parameters * NF4_BYTES
    elif job.quantization == "8bit":
        rows = shape.layers * sum(width_out for _, width_out in shape.projections.values())
        linear = shape.linear_parameters + 4 * rows  # a float32 scale per output
    else:
        linear = shape.linear_parameters * job.element
    return round(linear) + shape.other_parameters * job.element


def _training(job: Configuration) -> Parts:
    shape, tokens = job.architecture, job.batch_size * job.row_tokens
    trained = job.adapter_parameters
    layer = tokens * layer_bytes(job)
    casts = trained * job.element if job.backend == "hf" and job.element == 2 else 0  # autocast's copies of LoRA
    last_norm = tokens * shape.hidden * (4 + 2 * job.element)
    work = tokens * _layer_working_bytes(job) + _dequantized(job)
    loss = _loss_bytes(job, tokens)
    if job.checkpointing == "off":
        activations, working = shape.layers * layer, max(work, loss)
    else:
        # unsloth sends the layers' inputs to host memory and keeps the one that leaves and the one that comes back
        kept = 2 if job.checkpointing == "unsloth" else shape.layers
        activations = kept * tokens * shape.hidden * job.element
        if layer + work > loss:
            activations, working = activations + layer, work
        else:
            working = loss
    activations += last_norm + casts
    return Parts(
        weights=weight_bytes(job),
        adapter=4 * trained,
        gradients=4 * trained if job.accumulates else 0,
        optimizer=round(OPTIMIZER_BYTES[job.optimizer] * trained),
        activations=round(activations),
        working=round(working),
        cache=0,
        fragmentation=round(FRAGMENTATION * (activations + working)),
    )


def layer_bytes(job: Configuration) -> float:
    """Bytes per token that one layer keeps for its backward pass."""
    return _unsloth_layer_bytes(job) if job.backend == "unsloth" else _hf_layer_bytes(job)


def _hf_layer_bytes(job: Configuration) -> float:
    """transformers' layer with peft, under autocast with float32 LoRA where the model is in half precision.

    16-bit layers cast their input up to LoRA's float32 and autocast casts it down again: a copy for every target.
    Quantized ones leave it as it is, so that projections share one input; float32 needs no casts at all.
    """
    shape, element = job.architecture, job.element
    targets = [name for name in job.targets if name in shape.projections]
    if job.quantization == "none" and element == 2:
        inputs = sum(shape.projections[name][0] for name in targets)
    else:
        shared = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "mlp", "up_proj": "mlp"}
        widths = {shared.get(name, name): shape.projections[name][0] for name in targets if name != "o_proj"}
        inputs = sum(widths.values())  # o_proj's input is the attention's output, which is kept anyway
    norms = 2 * 4 * (shape.hidden + 1)  # the float32 input of each, and its scale
    mlp = 3 * shape.intermediate  # gate, its activation, up
    lora = len(targets) * job.rank
    return norms + element * (inputs + mlp + lora) + _attention_bytes(job)


def _attention_bytes(job: Configuration) -> float:
    """Queries, keys, values, output, and one float32 per head; with padding, keys and values are repeated per head."""
    shape, element = job.architecture, job.element
    queries = shape.heads * shape.head_size
    keys = shape.key_value_heads * shape.head_size
    masked = job.padded and job.batch_size > 1 and job.attention != "flash_attention_2"
    if job.attention == "eager":
        half = element == 2
        scores = shape.heads * job.row_tokens * (4 + 2 * half)  # the softmax in float32, and its copy in half precision
        cast = half and job.quantization == "none"  # then o_proj keeps a copy of the output, counted with the inputs
        return element * (3 if cast else 4) * queries + scores
    mask = element * job.row_tokens if masked else 0
    return element * (2 * queries + 2 * (queries if masked else keys)) + 4 * shape.heads + mask


def _unsloth_layer_bytes(job: Configuration) -> float:
    """unsloth's fused kernels keep the inputs of both norms, both normed inputs, gate and up. The rest is redone."""
    shape = job.architecture
    keys = shape.key_value_heads * shape.head_size
    queries = shape.heads * shape.head_size
    return job.element * (4 * shape.hidden + 2 * queries + 2 * keys + 2 * shape.intermediate) + 4 * (shape.heads + 2)


def _layer_working_bytes(job: Configuration) -> float:
    """Bytes per token that come and go inside a layer, in the MLP, where they are most."""
    shape = job.architecture
    if job.backend == "unsloth":
        return 3 * job.element * shape.intermediate
    return (8 if job.quantization == "none" else 6) * shape.intermediate


def _dequantized(job: Configuration) -> int:
    """A quantized matrix is made whole while it is used."""
    if job.quantization == "none":
        return 0
    at_once = UNSLOTH_WHOLE_MATRICES if job.backend == "unsloth" and job.phase == "train" else 1
    return at_once * job.architecture.largest_matrix * job.element


def _loss_bytes(job: Configuration, tokens: int) -> float:
    shape = job.architecture
    if job.loss == "plain":
        return float(tokens * shape.vocabulary * PLAIN_LOGIT_BYTES[job.element])
    if job.loss == "unsloth":
        rows = max(tokens * shape.hidden // shape.vocabulary, UNSLOTH_LOGIT_TILE // shape.vocabulary, 1)
        rows = min(1 << (rows.bit_length() - 1), tokens)
        return float(rows * shape.vocabulary * UNSLOTH_LOGIT_BYTES)
    tile = min(tokens, LOGIT_TILE[0]) * min(shape.vocabulary, LOGIT_TILE[1]) * job.element
    return float(tile + tokens * shape.hidden * (job.element + 4))  # the hidden states and their float32 gradient


def _generation(job: Configuration) -> Parts:
    shape, element = job.architecture, job.element
    prompt = job.batch_size * job.row_tokens
    cache = shape.key_value_bytes(element) * (prompt + job.batch_size * job.new_tokens)
    mlp = shape.intermediate * (14 if job.rank and element == 2 else 3 * element)  # LoRA works in float32 here
    queries = shape.heads * shape.head_size
    masked = job.padded and job.batch_size > 1 and job.attention != "flash_attention_2"
    repeated = 2 * queries * element + job.row_tokens * element if masked else 0
    if job.attention == "eager":
        repeated = 2 * queries * element + shape.heads * job.row_tokens * (4 + 2 * element)
    reading = prompt * (max(mlp, repeated) + 2 * shape.hidden * element) + _dequantized(job)
    logits = job.batch_size * shape.vocabulary * (element + 4)
    # A step copies a layer's cache to lengthen it and, where rows are padded, repeats it for every head.
    per_layer = cache / shape.layers
    repeats = 1 + shape.heads / shape.key_value_heads if masked else 1.0
    writing = per_layer * repeats + logits + _dequantized(job)
    working = max(reading, writing, float(logits))
    return Parts(
        weights=weight_bytes(job),
        adapter=4 * job.adapter_parameters * job.adapters,
        gradients=0,
        optimizer=0,
        activations=0,
        working=round(working),
        cache=cache,
        fragmentation=round(FRAGMENTATION * working + CACHE_FRAGMENTATION * cache),
    )
