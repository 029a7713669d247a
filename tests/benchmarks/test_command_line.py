"""Start-up of the command line, as a user at a prompt feels it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.environment import describe_environment
from harness.plan import make_plan
from harness.suite_file import load_suite
from tests.benchmarks.conftest import Timed

SUITE = Path("suites/safety_ko.yaml")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "harness", *arguments], check=True, capture_output=True, text=True)


def test_help(timed: Timed) -> None:
    assert "validate" in timed("test_reference_process", 5, lambda: command("--help")).stdout


def test_validate(timed: Timed) -> None:
    assert "no faults" in timed("test_reference_process", 5, lambda: command("validate", str(SUITE))).stdout


def test_plan(timed: Timed) -> None:
    environment = describe_environment()

    def plan() -> int:
        loaded = load_suite(SUITE)
        return len(make_plan(loaded, loaded.prompts, environment).jobs)

    assert timed("test_reference_python", 5, plan) > 2
