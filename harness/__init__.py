"""Evaluation-first benchmarking of Korean LoRA fine-tunes."""

__version__ = "0.1.0"
