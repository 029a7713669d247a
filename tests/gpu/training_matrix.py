"""Measures the trainings of the matrix, each in a process of its own, until the time is up.

    python -m tests.gpu.training_matrix --model FOLDER --out FOLDER [--seconds N] [--only NAME ...]

OUT/training.json is written after every one, so nothing measured is ever lost; a second run with other names adds to
it. While one process loads and warms up, the next ones do their imports; from the moment it counts until it is done
they are stopped, so that nothing else runs then. Those that are ready hold a CUDA context each (`waiting_processes`),
which is in NVML's figure for the device and in no other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.gpu.configurations import Configuration, chosen
from tests.gpu.machine import describe_machine

SECONDS_FOR_ONE = 38.0
"""A training is not begun with less than this left: imports, load, warm-up and steps of the slower ones."""
LONGEST_SECONDS = 150.0
AHEAD = 2
"""Processes that import while others measure. Importing takes longer than the time before counting of one."""
ROOT = Path(__file__).parents[2]


class Child:
    """A process that has been started and imports."""

    def __init__(self, configuration: Configuration, model: Path, out: Path, environment: dict[str, str]) -> None:
        self.configuration = configuration
        self.log_file = out / f"{configuration.name}.log"
        command = [
            sys.executable,
            "-m",
            "tests.gpu.one_training",
            json.dumps(asdict(configuration)),
            str(model),
            str(out),
        ]
        with self.log_file.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )
        self.messages: dict[str, dict[str, Any]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            self.messages[message["kind"]] = message

    @property
    def ready(self) -> bool:
        """Whether its imports are over."""
        return "ready" in self.messages

    def stop(self) -> None:
        """Keep it from running."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def go(self) -> None:
        """Let it touch the GPU, as soon as it has done its imports."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died while importing; its log says why
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    @property
    def done(self) -> bool:
        """Whether its last word is said, or it has ended without one."""
        return self.process.poll() is not None or bool(self.messages.keys() & {"point", "failed"})

    def end(self, grace_seconds: float = 10.0) -> None:
        """Wait for its end, so that its memory is free, and make one where it does not come."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_seconds)
        self._signal(signal.SIGKILL)  # it, if it is still there, and what it started
        self.process.wait()
        self._reader.join(5)

    def reason(self) -> str:
        """Return why there is no point."""
        if "failed" in self.messages:
            return str(self.messages["failed"]["reason"])
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"ended with status {self.process.poll()}: {lines[-1] if lines else 'no output'}"


def measure(
    configurations: tuple[Configuration, ...], model: Path, out: Path, seconds: float, *, ahead: int = AHEAD
) -> dict[str, Any]:
    """Measure one after the other and return the whole document, which is also OUT/training.json."""
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    document = _document(out / "training.json", model)
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(out / "inductor-cache"),
        "TRITON_CACHE_DIR": str(out / "triton-cache"),
    }
    started_ahead: list[Child] = []
    for number, configuration in enumerate(configurations):
        left = seconds - (time.monotonic() - started)
        if left < SECONDS_FOR_ONE:
            _keep(out, document, _not_measured(configuration, f"the {seconds:.0f} seconds given were used up"))
            continue
        child = started_ahead.pop(0) if started_ahead else Child(configuration, model, out, environment)
        child.go()
        fit_in = int(left // SECONDS_FOR_ONE) - 1
        for following in configurations[number + 1 + len(started_ahead) : number + 1 + min(ahead, fit_in)]:
            started_ahead.append(Child(following, model, out, environment))
        _keep(out, document, _outcome(child, started_ahead, min(left, LONGEST_SECONDS)))
    for child in started_ahead:
        child.end(grace_seconds=0)
    document["seconds"] += time.monotonic() - started
    _write(out, document)
    return document


def _outcome(child: Child, started_ahead: list[Child], seconds: float) -> dict[str, Any]:
    """Wait for the child's last word and return its point, or why there is none."""
    began = time.monotonic()
    stopped: list[Child] = []
    while not child.done and time.monotonic() - began < seconds:
        if "counting" in child.messages and not stopped:
            stopped = [other for other in started_ahead if not other.ready]
            for other in stopped:
                other.stop()
        time.sleep(0.02)
    done = child.done
    child.end(grace_seconds=10.0 if done else 0.0)
    for other in stopped:
        other.go_on()
    if not done:
        return _not_measured(child.configuration, f"not done after {seconds:.0f} seconds", status="failed")
    if "point" not in child.messages:
        return _not_measured(child.configuration, child.reason(), status="failed")
    return {
        "status": "measured",
        **child.messages["point"]["point"],
        "waiting_processes": len(started_ahead),
        "wall_seconds": time.monotonic() - began,
    }


def _not_measured(configuration: Configuration, reason: str, status: str = "not measured") -> dict[str, Any]:
    return {"status": status, "reason": reason, **asdict(configuration), "phase": "train"}


def _document(file: Path, model: Path) -> dict[str, Any]:
    if file.exists():
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    else:
        document = {"machine": describe_machine(), "commands": [], "seconds": 0.0, "points": []}
    document["commands"].append(" ".join(["python -m tests.gpu.training_matrix", *sys.argv[1:]]))
    document["made"] = time.strftime("%Y-%m-%d %H:%M:%S %z")
    recipe = model / "random_weights.json"
    document["weights"] = json.loads(recipe.read_text(encoding="utf-8")) if recipe.exists() else {"place": model.name}
    return document


def _keep(out: Path, document: dict[str, Any], point: dict[str, Any]) -> None:
    """Put the point in its place and write everything at once. A new figure replaces an old one, a failure does not."""
    points = document["points"]
    old = next((one for one in points if one["name"] == point["name"]), None)
    if old is None:
        points.append(point)
    elif point["status"] == "measured" or old["status"] != "measured":
        points[points.index(old)] = point
    _write(out, document)
    median = point.get("seconds_a_step", {}).get("median")
    gib = (point.get("peak_reserved_bytes") or 0) / 2**30
    said = f"{median:.3f} s a step, {gib:.2f} GiB reserved" if median else f"{point['status']}: {point['reason']}"
    print(f"{point['name']}: {said}", flush=True)


def _write(out: Path, document: dict[str, Any]) -> None:
    partial = out / "training.json.partial"
    text = json.dumps(document, indent=1, ensure_ascii=False).replace(str(out), "OUT").replace(str(ROOT), ".")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(out / "training.json")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.training_matrix", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with the weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--only", nargs="+", default=[], help="names of configurations")
    parser.add_argument("--one-at-a-time", action="store_true", help="no imports while another process measures")
    arguments = parser.parse_args()
    try:
        configurations = chosen(tuple(arguments.only))
    except ValueError as error:
        parser.error(str(error))
    measure(
        configurations,
        arguments.model.resolve(),
        arguments.out.resolve(),
        arguments.seconds,
        ahead=0 if arguments.one_at_a_time else AHEAD,
    )


if __name__ == "__main__":
    main()
