"""docs/ci.md: its gates are valid, and its workflow's own commands run, first as main and then as a pull request."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.suite import Gate
from harness.suite_yaml import read_document
from tests.gates.junit_form import read_junit

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/ci.md").read_text(encoding="utf-8")


def workflow() -> dict[str, Any]:
    found = re.search(r"<!-- workflow -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    content: dict[str, Any] = yaml.safe_load(found.group(1))
    return content


def test_the_gates_of_the_page_are_gates(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(gates:.*?)```", PAGE, re.DOTALL)
    assert found is not None
    (tmp_path / "gates.yaml").write_text(found.group(1), encoding="utf-8")
    gates = read_document(tmp_path / "gates.yaml").data["gates"]
    assert isinstance(gates, dict) and len(gates) == 8
    for gate in gates.values():
        Gate.model_validate(gate)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the repository and has results of its own."""
    for name in ("harness", "suites", "prompts"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (tmp_path / "bin/python").chmod(0o755)
    return tmp_path


def run_job(checkout: Path, event: str) -> dict[str, int]:
    """Run the workflow's own commands as a GitHub runner would; how each named step ended."""
    output, summary = checkout / "output", checkout / "summary"
    output.write_text("", encoding="utf-8")
    ended = {}
    for step in workflow()["jobs"]["safety"]["steps"]:
        condition = str(step.get("if", ""))
        elsewhere = "refs/heads/main" if event == "pull_request" else "'pull_request'"
        if "run" not in step or step["name"] == "Install" or elsewhere in condition:
            continue
        folder = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines()).get("folder", "")
        given = {
            key: value.replace("${{ steps.suite.outputs.folder }}", folder)
            for key, value in step.get("env", {}).items()
        }
        assert not any("${{" in text for text in (*given.values(), step["run"]))
        environment = {
            **os.environ,
            "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            **given,
        }
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
        ended[step["name"]] = subprocess.run(command, cwd=checkout, env=environment, capture_output=True).returncode
    return ended


def test_the_workflow_runs(checkout: Path) -> None:
    assert run_job(checkout, "push") == {
        "Check the suite": 0,
        "Run the suite": 0,
        "Write the job's summary": 0,
        "Save this run as main's": 0,
    }
    assert run_job(checkout, "pull_request") == {
        "Check the suite": 0,
        "Run the suite": 0,
        "Compare with main": 0,
        "Write the job's summary": 0,
    }
    summary = (checkout / "summary").read_text(encoding="utf-8")
    assert [line[:5] for line in summary.splitlines() if line.startswith("## ✅")] == ["## ✅ "] * 3
    found = sorted(checkout.glob("results/smoke/*/*.junit.xml"))
    assert [path.name for path in found] == ["gates.junit.xml"] * 1 + ["comparison.junit.xml", "gates.junit.xml"]
    for path in found:
        read_junit(path.read_text(encoding="utf-8"))


def test_the_workflow_is_one_that_github_takes() -> None:
    content = workflow()
    assert {"name", True, "permissions", "jobs"} == set(content)  # YAML 1.1 reads `on` as true
    steps = content["jobs"]["safety"]["steps"]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    assert all(re.fullmatch(r"actions/[a-z-]+(/[a-z]+)?@v\d+", step["uses"]) for step in steps if "uses" in step)
    upload = next(step for step in steps if "upload-artifact" in step.get("uses", ""))
    assert upload["if"].startswith("always()") and "*.html" in upload["with"]["path"]
