"""Measurements and tests that need a CUDA GPU. They carry the marker `gpu` and are off by default."""
