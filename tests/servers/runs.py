"""Whole runs of served models through the command line, and a look at what processes they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[2]
PROMPT = {"category": "c", "source": "test", "licence": "Apache-2.0", "expected": "comply", "pair_id": None}


def write_prompts(path: Path, texts: list[str]) -> None:
    rows = [{**PROMPT, "id": f"p{number}", "text": text} for number, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_adapter(folder: Path, **config: Any) -> Path:
    """Write a folder that names an adapter's rank; its weights are nothing that could be loaded."""
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": 16, "rank_pattern": {}, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def command(suite: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "harness", "run", str(suite), "--results", str(suite.parent / "results"), *options]


def environment(**stand_in: Any) -> dict[str, str]:
    return {**os.environ, "STAND_IN": json.dumps(stand_in), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run(suite: Path, *options: str, **stand_in: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(suite, *options), capture_output=True, text=True, cwd=REPOSITORY, env=environment(**stand_in)
    )


def start(suite: Path, **stand_in: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(suite), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
        env=environment(**stand_in),
    )  # fmt: skip


def finished_page(done: subprocess.CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


def records(results: Path, job: str, suite: str = "*") -> list[dict[str, Any]]:
    """Return what the jobs of this kind, or kind and model, have said in all runs of these suites."""
    files = sorted(results.glob(f"{suite}/*/jobs/{job}-*/records.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def answers(results: Path, model: str, suite: str = "*") -> dict[str, dict[str, Any]]:
    """Return a model's answers by the prompt's id."""
    rows = (row for row in records(results, "generate", suite) if row["kind"] == "generation" and row["model"] == model)
    return {row["prompt_id"]: row for row in rows}


def wait_for_answers(results: Path, count: int) -> None:
    """Wait until so many answers are on disk."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        files = results.glob("*/*/jobs/generate-*/records.jsonl")
        if sum(path.read_bytes().count(b'"kind":"generation"') for path in files) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("no answers were written")


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the living processes that were started for a suite in this folder: its path is in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RUN_OF") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_until_gone(folder: Path, seconds: float = 15) -> list[psutil.Process]:
    """Return the processes of a suite that are still there after so long."""
    deadline = time.monotonic() + seconds
    while (left := processes_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
