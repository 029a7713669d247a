"""How many prompts the contamination check hits by chance, and how fast it is: `python -m tests.contamination_rates`.

Texts of the same kind that were not made from the prompts stand in for training rows: the different questions and
answers of `ROWS` rows of tiny-ko's recipe, drawn without the recipe's own filter against the prompts. At the end the
check is timed on as many rows.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.contamination import Match, PromptIndex, find_overlaps
from harness.records import OverlapKind, Prompt
from harness.suite import Contamination
from harness.suite_file import load_suite
from harness.tiny_ko.corpus import Row, load_lexicon, make_rows
from harness.tiny_ko.recipe import Recipe

SUITE = Path(__file__).parents[1] / "suites/safety_ko.yaml"
ROWS = 100_000
NGRAMS = (8, 10, 11, 12, 13, 15)
THRESHOLDS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
SHOWN = 12
LONG_OUTPUT = 400
"""Characters."""


def different_texts(rows: Iterable[Row]) -> list[str]:
    """Return the different questions and answers, in the order they were drawn."""
    return list(dict.fromkeys(text for row in rows for text in (row.instruction, row.output)))


def hits(prompts: Sequence[Prompt], texts: Iterable[str], settings: Contamination) -> Iterator[tuple[int, str, Match]]:
    """Yield every prompt's position with a text that overlaps with it, and how."""
    index = PromptIndex([prompt.text for prompt in prompts], settings)
    for text in texts:
        for position, match in index.matches(text).items():
            yield position, text, match


def counted(found: Iterable[tuple[int, str, Match]], kinds: set[OverlapKind]) -> tuple[int, int]:
    """Return how many prompts were hit in one of these ways, and how many texts hit one."""
    chosen = [(position, text) for position, text, match in found if match.kind in kinds]
    return len({position for position, _ in chosen}), len({text for _, text in chosen})


def twins(prompts: Sequence[Prompt]) -> dict[str, list[tuple[str, str]]]:
    """Return kind of overlap -> pairs of prompts that overlap with each other at the defaults, each pair once."""
    found = defaultdict(list)
    seen = set()
    number = {prompt.text: position for position, prompt in enumerate(prompts)}
    for position, text, match in hits(prompts, number, Contamination()):
        pair = frozenset((position, number[text]))
        if len(pair) == 2 and pair not in seen:
            seen.add(pair)
            same = prompts[position].pair_id is not None and len({prompts[one].pair_id for one in pair}) == 1
            found[f"{match.kind}, {'twins' if same else 'NOT twins'}"].append((prompts[position].text, text))
    return found


def with_long_outputs(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows with outputs of `LONG_OUTPUT` characters, all different, put together from other rows' answers."""
    draw = random.Random(0)
    for row in rows:
        output = row.output
        while len(output) < LONG_OUTPUT:
            output += f" {draw.choice(rows).output}"
        yield replace(row, output=output[:LONG_OUTPUT])


def main() -> None:
    """Print the figures of docs/contamination.md."""
    prompts, rows = load_suite(SUITE).prompts, list(make_rows(load_lexicon(), ROWS, Recipe().seed))
    texts = different_texts(rows)
    print(f"{len(prompts)} prompts; among themselves:", {kind: len(pairs) for kind, pairs in twins(prompts).items()})
    print(f"{len(texts):,} texts")
    print("| `ngram` | prompts | texts | | `threshold` | prompts | texts |\n|---:|---:|---:|---|---:|---:|---:|")
    for ngram, threshold in zip(NGRAMS, THRESHOLDS, strict=True):
        runs = counted(hits(prompts, texts, Contamination(ngram=ngram)), {"ngram"})
        near = counted(hits(prompts, texts, Contamination(threshold=threshold)), {"near_duplicate", "exact"})
        print(f"| {ngram} | {runs[0]} | {runs[1]} | | {threshold:.2f} | {near[0]} | {near[1]} |", flush=True)
    ordered = sorted(hits(prompts, texts, Contamination()), key=lambda one: one[2].order)
    for position, text, match in ordered[:SHOWN]:
        print(f"{match.kind} {match.score:.2f}: {prompts[position].text} / {text}")
    for name, timed in (("as they are", iter(rows)), (f"outputs of {LONG_OUTPUT} characters", with_long_outputs(rows))):
        taken = list(timed)
        start = time.process_time()
        find_overlaps("rows", taken, prompts, Contamination())
        print(f"{len(taken):,} rows, {name}: {time.process_time() - start:.1f} s of one core")


if __name__ == "__main__":
    main()
