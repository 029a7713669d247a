"""Runs every GPU test and measurement, one after the other, and keeps what came of each at once.

    python -m tests.gpu.run_all --out FOLDER [--seconds N] [--only STEP ...] [--training NAME ...]

OUT/measurements.json and OUT/measurements.html are written after every step, so that a step that fails, or a machine
that goes away, loses nothing that was measured before. A step that cannot run says why and the next one begins.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gpu.machine import describe_machine

ROOT = Path(__file__).parents[2]
TAIL_CHARACTERS = 4000
LEAST_SECONDS = 10.0


@dataclass(frozen=True)
class Step:
    """One command. `{out}`, `{weights}` and `{seconds}` in it are filled in; `needs` are modules or files."""

    name: str
    command: tuple[str, ...]
    seconds: float
    needs: tuple[str, ...] = ()


OTHER_PARTS = ("engine_fast", "engine_vllm", "engine_generate_batch", "lm_eval_speed", "precision_answers", "two_gpus")
"""Files that other steps leave in OUT, shown as tables."""
SUITES = ("throughput_8b", "precision_8b")
"""Suites whose measurements and page are taken over from their newest run."""
PYTHON = sys.executable
PYTEST = (PYTHON, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-q", "-rsf")
MARKS = {"tests": "mark.gpu", "vllm-tests": "= NEEDS_VLLM"}
"""Steps that run tests, and what a file of such tests says of itself."""
STEPS: tuple[Step, ...] = (
    Step(
        "tests",
        (*PYTEST, "-m", "gpu", "--junitxml={out}/tests.xml"),
        420,
        ("pytest", "torch"),
    ),
    Step(
        "vllm-tests",
        (*PYTEST, "-m", "vllm", "--junitxml={out}/vllm-tests.xml"),
        1200,
        ("pytest", "vllm"),
    ),
    Step("weights", (PYTHON, "-m", "tests.gpu.weights", "--results", "{out}/results"), 120, ("torch", "pydantic")),
    Step(
        "training",
        (PYTHON, "-m", "tests.gpu.training_matrix", "--model", "{weights}", "--out", "{out}", "--seconds", "{seconds}"),
        420,
        ("trl", "peft", "datasets"),
    ),
    Step(
        "engine-fast",
        (PYTHON, "-m", "tests.gpu.engine_speed", "{weights}", "{out}/engine_fast.json", "--engine", "fast"),
        420,
        ("tests/gpu/engine_speed.py",),
    ),
    Step(
        "engine-vllm",
        (PYTHON, "-m", "tests.gpu.engine_speed", "{weights}", "{out}/engine_vllm.json", "--engine", "vllm"),
        300,
        ("tests/gpu/engine_speed.py", "vllm"),
    ),
    Step(
        "engine-generate-batch",
        (PYTHON, "-m", "tests.gpu.engine_speed", "{weights}", "{out}/engine_generate_batch.json")
        + ("--engine", "generate_batch", "--requests", "256"),
        240,
        ("tests/gpu/engine_speed.py",),
    ),
    Step(
        "lm-eval-speed",
        (PYTHON, "-m", "tests.benchmarks.lm_eval_speed", "--dtype", "bfloat16", "--batch-size", "32", "64")
        + ("--out", "{out}/lm_eval_speed.json"),
        240,
        ("lm_eval",),
    ),
    Step(
        "precision-answers",
        (PYTHON, "-m", "tests.gpu.precision_answers", "{out}/precision_answers.json", "--prompts", "930"),
        120,
        ("bitsandbytes",),
    ),
    Step("two-gpus", (PYTHON, "-m", "tests.gpu.two_gpus", "{out}/two_gpus.json"), 420, ("ray",)),
    Step(
        "throughput",
        (PYTHON, "-m", "harness", "run", "suites/throughput_8b.yaml", "--results", "{out}/results"),
        300,
        ("suites/throughput_8b.yaml", "typer", "rich"),
    ),
    Step(
        "precision",
        (PYTHON, "-m", "harness", "run", "suites/precision_8b.yaml", "--results", "{out}/results"),
        500,
        ("suites/precision_8b.yaml", "typer", "rich"),
    ),
    Step("fit", (PYTHON, "-m", "tests.gpu.check_fit", "{out}/training.json"), 30, ("tests/gpu/check_fit.py",)),
)


class Run:
    """The document of one run and the steps that fill it."""

    def __init__(self, out: Path, seconds: float, command: str | None = None) -> None:
        self.out = out
        self.ends = time.monotonic() + seconds
        self.weights: str | None = None
        out.mkdir(parents=True, exist_ok=True)
        self.file = out / "measurements.json"
        if self.file.exists():
            self.document: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        else:
            self.document = {"machine": describe_machine(), "made": "", "commands": [], "steps": {}}
        if command:
            self.document["commands"].append(command)
            self.document["made"] = time.strftime("%Y-%m-%d %H:%M:%S %z")

    def do(self, step: Step, extra: tuple[str, ...] = ()) -> None:
        """Run a step, or say why not, and write the document."""
        left = min(step.seconds, self.ends - time.monotonic())
        reason = self._obstacle(step, left)
        began = time.monotonic()
        outcome: dict[str, Any] = (
            {"status": "not measured", "reason": reason} if reason else self._run(step, extra, left)
        )
        outcome["seconds"] = round(time.monotonic() - began, 1)
        self.document["steps"][step.name] = outcome
        if step.name == "weights" and outcome["status"] == "done":
            self.weights = outcome["output"].strip().splitlines()[-1]
        self.write()
        print(f"{step.name}: {outcome['status']}, {outcome['seconds']} s. {outcome.get('reason') or ''}", flush=True)

    def _obstacle(self, step: Step, left: float) -> str | None:
        if left < LEAST_SECONDS:
            return "the time given was used up"
        for need in step.needs:
            there = (ROOT / need).exists() if "/" in need else importlib.util.find_spec(need) is not None
            if not there:
                return f"{need} is not here"
        if any("{weights}" in part for part in step.command) and self.weights is None:
            return "there are no weights: the step `weights` was left out or failed"
        return None

    def _run(self, step: Step, extra: tuple[str, ...], seconds: float) -> dict[str, Any]:
        filled = {"out": str(self.out), "weights": self.weights, "seconds": f"{max(seconds - 15, LEAST_SECONDS):.0f}"}
        command = [*(part.format(**filled) for part in step.command), *extra]
        log = self.out / f"{step.name}.log"
        environment = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
            try:
                status = process.wait(seconds)
                reason = "" if status == 0 else f"exit status {status}"
            except subprocess.TimeoutExpired:
                reason = f"not done after {seconds:.0f} seconds"
            finally:
                _kill_group(process.pid)
                process.wait()
        output = log.read_text(encoding="utf-8", errors="replace")[-TAIL_CHARACTERS:]
        shown = ["python" if part == PYTHON else part for part in command]
        return {
            "status": "failed" if reason else "done",
            "reason": reason,
            "command": " ".join(shown),
            "output": output,
        }

    def write(self) -> None:
        """Write the document, with what the steps left in files of their own, and the page.

        This machine's places are cut out: the files are made to be passed on.
        """
        for name in ("training", *OTHER_PARTS):
            part = self.out / f"{name}.json"
            if part.exists():
                self.document[name] = json.loads(part.read_text(encoding="utf-8"))
        for suite in SUITES:
            summaries = (self.out / "results" / suite).glob("*/summary.json")
            if newest := max(summaries, key=lambda one: one.stat().st_mtime, default=None):
                self.document[suite] = json.loads(newest.read_text(encoding="utf-8"))["measurements"]
                page = newest.with_name("report.html").read_text(encoding="utf-8")
                (self.out / f"{suite}.html").write_text(page.replace(f"{ROOT}/", ""), encoding="utf-8")
        partial = self.file.with_suffix(".partial")
        text = json.dumps(self.document, indent=1, ensure_ascii=False).replace(str(self.out), "OUT")
        partial.write_text(text.replace(str(ROOT), ".") + "\n", encoding="utf-8")
        partial.replace(self.file)
        try:
            from tests.gpu.page import render

            document = json.loads(self.file.read_text(encoding="utf-8"))
            self.file.with_suffix(".html").write_text(render(document), encoding="utf-8")
        except ImportError as error:  # the page can be made anywhere from the JSON
            print(f"no page: {error}", flush=True)


def files_of(step: str) -> tuple[str, ...]:
    """Return the files with this step's tests; collecting all others would need packages that may not be here."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return tuple(str(file.relative_to(ROOT)) for file in files if MARKS[step] in file.read_text(encoding="utf-8"))


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Read the command line and run the steps."""
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.run_all", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3600.0, help="for all steps together")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="STEP", help=", ".join(names))
    parser.add_argument("--training", nargs="+", default=[], metavar="NAME", help="only these training configurations")
    parser.add_argument("--weights", help="folder of weights that are there already")
    parser.add_argument("--collect", action="store_true", help="run nothing: take over what lies in OUT")
    arguments = parser.parse_args()
    if arguments.collect:
        Run(arguments.out.resolve(), 0).write()
        return
    run = Run(arguments.out.resolve(), arguments.seconds, " ".join(["python -m tests.gpu.run_all", *sys.argv[1:]]))
    run.weights = arguments.weights
    extra = {step: files_of(step) for step in MARKS}
    if arguments.training:
        extra["training"] = ("--only", *arguments.training)
    for step in STEPS:
        if step.name in arguments.only:
            run.do(step, extra.get(step.name, ()))
    if any(outcome["status"] == "failed" for outcome in run.document["steps"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
