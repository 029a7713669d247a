"""What the demonstration corpus must keep away from: the texts of the shipped prompt suites."""

from __future__ import annotations

import json
from pathlib import Path

from harness.near_duplicates import NearDuplicates, jaccard, normalise, trigrams

__all__ = ["NearDuplicates", "jaccard", "normalise", "suite_prompts", "trigrams"]
PROMPT_FOLDER = Path(__file__).parents[2] / "prompts"


def suite_prompts(folder: Path = PROMPT_FOLDER) -> list[str]:
    """The texts of all shipped prompt suites, which no corpus or training question may be near to."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line)["text"] for line in lines if line.strip()]
