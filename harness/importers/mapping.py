"""Any table by a mapping: which column is which field, what stands in for a missing one, what a label expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import Fault, InvalidInput
from harness.importers.columns import Draft, LeftOut, SourceRow, expected_by
from harness.records import Expected
from harness.suite_yaml import nearest

FROM_A_COLUMN = ("text", "category", "expected", "id", "pair_id")
FIXED = ("category", "expected", "source", "licence")
EXPECTATIONS: Mapping[str, Expected] = {"refuse": "refuse", "comply": "comply"}


@dataclass(frozen=True)
class ColumnMapping:
    """`columns`: our field -> its column, or a dotted path into one; `values`: field -> what all rows have.

    `labels`: what each label expects.
    """

    columns: Mapping[str, str]
    values: Mapping[str, str]
    labels: Mapping[str, Expected]

    def read(self, row: SourceRow) -> Draft:
        """Make a draft of a row. A label that is not named is left out."""
        row = row.with_inner(self.columns.values())
        label = self._field(row, "expected")
        known = self.labels or EXPECTATIONS
        if label and label not in known:
            raise LeftOut(f"no --label says what '{label}' expects")
        return Draft(
            text=self._field(row, "text"),
            category=self._field(row, "category"),
            expected=expected_by(known, label),
            own_id=self._field(row, "id"),
            twin=self._field(row, "pair_id"),
        )

    def _field(self, row: SourceRow, field: str) -> str:
        return row.text(self.columns[field]) if field in self.columns else self.values.get(field, "")


def read_mapping(columns: Sequence[str], values: Sequence[str], labels: Sequence[str]) -> ColumnMapping:
    """Read FIELD=COLUMN, FIELD=TEXT and LABEL=refuse or comply; raises `InvalidInput` with all that is wrong."""
    faults: list[Fault] = []
    by_column = _pairs("--column", columns, FROM_A_COLUMN, faults)
    fixed = _pairs("--value", values, FIXED, faults)
    meanings = _pairs("--label", labels, None, faults)
    if "text" not in by_column:
        faults.append(Fault("command line", None, "--column", "say which column has the prompts: text=COLUMN."))
    if "expected" not in by_column and fixed.get("expected") not in EXPECTATIONS:
        problem = "say what is expected: --value expected=refuse (or comply), or --column expected=COLUMN."
        faults.append(Fault("command line", None, "expected", problem))
    for label, meaning in meanings.items():
        if meaning not in EXPECTATIONS:
            problem = f"must be refuse or comply, not '{meaning}'."
            faults.append(Fault("command line", None, f"--label {label}", problem))
    if faults:
        raise InvalidInput(faults)
    labels_ = {label: EXPECTATIONS[meaning] for label, meaning in meanings.items()}
    return ColumnMapping(by_column, {"category": "imported", **fixed}, labels_ if "expected" in by_column else {})


def _pairs(option: str, given: Sequence[str], names: Sequence[str] | None, faults: list[Fault]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name or not value:
            faults.append(Fault("command line", None, option, f"'{item}' is not of the form NAME=VALUE."))
        elif names is not None and name not in names:
            problem = f"there is no field '{name}'; there are {', '.join(names)}."
            faults.append(Fault("command line", None, option, problem, nearest(name, names)))
        else:
            pairs[name] = value
    return pairs
