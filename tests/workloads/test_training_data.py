"""Reading, checking and tokenizing training rows, down to the single token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, InvalidInput, NotAvailable
from harness.suite import TrainingData
from harness.workloads.training_data import NOT_IN_LOSS, Row, load_rows, tokenize
from tests.tiny_models import make_tokenizer

ROWS = [
    {"instruction": "하늘은 왜 파란가요?", "input": "", "output": "햇빛이 흩어지기 때문입니다."},
    {"instruction": '따옴표 "와 쉼표, 가 있는\n두 줄', "input": "참고 글", "output": "네, 그렇습니다."},
]
EXPECTED = tuple(Row(row["instruction"], row["input"], row["output"]) for row in ROWS)


def local(path: Path, **keys: Any) -> TrainingData:
    return TrainingData(path=str(path), **keys)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(path: Path) -> list[tuple[int | None, str, str]]:
    with pytest.raises(InvalidInput) as caught:
        load_rows(local(path), str(path))
    assert all(fault.file.endswith(path.name) for fault in caught.value.faults)
    return [(fault.line, fault.key, fault.problem) for fault in caught.value.faults]


def write_csv(path: Path, bom: bool = False) -> None:
    quoted = ['"' + value.replace('"', '""') + '"' for row in ROWS for value in row.values()]
    lines = ["instruction,input,output", ",".join(quoted[:3]), ",".join(quoted[3:])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig" if bom else "utf-8")


def write_parquet(path: Path) -> None:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    match suffix:
        case "json":
            write(path, json.dumps(ROWS, ensure_ascii=False, indent=2))
        case "jsonl":
            write(path, "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n")
        case "csv":
            write_csv(path)
        case "parquet":
            write_parquet(path)
    assert load_rows(local(path), str(path)).rows == EXPECTED
    assert load_rows(local(path, limit=1), str(path)).rows == EXPECTED[:1]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", bom=True)
    assert load_rows(local(tmp_path / "rows.csv"), str(tmp_path / "rows.csv")).rows == EXPECTED


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", '{"instruction": "가\u2028나", "output": "다\x85라"}\n')
    assert load_rows(local(path), str(path)).rows == (Row("가\u2028나", "", "다\x85라"),)


def test_faults_are_collected_with_their_lines(tmp_path: Path) -> None:
    good = json.dumps(ROWS[0], ensure_ascii=False)
    bad = ['{"instructions": "가", "output": "나"}', '{"instruction": 3, "output": " "}', "[1]"]
    found = faults_of(write(tmp_path / "rows.jsonl", "\n".join([good, "", *bad])))
    assert [(line, key) for line, key, _ in found] == [
        (3, "instruction"),
        (4, "instruction"),
        (4, "output"),
        (5, ""),
    ]
    assert "Is 'instructions' meant?" in found[0][2]


def test_lines_in_json_lists_and_csv_are_those_of_the_rows(tmp_path: Path) -> None:
    rows = [ROWS[0], {"instruction": "가", "output": ""}]
    assert faults_of(write(tmp_path / "rows.json", json.dumps(rows, indent=1)))[0][:2] == (7, "output")
    table = 'instruction,output\n"두\n줄",답\n,답\n'
    assert faults_of(write(tmp_path / "rows.csv", table))[0][:2] == (4, "instruction")


@pytest.mark.parametrize(
    ("name", "text", "line", "part"),
    [
        ("a.jsonl", '{"instruction": "가", "output": "나"}\n{"instruction": ', 2, "not JSON"),
        ("a.json", '{"instruction": "가"}', 1, "list of rows"),
        ("a.json", '[\n{"instruction": "가", "output": "나"}\n{"x": 1}]', 3, "missing after this row"),
        ("a.json", '[\n{"instruction": "가", }]', 2, "not JSON"),
        ("a.csv", 'instruction,output\n"가",나,다\n', 2, "more fields"),
        ("a.csv", 'instruction,output\n"가"나,다\n', 2, "not CSV"),
        ("a.jsonl", "", None, "no rows"),
        ("a.parquet", "no parquet", None, "not Parquet"),
        ("a.xlsx", "", None, ".csv, .json"),
    ],
)
def test_a_broken_file_gets_one_sentence(tmp_path: Path, name: str, text: str, line: int | None, part: str) -> None:
    found = faults_of(write(tmp_path / name, text))
    assert len(found) == 1
    assert found[0][0] == line
    assert part in found[0][2]


def test_a_file_that_is_wrong_in_every_row_is_not_reported_row_by_row(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", '{"question": "가"}\n' * 500)
    found = faults_of(path)
    assert len(found) == 21
    assert found[-1][2] == "980 more faults."


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    """A data set as a hub keeps it, in a local folder."""
    folder = tmp_path / "dataset"
    (folder / "data").mkdir(parents=True)
    write(folder / "README.md", "---\nconfigs:\n- config_name: default\n  data_files: data/train-*.parquet\n---\n")
    write_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return folder


def test_a_hub_data_set_is_read(hub_folder: Path) -> None:
    loaded = load_rows(TrainingData(hub="someone/dataset"), str(hub_folder))
    assert loaded.rows == EXPECTED
    assert loaded.left_out == 0


def test_unusable_hub_rows_are_left_out_and_counted(hub_folder: Path) -> None:
    ROWS.append({"instruction": "가", "input": "", "output": "  "})
    try:
        write_parquet(hub_folder / "data" / "train-00000-of-00001.parquet")
    finally:
        ROWS.pop()
    loaded = load_rows(TrainingData(hub="someone/dataset"), str(hub_folder))
    assert (loaded.rows, loaded.left_out) == (EXPECTED, 1)


def test_an_unknown_split_or_data_set_is_one_sentence(hub_folder: Path) -> None:
    with pytest.raises(NotAvailable, match="validation"):
        load_rows(TrainingData(hub="someone/dataset", split="validation"), str(hub_folder))
    with pytest.raises(NotAvailable, match="could not be loaded"):
        load_rows(TrainingData(hub="someone/absent"), str(hub_folder / "absent"))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


def encode(tokenizer: Any, row: Row, max_seq_length: int = 512, **keys: Any) -> dict[str, list[int]]:
    data = TrainingData(path="rows.jsonl", **keys)
    dataset = tokenize([row], data, tokenizer, max_seq_length, 1).dataset
    assert dataset.column_names == ["input_ids", "labels"]
    first: dict[str, list[int]] = dataset[0]
    return first


@pytest.mark.parametrize("form", ["alpaca_ko", "chat_template", "plain"])
@pytest.mark.parametrize("row", EXPECTED)
def test_a_row_is_prompt_answer_and_one_end(tokenizer: Any, form: Any, row: Row) -> None:
    from harness.prompt_formats import adds_special_tokens, render

    ids = encode(tokenizer, row, prompt_format=form)["input_ids"]
    prompt = render(form, row.instruction, row.input, tokenizer)
    seen = tokenizer(prompt, add_special_tokens=adds_special_tokens(prompt, tokenizer))["input_ids"]
    assert ids[: len(seen)] == seen, "the prompt is learnt as it is seen at run time"
    assert tokenizer.decode(ids[len(seen) : -1]) == row.output
    assert ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id


def test_an_end_token_in_the_data_is_not_doubled(tokenizer: Any) -> None:
    bare = encode(tokenizer, Row("가", "", "나"))
    assert encode(tokenizer, Row("가", "", f"나{tokenizer.eos_token}")) == bare


def test_loss_on_the_answer_alone_or_on_everything(tokenizer: Any) -> None:
    whole = encode(tokenizer, EXPECTED[0], prompt_format="plain")
    assert whole["labels"] == whole["input_ids"]
    answer = encode(tokenizer, EXPECTED[0], prompt_format="plain", loss_on="answer")
    assert answer["input_ids"] == whole["input_ids"]
    learnt = [token for token in answer["labels"] if token != NOT_IN_LOSS]
    assert tokenizer.decode(learnt) == EXPECTED[0].output + tokenizer.eos_token
    assert answer["labels"] == [NOT_IN_LOSS] * (len(whole["labels"]) - len(learnt)) + learnt


def test_a_token_across_the_border_does_not_change_the_prompt() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<e>": 0, "a": 1, "b": 2, "ab": 3}
    merging = Tokenizer(models.BPE(vocabulary, [("a", "b")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=merging, eos_token="<e>")
    assert tokenizer("ab")["input_ids"] == [3]
    assert encode(tokenizer, Row("a", "", "b"), prompt_format="plain")["input_ids"] == [1, 2, 0]


def test_long_rows_are_cut_and_counted(tokenizer: Any) -> None:
    data = TrainingData(path="rows.jsonl", prompt_format="plain", loss_on="answer")
    rows = [Row("가나다", "", "라"), Row("가", "", "나" * 30), Row("가" * 30, "", "나")]
    result = tokenize(rows, data, tokenizer, 20, 1)
    assert (len(result.dataset), result.truncated, result.without_loss) == (2, 2, 1)
    assert [len(ids) for ids in result.dataset["input_ids"]][1] == 20
    assert result.longest == max(len(tokenizer(row.instruction + row.output)["input_ids"]) + 1 for row in rows)
    with pytest.raises(HarnessError, match="max_seq_length: 8 tokens"):
        tokenize(rows[2:], data, tokenizer, 8, 1)


def test_several_processes_give_the_same_tokens(tokenizer: Any) -> None:
    data = TrainingData(path="rows.jsonl")
    one, two = (tokenize(EXPECTED * 3, data, tokenizer, 512, processes).dataset.to_list() for processes in (1, 2))
    assert one == two


def test_a_tokenizer_without_an_end_token_is_refused(tokenizer: Any) -> None:
    endless = make_tokenizer()
    endless.eos_token = None
    with pytest.raises(HarnessError, match="no EOS"):
        tokenize(EXPECTED, TrainingData(path="rows.jsonl"), endless, 512, 1)
