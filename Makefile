PYTHON ?= .venv/bin/python
BENCH_RATIO ?= 1.5

.PHONY: check test gpu-test bench bench-save bench-compare schema

check:  ## style and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

test:  ## everything that needs no GPU and no network
	$(PYTHON) -m pytest

gpu-test:  ## everything that needs a GPU: tests and measurements, into OUT (default build/gpu)
	$(PYTHON) -m tests.gpu.run_all --out $(or $(OUT),build/gpu)

bench:  ## time what users feel, in seconds on this machine
	$(PYTHON) -m pytest tests/benchmarks --benchmark-enable -p no:cacheprovider

bench-save:  ## keep today's times as the baseline, as ratios to reference workloads of the same run
	$(PYTHON) -m tests.benchmarks.baseline save

bench-compare:  ## fail if a ratio is more than BENCH_RATIO times its baseline
	$(PYTHON) -m tests.benchmarks.baseline compare --ratio $(BENCH_RATIO)

schema:  ## regenerate what is made from the suite types: suites/suite.schema.json and docs/suite.md
	$(PYTHON) -m harness.suite_schema
