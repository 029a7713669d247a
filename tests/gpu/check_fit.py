"""Compares predicted memory with what was measured.

    python -m tests.gpu.check_fit FILE ... [--model FOLDER]

A FILE is the training.json of `tests.gpu.training_matrix`, or the summary.json of a run with `performance.throughput`
whose models are all of the one configuration. Ends with status 1 if torch's reserved memory is off by more than
10 % anywhere. docs/fit.md says which constants to change then.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.fit.architecture import Architecture, read_architecture
from harness.fit.memory import Configuration, Parts, predict
from tests.gpu.configurations import LONG_ROW_TOKENS, SHORT_ROW_TOKENS

TOLERANCE = 0.10
FIGURES = {"allocated": "peak_allocated_bytes", "reserved": "peak_reserved_bytes", "process": "nvml_process_bytes"}
MEASUREMENTS = {
    "peak_torch_allocated_bytes": "peak_allocated_bytes",
    "peak_torch_reserved_bytes": "peak_reserved_bytes",
    "peak_nvml_process_bytes": "nvml_process_bytes",
}
GIB = 1 << 30
CHECKPOINTING = {False: "off", True: "on", "unsloth": "unsloth"}


@dataclass(frozen=True)
class Point:
    """A measured job: bytes by the names in FIGURES' values; what could not be measured is left out."""

    name: str
    configuration: Configuration
    measured: Mapping[str, int]

    def error(self, figure: str) -> float | None:
        """Return predicted over measured, less 1."""
        bytes_measured = self.measured.get(FIGURES[figure])
        return getattr(predict(self.configuration), figure) / bytes_measured - 1 if bytes_measured else None


def points_of(document: Mapping[str, Any], shape: Architecture) -> Iterator[Point]:
    """Read the measured points of a document of either kind."""
    if "measurements" in document:
        yield from _generation_points(document, shape)
        return
    for point in document["points"]:
        if point.get("status", "measured") == "measured":
            measured = {name: point[name] for name in FIGURES.values() if point.get(name)}
            yield Point(point["name"], training_of(point, shape), measured)


def training_of(point: Mapping[str, Any], shape: Architecture) -> Configuration:
    """Return what a point of the training matrix was."""
    long = point["rows"] == "long" or point["packing"]
    longest = LONG_ROW_TOKENS if long else SHORT_ROW_TOKENS[1]
    return Configuration(
        shape,
        phase="train",
        batch_size=point["batch_size"],
        row_tokens=min(longest, point["seq_len"]),
        backend=point["backend"],
        dtype=point["dtype"],
        quantization=point["quantization"],
        rank=point["r"],
        checkpointing=CHECKPOINTING[point["checkpointing"]],  # type: ignore[arg-type]
        optimizer=point["optimizer"],
        accumulates=point["accumulation"] > 1,
        padded=not long and not point.get("settings", {}).get("padding_free_effective", False),
        loss="unsloth" if point["backend"] == "unsloth" else "trl",
    )


def _generation_points(document: Mapping[str, Any], shape: Architecture) -> Iterator[Point]:
    """Read a run's throughput peaks of the plain engine, models with an adapter left out."""
    adapted = {one["model"] for one in document["loaded"] if one["adapter_hash"]}
    peaks: dict[tuple[str, str], dict[str, int]] = {}
    for one in document["measurements"]:
        plain = one["conditions"].get("engine", "plain") == "plain"
        if one["name"] in MEASUREMENTS and one["phase"] == "generate" and one["model"] not in adapted and plain:
            where = (one["model"], json.dumps(one["conditions"], sort_keys=True))
            peaks.setdefault(where, {})[MEASUREMENTS[one["name"]]] = int(one["values"][0])
    for (model, conditions), measured in peaks.items():
        how = json.loads(conditions)
        if not {"batch_size", "prompt_tokens", "new_tokens"} <= how.keys():
            continue
        configuration = Configuration(
            shape,
            phase="generate",
            batch_size=how["batch_size"],
            row_tokens=how["prompt_tokens"],
            new_tokens=how["new_tokens"],
            dtype=how["dtype"],
            quantization=how.get("quantization", "none"),
            padded=False,
        )
        lengths = f"{how['batch_size']} x ({how['prompt_tokens']} + {how['new_tokens']})"
        yield Point(f"{model} {how['dtype']} {configuration.quantization} {lengths}", configuration, measured)


def lines_of(point: Point) -> list[str]:
    """Return a point as text: predicted, measured and error of each figure, then the parts."""
    parts: Parts = predict(point.configuration)
    figures = []
    for name, key in FIGURES.items():
        error = point.error(name)
        if error is not None:
            figures.append(f"{name} {getattr(parts, name) / GIB:.2f}/{point.measured[key] / GIB:.2f} {error:+.1%}")
    shares = ("weights", "adapter", "gradients", "optimizer", "activations", "working", "cache", "fragmentation")
    detail = ", ".join(f"{name} {getattr(parts, name) / GIB:.2f}" for name in shares if getattr(parts, name))
    return [f"{point.name}: " + "; ".join(figures), f"    {detail}"]


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.check_fit", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    default = Path(__file__).parents[2] / "suites/configs/llama31_8b"
    parser.add_argument("--model", type=Path, default=default, help="folder with the config.json that was measured")
    arguments = parser.parse_args()
    shape = read_architecture(str(arguments.model.resolve()))
    errors = []
    print("GiB predicted/measured, error")
    for file in arguments.files:
        for point in points_of(json.loads(file.read_text(encoding="utf-8")), shape):
            print("\n".join(lines_of(point)))
            if (error := point.error("reserved")) is not None:
                errors.append(abs(error))
    if not errors:
        sys.exit("no measured point")
    within = sum(error <= TOLERANCE for error in errors)
    print(f"reserved: {within} of {len(errors)} within {TOLERANCE:.0%}, largest error {max(errors):.1%}")
    sys.exit(within < len(errors))


if __name__ == "__main__":
    main()
