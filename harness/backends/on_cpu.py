"""What a model asks for that a CPU does not do. No torch: it is also asked before any job starts."""

from __future__ import annotations

from harness.errors import NotAvailable
from harness.suite import Model


def check_on_cpu(model: Model) -> None:
    """Raise NotAvailable for a dtype or a quantization that needs a CUDA GPU."""
    if model.dtype == "float16":
        raise NotAvailable(
            "dtype: float16 on a CPU: processors emulate float16 arithmetic, about a hundred times slower.",
            "Use dtype: bfloat16 or float32 on a CPU.",
        )
    if model.quantization != "none":
        raise NotAvailable(f"quantization: {model.quantization} needs a CUDA GPU.", "Use quantization: none on a CPU.")
