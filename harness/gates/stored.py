"""gates.json of a run folder: the gates in force, which may be newer than the run's suite, and how they went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.errors import GatesFailed, StoreError, reason_of
from harness.records import GateReport, GateResult, RunHeader
from harness.store import write_atomically
from harness.suite import Gate, Suite

FILE = "gates.json"


def put_in_force(folder: Path, gates: Mapping[str, Gate], source: str) -> None:
    """Make these the gates of a run. `source` is the file they came from, as the user gave it."""
    plain = {name: gate.model_dump(mode="json", exclude_defaults=True) for name, gate in gates.items()}
    write_report(folder, GateReport(source=source, gates=plain))


def gates_in_force(folder: Path, header: RunHeader) -> tuple[str, dict[str, Gate]]:
    """The file they came from and the gates: those put in force last, or else those of the run's suite."""
    stored = read_report(folder)
    if stored is None:
        return header.suite_file, Suite.model_validate(header.suite).gates
    return stored.source, {name: Gate.model_validate(gate) for name, gate in stored.gates.items()}


def write_report(folder: Path, report: GateReport) -> None:
    """Write gates.json whole."""
    write_atomically(folder / FILE, report.model_dump_json(indent=1) + "\n")


def read_report(folder: Path) -> GateReport | None:
    """What gates.json holds; None where there is none, StoreError where it cannot be read."""
    path = folder / FILE
    try:
        return GateReport.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: the gates cannot be read: {reason_of(error)}") from error


def require(results: tuple[GateResult, ...], where: Path) -> None:
    """Raise GatesFailed with a line for each gate that did not pass, and one for those that lack data for one reason.

    `where` is the page that says more.
    """
    from harness.gates.words import failure_lines

    failed = [result for result in results if result.outcome != "passed"]
    if failed:
        lines = [f"{len(failed)} of {len(results)} gates failed."]
        lines += [f"  {line}" for line in failure_lines(failed)]
        raise GatesFailed("\n".join(lines), hint=f"The page shows them: {where}")
