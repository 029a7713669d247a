"""Saves benchmark ratios as a baseline, or compares today's with it.

    python -m tests.benchmarks.baseline save
    python -m tests.benchmarks.baseline compare --ratio 1.5

A figure is the median time of a benchmark over the median time of its reference in the same run, so that it holds on
another machine about as well as on this one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

BASELINE = Path(__file__).with_name("baseline.json")


def measure() -> dict[str, float]:
    """Run the benchmarks and return each one's ratio to its reference."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "benchmarks.json"
        command = [sys.executable, "-m", "pytest", "tests/benchmarks", "-q", "--benchmark-enable"]
        done = subprocess.run([*command, "--benchmark-only", f"--benchmark-json={result}"])
        if done.returncode != 0:
            sys.exit("A benchmark failed, for the reason above; nothing was compared.")
        benchmarks = json.loads(result.read_text(encoding="utf-8"))["benchmarks"]
    medians = {benchmark["name"]: benchmark["stats"]["median"] for benchmark in benchmarks}
    references = {benchmark["name"]: benchmark["extra_info"]["reference"] for benchmark in benchmarks}
    return {name: medians[name] / medians[reference] for name, reference in references.items() if reference}


def compare(ratios: dict[str, float], baseline: dict[str, float], limit: float) -> list[str]:
    """Return a sentence for each benchmark that is more than `limit` times its baseline, or not in it."""
    faults = [f"{name}: not in the baseline; save it first" for name in ratios.keys() - baseline.keys()]
    faults += [f"{name}: in the baseline, but not measured" for name in baseline.keys() - ratios.keys()]
    for name in ratios.keys() & baseline.keys():
        change = ratios[name] / baseline[name]
        if change > limit:
            faults.append(f"{name}: {change:.2f} times its baseline (allowed {limit})")
    return sorted(faults)


def main() -> int:
    """Run the command named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["save", "compare"])
    parser.add_argument("--ratio", type=float, default=1.5)
    arguments = parser.parse_args()
    ratios = measure()
    if arguments.command == "save":
        BASELINE.write_text(json.dumps(ratios, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    for name in sorted(ratios):
        print(f"{name:50} {ratios[name]:10.3f}  baseline {baseline.get(name, float('nan')):10.3f}")
    faults = compare(ratios, baseline, arguments.ratio)
    print("\n".join(faults) or "within the limit")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
