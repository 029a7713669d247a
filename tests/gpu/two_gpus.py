"""How much sooner a sweep is done on two GPUs of one machine than on one, through the Ray executor.

    python -m tests.gpu.two_gpus OUT.json [--gpus 0 0,1] [--seeds 4]

Each run trains the demonstration model's adapter with so many seeds and answers with each, every job in a process of
its own on a whole GPU; it has a results folder of its own, so that nothing is taken from a cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "suites" / "sweep_ko.yaml"
STEPS = 120
"""Of a training: enough that the start of a process is not most of a job."""


def run(gpus: str, seeds: int) -> dict[str, Any]:
    """Run the sweep on these GPUs and return its seconds and when each job was worked on."""
    overrides = {
        "models.base.device": "cuda",
        "sampling.engine": "plain",
        "lm_eval": "null",
        "sweep": json.dumps({"safety_lora": {"seeds": list(range(1, seeds + 1))}}),
        "training.safety_lora.trainer.max_steps": str(STEPS),
    }
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "harness", "run", str(SUITE), "--executor", "ray", "--results", results]
        for key, value in overrides.items():
            command += ["-o", f"{key}={value}"]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpus, "HF_HUB_OFFLINE": "1"}
        started = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"status {done.returncode}: {done.stderr[-3000:]}")
        jobs = sorted(path.name for path in Path(results).glob("*/*/jobs/*"))
    return {"gpus": gpus, "seconds": seconds, "jobs": jobs}


def main() -> None:
    """Run on each set of GPUs in turn; a second call with the same file adds to it."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.two_gpus", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--gpus", nargs="+", default=["0", "0,1"])
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    parts = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else []
    for gpus in arguments.gpus:
        parts.append({"part": f"sweep on GPU {gpus}", **run(gpus, arguments.seeds)})
        print(parts[-1]["part"], f"{parts[-1]['seconds']:.1f} s", flush=True)
        arguments.out.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
