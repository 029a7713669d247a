"""The shape of a decoder-only transformer, read from its config.json, and what can be counted from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import NotAvailable
from harness.suite_yaml import nearest

KNOWN = ("llama", "mistral", "qwen2", "qwen3")
"""Model types with grouped-query attention and a gated MLP, whose memory the formulas describe."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of a model. `biases` counts all bias and extra norm parameters of one layer."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    tied: bool
    biases: int
    max_tokens: int

    @cached_property
    def projections(self) -> dict[str, tuple[int, int]]:
        """The linear maps of one layer: name -> (tokens' width in, width out)."""
        queries, keys = self.heads * self.head_size, self.key_value_heads * self.head_size
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of the layers' linear maps: what quantization makes smaller."""
        return self.layers * sum(width_in * width_out for width_in, width_out in self.projections.values())

    @property
    def other_parameters(self) -> int:
        """Embeddings, output layer (once where tied), norms and biases: never quantized."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + (2 * self.layers + 1) * self.hidden + self.layers * self.biases

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.linear_parameters + self.other_parameters

    @property
    def largest_matrix(self) -> int:
        """Weights of the largest linear map of a layer."""
        return max(width_in * width_out for width_in, width_out in self.projections.values())

    def lora_parameters(self, rank: int, targets: tuple[str, ...]) -> int:
        """Parameters of LoRA: rank * (in + out) for every target of every layer (Hu et al. 2021, section 4.1)."""
        widths = (sum(self.projections[name]) for name in targets if name in self.projections)
        return self.layers * rank * sum(widths)

    def key_value_bytes(self, element_bytes: int) -> int:
        """Bytes of cache per token: a key and a value of every key-value head of every layer."""
        return 2 * self.layers * self.key_value_heads * self.head_size * element_bytes


def read_architecture(place: str, revision: str | None = None) -> Architecture:
    """Read the configuration of an absolute folder or of a hub name in the local hub cache; nothing is downloaded.

    Raises `NotAvailable` where there is none, or where it is of a kind that the formulas do not describe.
    """
    file = _config_file(place, revision)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return architecture_of(config)
    except KeyError as error:
        raise NotAvailable(f"{file}: the key {error} is missing.") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise NotAvailable(f"{file}: it is not a model's configuration ({error}).") from error
    except NotAvailable as error:
        raise NotAvailable(f"{file}: {error.message}", error.hint) from None


def _config_file(place: str, revision: str | None) -> Path:
    if Path(place).is_absolute():
        return Path(place) / "config.json"
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(place, "config.json", revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    raise NotAvailable(
        f"{place}: its config.json is not in the local hub cache, and fit downloads nothing.",
        f"Fetch it once (hf download {place} config.json), or name a folder with one (-o models.NAME.path=FOLDER).",
    )


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Return the shape that a configuration describes. KeyError names a key it lacks."""
    kind = config["model_type"]
    if kind not in KNOWN or "num_experts" in config:
        close = nearest(str(kind), KNOWN)
        raise NotAvailable(
            f"the memory of model_type '{kind}' is not known; known are {', '.join(KNOWN)}.",
            f"The nearest is '{close}'." if close else None,
        )
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    head_size = int(config.get("head_dim") or hidden // heads)
    key_value_heads = int(config.get("num_key_value_heads") or heads)
    queries, keys = heads * head_size, key_value_heads * head_size
    biases = 0
    if kind == "qwen2":
        biases = queries + 2 * keys
    elif config.get("attention_bias"):
        biases = queries + 2 * keys + (hidden if kind == "llama" else 0)
    if config.get("mlp_bias"):
        biases += 2 * int(config["intermediate_size"]) + hidden
    if kind == "qwen3":
        biases += 2 * head_size  # norms of queries and keys
    return Architecture(
        hidden=hidden,
        intermediate=int(config["intermediate_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        key_value_heads=key_value_heads,
        head_size=head_size,
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        biases=biases,
        max_tokens=int(config["max_position_embeddings"]),
    )
