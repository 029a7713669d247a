"""Imports point one way, and what needs no model loads no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "harness"
LAYERS = [
    ["errors", "records"],
    [
        "suite",
        "summary",
        "prompt_formats",
        "statistics",
        "screen",
        "near_duplicates",
        "nvml",
        "model_cost",
    ],
    [
        "suite_yaml",
        "suite_paths",
        "suite_faults",
        "suite_schema",
        "sweep",
        "sweep_keys",
        "sweep_names",
        "prompts",
        "environment",
        "content_hash",
        "store",
    ],
    ["row_sources", "contamination", "importers"],
    ["lm_eval_tasks", "timing_jobs", "precision_flips"],
    [
        "suite_checks",
        "server_checks",
        "suite_file",
        "orders",
        "adapter_cache",
        "vllm_adapters",
        "gates",
        "suite_sections",
        "random_weights",
        "engine_choice",
        "ability",
        "corrections",
        "metrics",
        "sweep_statistics",
        "sweep_summary",
        "openai_http",
        "openai_replies",
    ],
    ["plan", "probes"],
    ["backends"],
    ["engine"],
    ["workloads", "grading", "report", "dispatch"],
    ["refusal_task"],
    ["worker", "finish", "gate_pass", "contamination_check", "export"],
    ["fit"],
    ["process"],
    ["servers"],
    ["executors"],
    ["runner"],
    ["cli"],
    ["__main__"],
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
APART = {"tiny_ko"}
"""The recipe of the demonstration model: nothing imports it."""


def imported_parts(path: Path) -> set[str]:
    """Names of the harness's parts (modules or packages below `harness`) that a file imports anywhere."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("harness.")}
    return parts


def test_every_module_imports_only_from_its_own_layer_or_below() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if part in APART or part == "__init__":
            continue
        wrong += [
            f"{path.relative_to(ROOT)} imports {other}"
            for other in imported_parts(path) - {part}
            if other in APART or LAYER_OF[other] > LAYER_OF[part]
        ]
    assert wrong == []


def test_only_one_module_imports_unsloth() -> None:
    importers = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "unsloth" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "unsloth")
    ]
    assert set(importers) == {"backends/unsloth.py"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["validate", "suites/safety_ko.yaml"],
        ["schema"],
        ["run", "suites/smoke.yaml", "--limit", "2"],
    ],
)
def test_what_needs_no_model_loads_no_torch(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys; from harness.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: status = end.code\n"
        "print('torch' in sys.modules or 'transformers' in sys.modules, status or 0, file=sys.stderr)"
    )
    results = ["--results", str(tmp_path)] if arguments[0] == "run" and "--help" not in arguments else []
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, *results],
        capture_output=True,
        text=True,
        cwd=ROOT.parent,
    )
    assert done.stderr.strip().splitlines()[-1] == "False 0", done.stderr
