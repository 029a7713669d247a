"""Reading gates on their own, from a gates file or another suite, for a run that was made already."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from harness.errors import InvalidInput
from harness.gates.checks import check_gates
from harness.records import RunHeader
from harness.suite import Gate, Suite
from harness.suite_checks import Checker
from harness.suite_file import validate_types
from harness.suite_yaml import nearest, read_document


def load_gates(path: Path, header: RunHeader, baselines: Collection[str] | None) -> dict[str, Gate]:
    """The gates of a file, checked against the run's own suite and prompts; InvalidInput names every fault.

    The file is a suite, of which nothing but its `gates` is read, or has `gates` alone.
    """
    document = read_document(path)
    for key in document.data:
        if key not in Suite.model_fields:
            document.add_fault((key,), "unknown key.", nearest(key, Suite.model_fields))
    gates = document.data.get("gates")
    if not gates:
        document.add_fault(("gates",), "the file has no gates.")
    document.data = {**json.loads(json.dumps(header.suite)), "gates": gates or {}}
    suite, wrong = validate_types(document)
    checker = Checker(document, Path(header.suite_file).parent, wrong, unresolved=set())
    check_gates(suite, header.prompts, checker.fault, checker.base, baselines)
    if document.faults:
        raise InvalidInput(sorted(document.faults, key=lambda fault: fault.line or 0))
    return suite.gates
