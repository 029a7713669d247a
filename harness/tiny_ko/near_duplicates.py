"""What the demonstration corpus must keep away from: the texts of the shipped prompt suites."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.contamination import PromptIndex
from harness.near_duplicates import NearDuplicates, jaccard, normalise, trigrams
from harness.suite import Contamination

__all__ = ["NearDuplicates", "SuitePrompts", "jaccard", "normalise", "suite_prompts", "trigrams"]
PROMPT_FOLDER = Path(__file__).parents[2] / "prompts"


def suite_prompts(folder: Path = PROMPT_FOLDER) -> list[str]:
    """The texts of all shipped prompt suites, which no corpus or training question may be near to."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line)["text"] for line in lines if line.strip()]


class SuitePrompts:
    """The suite prompts as something to keep away from, by the recipe's own measure and by the harness's check."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._near = NearDuplicates(texts)
        self._index = PromptIndex(texts, Contamination())

    def find(self, text: str) -> bool:
        """Say whether `text` is too near to one of the prompts."""
        return self._near.find(text) is not None or bool(self._index.matches(text))
