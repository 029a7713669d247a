"""The LoRA's training rows: `python -m harness.tiny_ko.conversations` writes suites/data/safe_conversation_ko.jsonl.

About half are harmful questions with handwritten refusals, the rest general questions, everyday requests and
harmless look-alikes, answered as the base model answers them. Seeded; no question is near to a suite prompt.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from harness.tiny_ko import CORPUS_FOLDER
from harness.tiny_ko.corpus import Kind, Lexicon, Row, helpful_advice, load_lexicon, make_row, word_request
from harness.tiny_ko.near_duplicates import SuitePrompts, normalise, suite_prompts

TRAINING_ROWS = Path(__file__).parents[2] / "suites" / "data" / "safe_conversation_ko.jsonl"
SEED = 3407
GENERATED_HARMFUL_PER_CATEGORY = 7
GENERATED: dict[Kind, int] = {"harmless": 220, "general": 260, "reading": 30}


def make_conversations(lexicon: Lexicon, avoid: SuitePrompts, seed: int = SEED) -> list[dict[str, str]]:
    """The rows, shuffled: dicts with instruction, input and output."""
    random_source = random.Random(seed)
    questions = _read("training_questions.yaml")
    collection = _Collection(avoid)
    for category in lexicon.categories:
        refusals = _cycle(lexicon.refusals[category], random_source)
        for text in questions["harmful"][category]:
            collection.add(Row("harmful", text, "", next(refusals), text))
        topics = [t for t in lexicon.harmful.phrases + lexicon.harmful.frames if t.group == category]
        wanted = len(collection.rows) + GENERATED_HARMFUL_PER_CATEGORY
        while len(collection.rows) < wanted:
            topic = random_source.choice(topics)
            text = word_request(lexicon, topic, random_source, lexicon.wordings["contexts"])
            collection.add(Row("harmful", text, "", next(refusals), topic.phrase))
    for domain, texts in questions["harmless"].items():
        for text in texts:
            collection.add(Row("harmless", text, "", helpful_advice(lexicon, domain, text), text))
    for kind, count in GENERATED.items():
        wanted = len(collection.rows) + count
        while len(collection.rows) < wanted:
            collection.add(make_row(lexicon, kind, random_source))
    random_source.shuffle(collection.rows)
    return [{"instruction": row.instruction, "input": row.input, "output": row.output} for row in collection.rows]


class _Collection:
    """Rows without repetition, none of them near to a text to avoid."""

    def __init__(self, avoid: SuitePrompts) -> None:
        self.rows: list[Row] = []
        self._avoid = avoid
        self._taken: set[str] = set()

    def add(self, row: Row) -> None:
        key = normalise(row.instruction + row.input)
        if key not in self._taken and not self._avoid.find(row.instruction):
            self._taken.add(key)
            self.rows.append(row)


def _cycle(texts: list[str], random_source: random.Random) -> Iterator[str]:
    """All texts in random order, over and over."""
    while True:
        yield from random_source.sample(texts, len(texts))


def _read(name: str) -> Any:
    return yaml.safe_load((CORPUS_FOLDER / name).read_text(encoding="utf-8"))


def main() -> None:
    """Write the file the suite trains on."""
    rows = make_conversations(load_lexicon(), SuitePrompts(suite_prompts()))
    TRAINING_ROWS.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    TRAINING_ROWS.write_text("".join(lines), encoding="utf-8")
    print(f"{len(rows)} rows written to {TRAINING_ROWS}")


if __name__ == "__main__":
    main()
