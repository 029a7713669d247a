"""From a public set to a prompt file: read, draft, pair, name, choose, validate, write."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import Fault, InvalidInput
from harness.importers.columns import Draft, LeftOut, Reader, SourceRow
from harness.importers.mapping import read_mapping
from harness.importers.sources import NOT_STATED, SOURCES, Source
from harness.prompts import read_all_prompts, select_prompts
from harness.records import Prompt
from harness.row_sources import read_file, read_hub
from harness.screen import counted
from harness.store import write_atomically
from harness.suite_paths import is_file, is_folder, is_hub_name
from harness.suite_yaml import nearest, shown

ANY_TABLE = "columns"
"""The name of the importer that takes a column mapping."""
DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")


@dataclass(frozen=True)
class ImportOrder:
    """What the command line says. `place` is a file, a folder that `datasets` can load, or a hub name."""

    name: str
    place: str
    output: Path
    limit: int | None = None
    subset: str | None = None
    split: str | None = None
    revision: str | None = None
    columns: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """What was written, and of how many rows; `left_out` counts rows that gave no prompt, by the reason."""

    source: Source
    output: Path
    rows: int
    prompts: tuple[Prompt, ...]
    left_out: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """Say it to the user, licence and all."""
        expected = Counter(prompt.expected for prompt in self.prompts)
        pairs = len({prompt.pair_id for prompt in self.prompts if prompt.pair_id is not None})
        categories = len({prompt.category for prompt in self.prompts})
        licence = f"licence: {self.prompts[0].licence}"
        return [
            f"{self.output}: {counted(len(self.prompts), 'prompt')} of {counted(self.rows, 'row')}, "
            f"{counted(categories, 'category', 'categories')}, {counted(pairs, 'pair')}",
            f"expected: refuse {expected['refuse']}, comply {expected['comply']}",
            *(f"left out: {counted(count, 'row')}, {reason}" for reason, count in self.left_out.most_common()),
            f"{licence}. {self.source.remark}".strip() if self.source.remark else licence,
            *([f"from {self.source.homepage}; its terms bind you"] if self.source.homepage else []),
            "Name the file under `prompts` of a suite.",
        ]


def import_prompts(order: ImportOrder) -> Imported:
    """Make the prompt file. An existing file is never overwritten.

    Raises `InvalidInput` for faults of the table or the command line, `NotAvailable` where a hub set cannot be had.
    """
    source, reader = _source_and_reader(order)
    if order.output.exists():
        problem = "the file is there already; give another name, or take it away first."
        raise InvalidInput([Fault(str(order.output), None, "", problem)])
    rows = _rows(order)
    left_out: Counter[str] = Counter()
    drafts: list[Draft] = []
    numbers: list[int] = []
    for row in rows:
        try:
            draft = reader(row)
            if not draft.text:
                raise LeftOut("the text is empty")
        except LeftOut as reason:
            left_out[str(reason)] += 1
            continue
        drafts.append(draft)
        numbers.append(row.number)
    if not drafts:
        reasons = "; ".join(f"{counted(count, 'row')}, {reason}" for reason, count in left_out.most_common(3))
        raise InvalidInput([Fault(order.place, None, "", f"no row gave a prompt ({reasons or 'there are no rows'}).")])
    prompts = _name(order.name, source, source.pair(drafts), numbers)
    chosen = select_prompts(prompts, order.limit)
    write_atomically(order.output, "".join(prompt.model_dump_json() + "\n" for prompt in chosen))
    _, faults = read_all_prompts([order.output], None)
    if faults:  # what was written must be what a suite accepts
        order.output.unlink()
        raise InvalidInput(faults)
    return Imported(source, order.output, len(rows), chosen, left_out)


def _source_and_reader(order: ImportOrder) -> tuple[Source, Reader]:
    if order.name == ANY_TABLE:
        mapping = read_mapping(order.columns, order.values, order.labels)
        title = mapping.values.get("source", Path(order.place).name)
        licence = mapping.values.get("licence", NOT_STATED)
        source = Source(title, "", licence, "", lambda place, subset: mapping.read)
        return source, mapping.read
    if order.name not in SOURCES:
        names = [*SOURCES, ANY_TABLE]
        problem = f"there is no importer '{order.name}'; there are {', '.join(names)}."
        raise InvalidInput([Fault("command line", None, "", problem, nearest(order.name, names))])
    if order.columns or order.values or order.labels:
        problem = f"only the importer '{ANY_TABLE}' takes --column, --value and --label."
        raise InvalidInput([Fault("command line", None, order.name, problem)])
    source = SOURCES[order.name]
    return source, source.reader(order.place, order.subset)


def _rows(order: ImportOrder) -> list[SourceRow]:
    path = Path(order.place)
    if is_file(path) or path.suffix.lower() in DATA_SUFFIXES:
        for option, value in (("--split", order.split), ("--revision", order.revision)):
            if value is not None:
                raise InvalidInput([Fault("command line", None, option, f"a file has none: {order.place}.")])
        file = shown(path)
        lined = list(read_file(path))
    elif is_folder(path) or is_hub_name(order.place):
        place = str(path.resolve()) if is_folder(path) else order.place
        file = order.place
        table = read_hub(place, revision=order.revision, subset=order.subset, split=order.split)
        lined = [(None, values) for values in table]
    else:
        problem = "there is no such file or folder, and it is not a hub name (organisation/name)."
        raise InvalidInput([Fault(order.place, None, "", problem)])
    rows = []
    for number, (line, values) in enumerate(lined, start=1):
        if not isinstance(values, dict):
            raise InvalidInput([Fault(file, line, "", "a row must be an object with named columns.")])
        rows.append(SourceRow(values, file, line, number))
    return rows


def _name(prefix: str, source: Source, drafts: Sequence[Draft], numbers: Sequence[int]) -> list[Prompt]:
    """Give drafts their ids and pairs: a twin key makes a pair where exactly one refusal and one answer share it."""
    twins: dict[str, list[Draft]] = {}
    for draft in drafts:
        if draft.twin:
            twins.setdefault(draft.twin, []).append(draft)
    pairs: dict[str, str] = {}
    for key, members in twins.items():
        if sorted(member.expected for member in members) == ["comply", "refuse"]:
            pairs[key] = f"{prefix}-pair-{len(pairs) + 1:04d}"
    own = Counter(slug(draft.own_id) for draft in drafts)
    return [
        Prompt(
            id=f"{prefix}-{name}" if (name := slug(draft.own_id)) and own[name] == 1 else f"{prefix}-row-{number:05d}",
            text=draft.text,
            category=slug(draft.category) or "imported",
            expected=draft.expected,
            pair_id=pairs.get(draft.twin),
            source=f"{source.title} ({source.homepage})" if source.homepage else source.title,
            licence=source.licence,
        )
        for draft, number in zip(drafts, numbers, strict=True)
    ]


def slug(text: str) -> str:
    """Lower-case letters and digits of any script, joined by '_': usable in --ids and --categories lists."""
    return "_".join(re.findall(r"[^\W_]+", text.lower()))
