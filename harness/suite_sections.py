"""Reading one section of a suite on its own, for a run that was made already: its gates, or how it is graded."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from harness.errors import InvalidInput
from harness.gates.checks import check_gates
from harness.records import RunHeader
from harness.suite import Gate, Grading, Suite
from harness.suite_checks import Checker
from harness.suite_file import validate_types
from harness.suite_yaml import nearest, read_document


def load_gates(path: Path, header: RunHeader, baselines: Collection[str] | None) -> dict[str, Gate]:
    """The gates of a file, checked against the run's own suite and prompts; InvalidInput names every fault.

    The file is a suite, of which nothing but its `gates` is read, or has `gates` alone.
    """
    suite, checker = _read(path, "gates", header, Path(header.suite_file).parent)
    check_gates(suite, header.prompts, checker.fault, checker.base, baselines)
    _require_none(checker)
    return suite.gates


def load_grading(path: Path, header: RunHeader) -> Grading:
    """The judges and guards of a file, checked; InvalidInput names every fault.

    The file is a suite, of which nothing but its `grading` is read, or has `grading` alone. Paths of guards count from
    the file's folder.
    """
    suite, checker = _read(path, "grading", header, path.parent)
    checker.check_guards(suite)
    _require_none(checker)
    return suite.grading


def _read(path: Path, section: str, header: RunHeader, base: Path) -> tuple[Suite, Checker]:
    """The run's own suite with the section of the file, and what notes further faults in it."""
    document = read_document(path)
    for key in document.data:
        if key not in Suite.model_fields:
            document.add_fault((key,), "unknown key.", nearest(key, Suite.model_fields))
    content = document.data.get(section)
    if not content:
        document.add_fault((section,), f"the file has no {section}.")
    document.data = {**json.loads(json.dumps(header.suite)), section: content or {}}
    suite, wrong = validate_types(document)
    return suite, Checker(document, base, wrong, unresolved=set())


def _require_none(checker: Checker) -> None:
    if faults := checker.document.faults:
        raise InvalidInput(sorted(faults, key=lambda fault: fault.line or 0))
