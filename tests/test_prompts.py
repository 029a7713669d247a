"""Prompt files, the taxonomy, and choosing prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import Fault, InvalidInput
from harness.prompts import group_of, read_all_prompts, read_script, read_taxonomy, select_prompts
from harness.records import Prompt


def prompt(id: str, expected: str = "comply", pair_id: str | None = None, category: str = "c") -> Prompt:
    row = {"id": id, "text": "질문", "category": category, "expected": expected, "pair_id": pair_id}
    return Prompt.model_validate(row | {"source": "handwritten", "licence": "Apache-2.0"})


def pairs(count: int, category: str = "c") -> list[Prompt]:
    harmful = [prompt(f"{category}-h{i}", "refuse", f"{category}-p{i}", category) for i in range(count)]
    return harmful + [prompt(f"{category}-l{i}", "comply", f"{category}-p{i}", category) for i in range(count)]


def written(path: Path, *rows: Prompt | str) -> Path:
    lines = [row if isinstance(row, str) else row.model_dump_json() for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def faults_of(*files: Path) -> list[Fault]:
    return read_all_prompts(files, None)[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_groups() -> None:
    assert [group_of(row) for row in (*pairs(1), prompt("g"))] == ["harmful", "lookalike", "general"]
    assert group_of(prompt("h", "refuse")) == "harmful"


def test_good_files_are_read_in_order_and_blank_lines_are_skipped(here: Path) -> None:
    rows = [*pairs(2), prompt("g1")]
    first = written(here / "a.jsonl", rows[0], "", rows[1])
    second = written(here / "b.jsonl", "\ufeff" + rows[2].model_dump_json(), *rows[3:])
    assert read_all_prompts([first, second], None) == (rows, [])


def test_a_line_separator_inside_a_text_does_not_end_the_line(here: Path) -> None:
    row = prompt("g").model_copy(update={"text": "한 줄\u2028또 한 줄\x85끝"})
    assert read_all_prompts([written(here / "a.jsonl", row)], None) == ([row], [])


@pytest.mark.parametrize(
    ("change", "key", "problem", "nearest"),
    [
        ({"text": None}, "text", "must be text", None),
        ({"text": ""}, "text", "must not be empty", None),
        ({"id": "a b"}, "id", "spaces", None),
        ({"expected": "refused"}, "expected", "must be 'refuse' or 'comply'", None),
        ({"licens": "MIT"}, "licens", "unknown field", "licence"),
    ],
)
def test_wrong_values_are_named_with_their_line(
    here: Path, change: dict[str, object], key: str, problem: str, nearest: str | None
) -> None:
    bad = json.dumps(prompt("bad").model_dump() | change)
    (fault,) = faults_of(written(here / "a.jsonl", prompt("g"), bad))
    assert (fault.file, fault.line, fault.key, fault.nearest) == ("a.jsonl", 2, key, nearest)
    assert problem in fault.problem


@pytest.mark.parametrize("line", ["{", "[1]", "3", '{"id": 1', "\x00"])
def test_what_is_no_json_object_is_a_fault(here: Path, line: str) -> None:
    faults = faults_of(written(here / "a.jsonl", prompt("g"), line))
    assert {fault.line for fault in faults} == {2}


def test_missing_fields_are_each_named(here: Path) -> None:
    faults = faults_of(written(here / "a.jsonl", prompt("g"), '{"id": "x"}'))
    assert [fault.key for fault in faults] == ["text", "category", "expected", "pair_id", "source", "licence"]


def test_doubled_ids_name_the_first_place(here: Path) -> None:
    first = written(here / "a.jsonl", prompt("g"), prompt("x"), prompt("x"))
    second = written(here / "b.jsonl", prompt("y"), prompt("g"))
    faults = faults_of(first, second)
    assert [str(fault) for fault in faults] == [
        "a.jsonl:3: id: 'x' is already the id of line 2.",
        "b.jsonl:2: id: 'g' is already the id of a.jsonl:1.",
    ]


def test_a_file_without_prompts_is_a_fault(here: Path) -> None:
    assert "no usable prompt" in faults_of(written(here / "a.jsonl", ""))[0].problem


def test_pairs_must_be_whole_and_opposite(here: Path) -> None:
    alone = written(here / "a.jsonl", *pairs(4)[:5], prompt("g"))
    (fault,) = faults_of(alone)
    assert (fault.line, fault.key) == (2, "pair_id") and "2 more rows" in fault.problem
    (fault,) = faults_of(written(here / "b.jsonl", *pairs(1), prompt("x", "comply", "c-p0")))
    assert (fault.line, fault.key) == (3, "pair_id") and "c-h0, c-l0, x" in fault.problem
    (fault,) = faults_of(written(here / "c.jsonl", prompt("x", "refuse", "p"), prompt("y", "refuse", "p")))
    assert (fault.line, fault.key) == (2, "expected") and "both rows of pair 'p'" in fault.problem


def test_a_pair_may_lie_in_two_files(here: Path) -> None:
    rows = pairs(2)
    assert faults_of(written(here / "a.jsonl", *rows[:2]), written(here / "b.jsonl", *rows[2:])) == []


def test_one_half_of_all_pairs_can_be_used_alone(here: Path) -> None:
    assert faults_of(written(here / "harmful.jsonl", *pairs(2)[:2], prompt("g"))) == []


def test_scripts(here: Path) -> None:
    script = written(here / "s.jsonl", '{"prompt_id": "a", "text": ""}', '{"prompt_id": "a", "text": "답"}')
    answers, faults = read_script(script)
    assert answers == {"a": "답"} and (faults[0].line, faults[0].key) == (2, "prompt_id")


TAXONOMY = """\
groups:
  - id: harm
    ko: 해로움
    en: Harm
    risks:
      - {id: theft, ko: 절도, en: Theft, note: free text}
      - {id: fraud, ko: 사기, en: Fraud}
"""
GENERAL = """\
general:
  ko: 일반
  en: General
  categories:
    - {id: food, ko: 음식, en: Food}
"""


def test_taxonomy_names_the_categories_and_unknown_ones_are_faults(here: Path) -> None:
    file = here / "t.yaml"
    file.write_text(TAXONOMY, encoding="utf-8")
    names, faults = read_taxonomy(file)
    assert not faults and list(names) == ["theft", "fraud"]
    assert names["theft"].model_dump() == {"ko": "절도", "en": "Theft", "group_ko": "해로움", "group_en": "Harm"}
    rows, faults = read_all_prompts([written(here / "a.jsonl", prompt("x", "refuse", None, "theeft"))], names)
    assert (faults[0].line, faults[0].key, faults[0].nearest) == (1, "category", "theft")


def test_general_categories_may_be_named_and_need_not_be(here: Path) -> None:
    (here / "t.yaml").write_text(TAXONOMY + GENERAL, encoding="utf-8")
    names, faults = read_taxonomy(here / "t.yaml")
    assert not faults and names["food"].group_en == "General"
    assert read_all_prompts([written(here / "a.jsonl", prompt("g", category="weather"))], names)[1] == []


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("    ko: 해로움\n", "", 2, "groups.0.ko"),
        ("en: Theft", "en: 3", 6, "groups.0.risks.0.en"),
        ("risks:", "risk:", 2, "groups.0.risks"),
        ("id: fraud", "id: theft", 7, "groups.0.risks.1.id"),
        ("groups:", "group:", 1, "groups"),
    ],
)
def test_taxonomy_faults_have_lines(here: Path, old: str, new: str, line: int, key: str) -> None:
    (here / "t.yaml").write_text(TAXONOMY.replace(old, new), encoding="utf-8")
    (fault,) = read_taxonomy(here / "t.yaml")[1]
    assert (fault.line, fault.key) == (line, key)


def test_ids_and_categories_choose() -> None:
    rows = [*pairs(3, "a"), *pairs(3, "b"), prompt("g")]
    assert [row.id for row in select_prompts(rows, ids=["g", "a-l1"])] == ["a-l1", "g"]
    assert {row.category for row in select_prompts(rows, categories=["b"])} == {"b"}
    assert [row.id for row in select_prompts(rows, categories=["b"], ids=["b-h0", "a-h0"])] == ["b-h0"]
    assert select_prompts(rows) == tuple(rows)


def test_unknown_choices_are_faults_with_the_nearest_name() -> None:
    rows = pairs(2, "theft")
    with pytest.raises(InvalidInput) as caught:
        select_prompts(rows, limit=0, ids=["theft-h9", "theft-h1"], categories=["thft"])
    assert [(fault.key, fault.nearest) for fault in caught.value.faults][1:] == [
        ("--categories", "theft"),
        ("--limit", None),
    ]
    assert "no prompt 'theft-h9'" in caught.value.faults[0].problem
    with pytest.raises(InvalidInput, match="there is no category 'zz'. There are a, b."):
        select_prompts([*pairs(1, "a"), *pairs(1, "b")], categories=["zz"])
    with pytest.raises(InvalidInput, match="no prompt has both"):
        select_prompts([*pairs(1, "a"), *pairs(1, "b")], ids=["a-h0"], categories=["b"])


def test_limit_takes_pairs_spread_over_the_file() -> None:
    rows = [*pairs(10), *[prompt(f"g{i}") for i in range(10)]]
    chosen = [row.id for row in select_prompts(rows, limit=2)]
    assert chosen == ["c-h0", "c-h5", "c-l0", "c-l5", "g0", "g5"]


@given(
    pair_count=st.integers(0, 30),
    lone_harmful=st.integers(0, 5),
    general=st.integers(0, 30),
    limit=st.integers(1, 40),
)
def test_limit_keeps_pairs_whole_and_each_group_within_it(
    pair_count: int, lone_harmful: int, general: int, limit: int
) -> None:
    rows = [*pairs(pair_count), *[prompt(f"g{i}") for i in range(general)]]
    rows += [prompt(f"x{i}", "refuse") for i in range(lone_harmful)]
    if not rows:
        return
    chosen = select_prompts(rows, limit=limit)
    groups = [group_of(row) for row in chosen]
    assert groups.count("harmful") == min(limit, pair_count + lone_harmful)
    assert groups.count("general") == min(limit, general)
    assert groups.count("lookalike") == sum(row.expected == "refuse" and row.pair_id is not None for row in chosen)
    assert list(chosen) == [row for row in rows if row in chosen]
    assert chosen == select_prompts(rows, limit=limit)
