"""What all importers share: where rows come from, the column mapping, names, and what is said of faults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, InvalidInput, NotAvailable
from harness.importers.importing import Imported, ImportOrder, import_prompts
from tests.importers.test_sources import XSTEST, XSTEST_PAIRS, pairs, write

REPOSITORY = Path(__file__).parents[2]
TABLE = [
    {"질문": "첫째 질문", "주제": "요리, 살림", "판정": "안전", "짝": "a"},
    {"질문": "둘째 질문", "주제": "요리, 살림", "판정": "위험", "짝": "a"},
    {"질문": "셋째 질문", "주제": "", "판정": "위험", "짝": ""},
]
MAPPING = {
    "columns": ("text=질문", "category=주제", "expected=판정", "pair_id=짝"),
    "labels": ("안전=comply", "위험=refuse"),
}


def load(tmp_path: Path, name: str, place: Path | str, **options: Any) -> Imported:
    return import_prompts(ImportOrder(name, str(place), tmp_path / "out.jsonl", **options))


def sentence(tmp_path: Path, name: str, place: Path | str, **options: Any) -> str:
    """The fault that an import ends with; it must leave no file."""
    with pytest.raises(HarnessError) as caught:
        load(tmp_path, name, place, **options)
    assert not (tmp_path / "out.jsonl").exists()
    return caught.value.message


# -- any table ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["mine.csv", "mine.json", "mine.jsonl"])
def test_any_table_by_a_column_mapping(tmp_path: Path, file: str) -> None:
    values = ("licence=CC0-1.0", "source=내 질문")
    done = load(tmp_path, "columns", write(tmp_path / file, TABLE), values=values, **MAPPING)
    assert pairs(done) == {("둘째 질문", "첫째 질문")}
    assert [(p.category, p.expected, p.licence) for p in done.prompts] == [
        ("요리_살림", "comply", "CC0-1.0"),
        ("요리_살림", "refuse", "CC0-1.0"),
        ("imported", "refuse", "CC0-1.0"),
    ]
    assert done.prompts[2].pair_id is None
    assert {p.source for p in done.prompts} == {"내 질문"}  # and no path of the user's machine


def test_a_dotted_path_reaches_into_nested_json(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "첫째 질문"}], "meta": {"topic": "요리"}, "a.b": "refuse"}]
    path = write(tmp_path / "chats.jsonl", rows)
    columns = ("text=messages.0.content", "category=meta.topic", "expected=a.b")
    (prompt,) = load(tmp_path, "columns", path, columns=columns).prompts
    assert (prompt.text, prompt.category, prompt.expected) == ("첫째 질문", "요리", "refuse")
    (tmp_path / "out.jsonl").unlink()
    for missing in ("messages.1.content", "messages.0.contents", "meta.topic.x"):
        wrong = sentence(tmp_path, "columns", path, columns=(f"text={missing}", "expected=a.b"))
        assert f"chats.jsonl:1: {missing}: the column is missing; there are messages, meta, a.b" in wrong


def test_fixed_values_stand_in_for_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", TABLE)
    done = load(tmp_path, "columns", path, columns=("text=질문",), values=("expected=refuse", "category=all"))
    assert {(p.category, p.expected, p.licence) for p in done.prompts} == {("all", "refuse", "not stated")}


def test_all_that_is_wrong_with_a_mapping_is_said_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", TABLE)
    wrong = sentence(tmp_path, "columns", path, columns=("txet=질문", "text"), labels=("안전=ok",))
    assert "there is no field 'txet'" in wrong and "Did you mean 'text'?" in wrong
    assert "'text' is not of the form NAME=VALUE" in wrong
    assert "must be refuse or comply, not 'ok'" in wrong
    assert "text=COLUMN" in wrong and "--value expected=refuse" in wrong


def test_labels_without_a_meaning_name_the_option_that_gives_them_one(tmp_path: Path) -> None:
    rows = [{"q": "하나", "verdict": "bad"}, {"q": "둘", "verdict": "fine"}]
    path, columns = write(tmp_path / "mine.csv", rows), ("text=q", "expected=verdict")
    wrong = sentence(tmp_path, "columns", path, columns=columns)
    assert "(1 row, no --label says what 'bad' expects; 1 row, no --label says what 'fine' expects)" in wrong
    done = load(tmp_path, "columns", path, columns=columns, labels=("bad=refuse",))
    assert done.left_out == {"no --label says what 'fine' expects": 1}


def test_a_known_set_takes_no_mapping(tmp_path: Path) -> None:
    path = write(tmp_path / "xstest.csv", XSTEST)
    assert "only the importer 'columns'" in sentence(tmp_path, "xstest", path, values=("expected=refuse",))


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_missing_column_is_one_sentence(tmp_path: Path) -> None:
    rows = [{**row, "promt": row["prompt"]} for row in XSTEST]
    for row in rows:
        del row["prompt"]
    path = write(tmp_path / "xstest.jsonl", rows)
    (line,) = sentence(tmp_path, "xstest", path).splitlines()
    assert line.endswith(
        "xstest.jsonl:1: prompt: the column is missing; there are id, type, label, focus, note, promt. "
        "Did you mean 'promt'?"
    )


def test_one_wrong_letter_of_a_korean_column_brings_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", TABLE)
    wrong = sentence(tmp_path, "columns", path, columns=("text=질뮨",), values=("expected=refuse",))
    assert "mine.csv:2: 질뮨: the column is missing" in wrong and wrong.endswith("Did you mean '질문'?")


def test_a_table_from_korean_excel_says_how_to_save_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes("질문,주제\n첫째 질문,요리\n".encode("cp949"))
    wrong = sentence(tmp_path, "columns", path, columns=("text=질문",), values=("expected=refuse",))
    assert "mine.csv: the file is not UTF-8 text" in wrong and "save it as 'CSV UTF-8'" in wrong


def test_two_columns_of_one_name_are_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("질문,질문\n첫째,둘째\n", encoding="utf-8")
    wrong = sentence(tmp_path, "columns", path, columns=("text=질문",), values=("expected=refuse",))
    assert wrong.endswith("mine.csv:1: 질문: two columns have this name.")


def test_a_column_with_several_names_says_all_of_them(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"question": "…", "category": "c"}])
    assert "forbidden_prompt (or prompt): the column is missing" in sentence(tmp_path, "strongreject", path)


def test_a_value_that_is_no_text_is_named_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"question": "a", "category": "c"}, {"question": {"ko": "a"}, "category": "c"}])
    assert "x.jsonl:2: question: must be text; it is of type dict." in sentence(tmp_path, "square", path)


def test_a_file_in_which_nothing_is_a_prompt_says_why(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [{**row, "prompt": " "} for row in XSTEST])
    assert "no row gave a prompt (12 rows, the text is empty)" in sentence(tmp_path, "xstest", path)


def test_an_unknown_set_brings_the_nearest(tmp_path: Path) -> None:
    assert "Did you mean 'xstest'?" in sentence(tmp_path, "xtest", "mine.csv")


def test_a_missing_file_brings_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "xstest_prompts.csv", XSTEST)
    assert "Did you mean 'xstest_prompts.csv'?" in sentence(tmp_path, "xstest", tmp_path / "xstest_prompt.csv")


def test_a_place_that_is_nothing_is_said(tmp_path: Path) -> None:
    assert "not a hub name" in sentence(tmp_path, "xstest", "a/b/c d")


def test_a_file_has_no_split(tmp_path: Path) -> None:
    assert "--split" in sentence(tmp_path, "xstest", write(tmp_path / "x.csv", XSTEST), split="train")


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", XSTEST)
    (tmp_path / "out.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(InvalidInput, match="there already"):
        load(tmp_path, "xstest", path)
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == "mine"


# -- data sets of `datasets`, from local folders -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with two parts, of which one has two splits."""
    path = tmp_path_factory.mktemp("hub")
    (path / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: main\n  default: true\n  data_files: [{split: train, path: all.csv}]\n"
        "- config_name: parts\n  data_files: [{split: one, path: all.csv}, {split: two, path: few.csv}]\n---\n",
        encoding="utf-8",
    )
    write(path / "all.csv", XSTEST)
    write(path / "few.csv", XSTEST[:2])
    return path


def test_a_folder_goes_through_datasets(tmp_path: Path, folder: Path) -> None:
    assert pairs(load(tmp_path, "xstest", folder)) == XSTEST_PAIRS


def test_subset_and_split_choose_a_part(tmp_path: Path, folder: Path) -> None:
    assert len(load(tmp_path, "xstest", folder, subset="parts", split="two").prompts) == 2
    (tmp_path / "out.jsonl").unlink()
    assert "the splits one, two" in sentence(tmp_path, "xstest", folder, subset="parts")
    assert "none-such" in sentence(tmp_path, "xstest", folder, subset="none-such")


def test_a_hub_set_that_is_not_here_is_said_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(NotAvailable, match="nobody/no-such-set"):
        load(tmp_path, "xstest", "nobody/no-such-set")


# -- the command -------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "import", *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def test_the_command_shows_counts_and_licence(tmp_path: Path) -> None:
    path, output = write(tmp_path / "xstest.csv", XSTEST), tmp_path / "out.jsonl"
    done = command("xstest", str(path), str(output), "--limit", "3")
    assert done.returncode == 0, done.stderr
    assert f"{output}: 8 prompts of 12 rows, " in done.stdout and "3 pairs" in done.stdout
    assert "expected: refuse 3, comply 5" in done.stdout and "licence: CC-BY-4.0" in done.stdout
    assert "its terms bind you" in done.stdout and "under `prompts` of a suite" in done.stdout


def test_the_command_ends_with_a_sentence_and_a_status(tmp_path: Path) -> None:
    done = command("xstest", str(tmp_path / "none.csv"), str(tmp_path / "out.jsonl"))
    assert done.returncode == InvalidInput.exit_status
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
