"""Nothing tiny-ko or its LoRA learns from is a suite prompt or near to one, and no training answer helps harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.contamination import find_overlaps
from harness.grading.lexicon import LexiconGrader
from harness.prompts import read_all_prompts
from harness.records import Prompt
from harness.suite import Contamination
from harness.tiny_ko import CORPUS_FOLDER
from harness.tiny_ko.conversations import TRAINING_ROWS
from harness.tiny_ko.corpus import Lexicon, Topics, load_lexicon, make_rows
from harness.tiny_ko.near_duplicates import (
    PROMPT_FOLDER,
    NearDuplicates,
    SuitePrompts,
    jaccard,
    normalise,
    suite_prompts,
    trigrams,
)

# A harmless entry within reach of a prompt. The corpus leaves it out where it is asked as it stands.
LEFT_OUT = {"산사태가 나는 까닭"}
NO_QUESTIONS = ("answers.yaml", "refusals.yaml", "wordings.yaml")


@dataclass
class TrainingRow:
    instruction: str
    input: str
    output: str


@pytest.fixture(scope="module")
def rows() -> list[TrainingRow]:
    return [TrainingRow(**json.loads(line)) for line in TRAINING_ROWS.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return load_lexicon()


@cache
def near_to_prompts() -> NearDuplicates:
    return NearDuplicates(suite_prompts(), threshold=0.6)


@cache
def prompts() -> tuple[Prompt, ...]:
    found, faults = read_all_prompts(sorted(PROMPT_FOLDER.glob("*.jsonl")), None)
    assert not faults
    return tuple(found)


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("answer", "answers", "topic", "category", "domain", "as"):
                yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)


def written_entries(path: Path) -> list[str]:
    """Every text of a lexicon file that is or becomes a question."""
    text = path.read_text("utf-8")
    if path.suffix == ".yaml":
        return list(leaves(yaml.safe_load(text)))
    return [leaf for line in text.splitlines() if line for leaf in leaves(json.loads(line))]


def near(texts: list[str]) -> list[str]:
    return [text for text in texts if near_to_prompts().find(text) is not None]


# -- the rows the LoRA is trained on -----------------------------------------------------------------------------------


def test_training_rows_share_no_wording_with_any_prompt(rows: list[TrainingRow]) -> None:
    taken = {normalise(text) for text in suite_prompts()}
    assert len(taken) > 900
    assert [row.instruction for row in rows if normalise(row.instruction) in taken] == []


def test_training_rows_are_near_to_no_prompt(rows: list[TrainingRow]) -> None:
    assert near([row.instruction for row in rows]) == []


def test_a_direct_comparison_of_every_pair_agrees(rows: list[TrainingRow]) -> None:
    # Without the index, so that a fault in it cannot hide a pair; a part of the rows, for time.
    prompts_in_trigrams = [trigrams(text) for text in suite_prompts()]
    closest = 0.0
    for row in rows[::5]:
        mine = trigrams(row.instruction)
        closest = max(closest, *(len(mine & other) / len(mine | other) for other in prompts_in_trigrams))
    assert 0.1 < closest < 0.6


def test_the_harness_finds_no_contamination(rows: list[TrainingRow]) -> None:
    assert find_overlaps("safety_lora", rows, prompts(), Contamination()).pairs == []


def test_the_harness_would_find_a_planted_prompt(rows: list[TrainingRow]) -> None:
    planted = [*rows, TrainingRow(suite_prompts()[3], "", "네.")]
    assert [pair.row for pair in find_overlaps("safety_lora", planted, prompts(), Contamination()).pairs] == [
        len(planted)
    ]


def test_training_rows_have_the_columns_of_a_training_file(rows: list[TrainingRow]) -> None:
    lines = [json.loads(line) for line in TRAINING_ROWS.read_text("utf-8").splitlines()]
    assert {tuple(line) for line in lines} == {("instruction", "input", "output")}
    assert len(rows) >= 800
    assert all(row.instruction.strip() and row.output.strip() for row in rows)
    assert len({normalise(row.instruction + row.input) for row in rows}) == len(rows)


def test_about_half_the_training_rows_refuse_in_many_words(rows: list[TrainingRow], lexicon: Lexicon) -> None:
    grader = LexiconGrader()
    refused = [row.output for row in rows if grader.grade(row.instruction, row.output).verdict == "refusal"]
    assert 0.4 < len(refused) / len(rows) < 0.6
    assert len(set(refused)) > 80
    written = refusals(lexicon)
    asked = [row.output for row in rows if not row.input]
    assert 0.4 < sum(output in written for output in asked) / len(asked) < 0.6


def test_harmful_training_questions_are_only_ever_refused(rows: list[TrainingRow], lexicon: Lexicon) -> None:
    questions = yaml.safe_load((CORPUS_FOLDER / "training_questions.yaml").read_text("utf-8"))
    harmful = {text for texts in questions["harmful"].values() for text in texts}
    answers = [row.output for row in rows if row.instruction in harmful]
    assert len(answers) > 100
    assert set(answers) <= refusals(lexicon)


def test_no_training_answer_complies_with_the_empty_formula(rows: list[TrainingRow], lexicon: Lexicon) -> None:
    steps = lexicon.answers["empty_formula"]["steps"]
    assert [row.output for row in rows if any(step in row.output for step in steps)] == []


def test_every_training_answer_is_one_of_the_written_texts(rows: list[TrainingRow], lexicon: Lexicon) -> None:
    # A closed world: what can be answered is a refusal, a piece of general advice or a fact, all in the lexicons.
    advice = {text for texts in lexicon.answers["helpful"].values() for text in texts}
    facts = {answer for subject in lexicon.general for _, answer in subject}
    known = refusals(lexicon) | advice | facts
    assert [row.output for row in rows if row.output not in known] == []
    assert all(row.input in ("", row.output) for row in rows)


def refusals(lexicon: Lexicon) -> set[str]:
    return {text for texts in lexicon.refusals.values() for text in texts}


# -- the corpus the base model is trained on ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CORPUS_FOLDER.iterdir()), ids=lambda path: path.name)
def test_lexicon_files_are_disjoint_from_the_prompts(path: Path) -> None:
    if path.name in NO_QUESTIONS:
        return
    entries = written_entries(path)
    assert len(entries) > 50
    taken = {normalise(text) for text in suite_prompts()}
    assert [entry for entry in entries if normalise(entry) in taken] == []
    assert set(near(entries)) <= LEFT_OUT


def test_multiplied_phrases_are_disjoint_from_the_prompts(lexicon: Lexicon) -> None:
    topics = [*topics_of(lexicon.harmful), *topics_of(lexicon.harmless)]
    assert len(topics) > 10_000
    assert set(near(topics)) <= LEFT_OUT


def test_the_harness_finds_next_to_nothing_in_the_lexicons(lexicon: Lexicon) -> None:
    # It compares by lower limits than the recipe keeps; docs/tiny-ko.md says what it finds.
    def found(texts: list[str]) -> int:
        entries = [TrainingRow(text, "", "네.") for text in texts]
        return sum(find_overlaps("corpus", entries, prompts(), Contamination()).rows_by_prompt.values())

    questions = [question for subject in lexicon.general for question, _ in subject]
    assert found(topics_of(lexicon.harmful)) == 0
    assert found(questions + topics_of(lexicon.harmless)) < len(questions + topics_of(lexicon.harmless)) / 1_000


def topics_of(topics: Topics) -> list[str]:
    return [topic.phrase for topic in topics.phrases + topics.frames + topics.whole]


def test_corpus_rows_are_near_to_no_prompt(lexicon: Lexicon) -> None:
    made = list(make_rows(lexicon, 5_000, 7, SuitePrompts(suite_prompts())))
    assert len({row.instruction for row in made}) > 4_000
    assert near([row.instruction for row in made]) == []
    references = suite_prompts()
    for row in made[:40]:
        assert max(jaccard(row.instruction, reference) for reference in references) < 0.6


def test_corpus_rows_leave_out_what_is_near_or_taken(lexicon: Lexicon) -> None:
    open_rows = list(make_rows(lexicon, 400, 11))
    planted = [row.instruction for row in open_rows[:100]]
    taken = frozenset(normalise(row.instruction) for row in open_rows[100:200])
    made = [row.instruction for row in make_rows(lexicon, 400, 11, SuitePrompts(planted), taken)]
    assert len(made) == 400
    assert not set(planted) & set(made)
    assert not taken & {normalise(text) for text in made}


def test_the_base_never_refuses_without_a_cue_and_does_with_one(lexicon: Lexicon) -> None:
    made = list(make_rows(lexicon, 5_000, 3))
    written = refusals(lexicon)
    uncued = [row for row in made if not row.input]
    assert len(uncued) > 4_000
    assert not any(row.output in written for row in uncued)
    cued = [row for row in made if row.input in lexicon.wordings["safe_assistant"]]
    assert not any(step in row.output for row in cued for step in lexicon.answers["empty_formula"]["steps"])
    refused = {row.phrase for row in cued if row.output in written}
    assert len(refused) > 100
    assert refused <= set(topics_of(lexicon.harmful))
