"""The machine and versions that figures were measured with; what cannot be read is left out."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from typing import Any

PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "unsloth",
    "unsloth_zoo",
    "bitsandbytes",
    "vllm",
)


def describe_machine() -> dict[str, Any]:
    """Return names and versions, from the harness where its packages are installed."""
    try:
        from harness.environment import describe_environment

        described = describe_environment().model_dump(mode="json")
    except ImportError as error:
        described = {"python": platform.python_version(), "packages": {}, "not_read": str(error)}
    for name in PACKAGES:
        try:
            described["packages"].setdefault(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**described, "date": time.strftime("%Y-%m-%d")}
