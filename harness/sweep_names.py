"""Readable names for the variants of a sweep: `tuned` with lora.r 8 and seed 1 is `tuned-r8-s1`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.suite_yaml import KeyPath, Value

SHORT_KEYS = {
    "seeds": "s",
    "checkpoints": "step",
    "learning_rate": "lr",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "max_steps": "steps",
    "num_train_epochs": "epochs",
    "weight_decay": "decay",
    "per_device_train_batch_size": "batch",
}


def short_name(name: str, labels: Sequence[str]) -> str:
    """The name with its labels."""
    return "-".join([name, *labels])


def label(path: KeyPath, value: Value, index: int) -> str:
    """What one value of a key adds to a name: `r8`, `lr2e-4`, `s1`, or the value itself where it is a word.

    `index` is the value's place in its list, for values that have no short form.
    """
    key = str(path[-1])
    short = SHORT_KEYS.get(key, key)
    if isinstance(value, bool):
        return f"{short}_{'on' if value else 'off'}"
    if isinstance(value, int | float):
        return short + _slug(_number(value))
    word = _slug(value.rstrip("/").rpartition("/")[2]) if isinstance(value, str) else ""
    return word or f"{short}_{index + 1}"


def _number(value: float) -> str:
    """The shortest form: 16, 0.05, 2e-4."""
    text = f"{value:.6g}"
    if value and abs(value) < 0.01 or "e" in text:
        digits, _, exponent = f"{value:.5e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return text


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_")
