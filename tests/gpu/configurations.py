"""Which trainings the matrix measures: one setting changed at a time, the most telling first.

No torch and no pydantic here: the list can be read anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

SHORT_ROWS_SEED = 3407
SHORT_ROW_TOKENS = (100, 400)
LONG_ROW_TOKENS = 2048


@dataclass(frozen=True)
class Configuration:
    """One training, measured in a process of its own. Rows are `short` (100 to 400 tokens) or `long` (2,048)."""

    name: str
    backend: Literal["unsloth", "hf"] = "unsloth"
    quantization: Literal["4bit", "none"] = "4bit"
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    rows: Literal["short", "long"] = "short"
    batch_size: int = 2
    accumulation: int = 4
    seq_len: int = 2048
    r: int = 16
    checkpointing: bool | Literal["unsloth"] = "unsloth"
    packing: bool = False
    use_rslora: bool = False
    loftq: bool = False
    optimizer: str = "adamw_8bit"
    warmup_steps: int = 2
    counted_steps: int = 5

    @property
    def steps(self) -> int:
        """Return how many optimizer steps are done in all."""
        return self.warmup_steps + self.counted_steps


def _unsloth(name: str, **changes: object) -> Configuration:
    return replace(Configuration(f"unsloth-{name}"), **changes)  # type: ignore[arg-type]


def _hf(name: str, **changes: object) -> Configuration:
    """The same through transformers, peft and trl; its only checkpointing is the general one."""
    return replace(Configuration(f"hf-{name}", backend="hf", checkpointing=True), **changes)  # type: ignore[arg-type]


_LONG = {"rows": "long", "accumulation": 1}
"""One row pair an update: the peak is that of the recipe's four, and a step takes a quarter of the time."""

MATRIX: tuple[Configuration, ...] = (
    _unsloth("4bit-bf16-short"),
    _hf("4bit-bf16-short"),
    _unsloth("4bit-bf16-long", **_LONG),
    _hf("4bit-bf16-long", **_LONG),
    _unsloth("4bit-bf16-packed", packing=True, accumulation=1),
    _hf("4bit-bf16-packed", packing=True, accumulation=1),
    _unsloth("16bit-bf16-long", quantization="none", **_LONG),
    _hf("16bit-bf16-long", quantization="none", **_LONG),
    _unsloth("4bit-fp16-short", dtype="float16"),
    _hf("4bit-fp16-short", dtype="float16"),
    _hf("4bit-bf16-long-no-checkpointing", checkpointing=False, **_LONG),
    _unsloth("4bit-bf16-long-no-checkpointing", checkpointing=False, **_LONG),
    _hf("4bit-bf16-short-loftq", loftq=True),
    _unsloth("4bit-bf16-short-r128-rslora", r=128, use_rslora=True),
    _unsloth("4bit-bf16-long-plain-checkpointing", checkpointing=True, **_LONG),
    _unsloth("16bit-bf16-short", quantization="none"),
    _hf("16bit-bf16-short", quantization="none"),
    _unsloth("16bit-fp16-short", quantization="none", dtype="float16"),
    _hf("16bit-fp16-short", quantization="none", dtype="float16"),
    _unsloth("4bit-bf16-short-r8", r=8),
    _unsloth("4bit-bf16-short-r64", r=64),
    _unsloth("4bit-bf16-short-loftq", loftq=True),
    _hf("4bit-bf16-short-r128", r=128),
)


def chosen(names: tuple[str, ...]) -> tuple[Configuration, ...]:
    """Return the configurations of these names, in the matrix's order; all of them without names. ValueError names what
    is not there."""
    known = {one.name for one in MATRIX}
    if unknown := set(names) - known:
        there = ", ".join(sorted(known))
        raise ValueError(f"no configuration is called {', '.join(sorted(unknown))}; there are {there}")
    return tuple(one for one in MATRIX if not names or one.name in names)
