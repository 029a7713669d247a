"""Rows of training data: read from a file or a hub, checked one by one, put into the prompt format and tokenized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import Fault, HarnessError, InvalidInput
from harness.prompt_formats import adds_special_tokens, render
from harness.row_sources import read_file, read_hub
from harness.suite import TrainingData
from harness.suite_file import LoadedSuite
from harness.suite_yaml import nearest, shown

COLUMNS = ("instruction", "input", "output")
NOT_IN_LOSS = -100
MOST_FAULTS = 20


@dataclass(frozen=True)
class Row:
    """One example. `input` is empty where there is none."""

    instruction: str
    input: str
    output: str


@dataclass(frozen=True)
class LoadedRows:
    """The usable rows, and how many rows of a hub data set were left out for want of an instruction or an output."""

    rows: tuple[Row, ...]
    left_out: int = 0


@dataclass(frozen=True)
class TokenizedRows:
    """`dataset` has the columns input_ids and labels, one entry per usable row.

    `truncated` rows were cut at the longest allowed length; `without_loss` of those had nothing left to learn from and
    are not in the data set. `longest` is the longest row before cutting, in tokens.
    """

    dataset: Any
    truncated: int
    without_loss: int
    longest: int


def load_rows(data: TrainingData, place: str) -> LoadedRows:
    """Read the rows at `place`: a local file, or the hub name (or local folder of the same shape) of a data set.

    Raises `InvalidInput` with every fault of a local file, by line. A hub data set cannot be mended by its user: rows
    without an instruction or an output are left out and counted.
    """
    if data.hub is not None:
        return _load_hub_rows(data, place)
    path = Path(place)
    rows, faults = [], []
    for number, (line, raw) in enumerate(read_file(path), start=1):
        row = _check_row(raw, shown(path), line, number)
        if isinstance(row, Row):
            rows.append(row)
        else:
            faults += row
        if data.limit is not None and number == data.limit:
            break
    if not rows and not faults:
        faults = [Fault(shown(path), None, "", "the file has no rows.")]
    if faults:
        raise InvalidInput(_shortened(faults))
    return LoadedRows(tuple(rows))


def check_training_files(loaded: LoadedSuite) -> int:
    """Read the local files of all training steps and return how many rows they have, each file counted once.

    Raises one `InvalidInput` with the faults of all of them. Hub data sets are left out.
    """
    rows: dict[Path, int] = {}
    faults: list[Fault] = []
    for training in loaded.suite.training.values():
        if training.data.path is not None:
            path = loaded.resolve(training.data.path)
            try:
                rows[path] = len(load_rows(training.data, str(path)).rows)
            except InvalidInput as error:
                faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise InvalidInput(faults)
    return sum(rows.values())


def tokenize(
    rows: Sequence[Row], data: TrainingData, tokenizer: Any, max_seq_length: int, processes: int
) -> TokenizedRows:
    """Turn rows into tokens: prompt, answer, one EOS, with at most one BOS in front.

    Raises `HarnessError` where the tokenizer has no EOS token, or where cutting leaves no row with anything to learn.
    """
    import datasets

    if tokenizer.eos_token_id is None:
        raise HarnessError("The tokenizer has no EOS token, so an answer would have no end to learn.")
    raw = datasets.Dataset.from_list([vars(row) for row in rows])
    settings = {"data": data, "tokenizer": tokenizer, "max_seq_length": max_seq_length}
    # One process means this one: `datasets` would start a pool even for one.
    encoded = raw.map(
        _encode, fn_kwargs=settings, remove_columns=raw.column_names, num_proc=processes if processes > 1 else None
    )
    lengths = encoded["length"]
    usable = encoded.filter(lambda learns: learns, input_columns="learns")
    if len(usable) == 0:
        raise HarnessError(
            f"max_seq_length: {max_seq_length} tokens cut the answer off every row.", "Raise max_seq_length."
        )
    return TokenizedRows(
        dataset=usable.select_columns(["input_ids", "labels"]),
        truncated=sum(length > max_seq_length for length in lengths),
        without_loss=len(encoded) - len(usable),
        longest=max(lengths),
    )


def _encode(row: dict[str, str], data: TrainingData, tokenizer: Any, max_seq_length: int) -> dict[str, Any]:
    prompt = render(data.prompt_format, row["instruction"], row["input"], tokenizer)
    special = adds_special_tokens(prompt, tokenizer)
    prompt_ids = tokenizer(prompt, add_special_tokens=special)["input_ids"]
    whole_ids = tokenizer(prompt + row["output"], add_special_tokens=special)["input_ids"]
    if whole_ids[: len(prompt_ids)] == prompt_ids:
        answer_ids = whole_ids[len(prompt_ids) :]
    else:  # a token spans the border; at run time the prompt stands alone, so it is learnt as it will be seen
        answer_ids = tokenizer(row["output"], add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    while answer_ids and answer_ids[-1] == end:
        answer_ids = answer_ids[:-1]
    ids = [*prompt_ids, *answer_ids, end]
    masked = len(prompt_ids) if data.loss_on == "answer" else 0
    labels = [NOT_IN_LOSS] * masked + ids[masked:]
    return {
        "input_ids": ids[:max_seq_length],
        "labels": labels[:max_seq_length],
        "length": len(ids),
        "learns": max_seq_length > masked,
    }


def _load_hub_rows(data: TrainingData, place: str) -> LoadedRows:
    table = read_hub(place, revision=data.revision, split=data.split, limit=data.limit)
    given = list(table[0]) if table else []
    missing = [column for column in ("instruction", "output") if column not in given]
    if missing:
        raise InvalidInput([_missing_column(place, None, "", column, given) for column in missing])
    checked = [_check_row(raw, place, None, number) for number, raw in enumerate(table, start=1)]
    rows = tuple(row for row in checked if isinstance(row, Row))
    if not rows:
        problem = f"the split '{data.split}' has no row with an instruction and an output."
        raise InvalidInput([Fault(place, None, "", problem)])
    return LoadedRows(rows, left_out=len(checked) - len(rows))


def _check_row(raw: Any, file: str, line: int | None, number: int) -> Row | list[Fault]:
    """Return the row, or its faults. `number` counts rows from 1 and stands in where there are no lines."""
    where = "" if line is not None else f"row {number} "
    if not isinstance(raw, dict):
        return [Fault(file, line, where.strip(), f"a row must be an object with {', '.join(COLUMNS)}.")]
    faults = []
    for column in ("instruction", "output"):
        if column not in raw:
            faults.append(_missing_column(file, line, where, column, list(raw)))
        elif not isinstance(raw[column], str) or not raw[column].strip():
            faults.append(Fault(file, line, f"{where}{column}", "must be text that is not empty."))
    extra = raw.get("input")
    if extra is not None and not isinstance(extra, str):
        faults.append(Fault(file, line, f"{where}input", "must be text, or left out."))
    return faults or Row(raw["instruction"], extra or "", raw["output"])


def _missing_column(file: str, line: int | None, where: str, column: str, given: Sequence[str]) -> Fault:
    close = nearest(column, [name for name in given if name not in COLUMNS])
    meant = f" Is '{close}' meant? Rename it." if close else ""
    problem = f"the column is missing; there are {', '.join(map(str, given)) or 'no columns'}.{meant}"
    return Fault(file, line, f"{where}{column}", problem)


def _shortened(faults: list[Fault]) -> list[Fault]:
    more = len(faults) - MOST_FAULTS
    return faults if more <= 0 else [*faults[:MOST_FAULTS], Fault(faults[0].file, None, "", f"{more} more faults.")]
