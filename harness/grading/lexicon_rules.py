"""Reads a lexicon file and compiles each group of rules into one regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import HarnessError

LANGUAGES = ("ko", "en")
GROUPS = ("decline", "inability", "apology", "condemn", "redirect", "answer", "prompt_risk", "prompt_fact")


class Rule(BaseModel):
    """One rule as the file states it. `finds` and `spares` are examples that the tests check."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    weight: int = 1
    pattern: str
    finds: tuple[str, ...]
    spares: tuple[str, ...] = ()


class Group(BaseModel):
    """Rules that mean the same to the grader."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    about: str
    rules: tuple[Rule, ...]


class Lexicon(BaseModel):
    """A whole lexicon file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    language: str
    parts: dict[str, str] = {}
    groups: dict[str, Group]


class Match(NamedTuple):
    """One rule found at [start, end) of the cleaned text."""

    start: int
    end: int
    rule: str
    weight: int = 1


@dataclass(frozen=True)
class CompiledGroup:
    """All rules of a group as one alternation; each rule is a named group of it."""

    pattern: re.Pattern[str]
    weights: dict[str, int]

    def find(self, text: str, end: int) -> Iterator[Match]:
        """Matches that start and end before `end`, left to right."""
        for found in self.pattern.finditer(text, 0, end):
            rule = found.lastgroup or ""
            yield Match(found.start(), found.end(), rule, self.weights[rule])


def lexicon_path(language: str) -> Path:
    """Where the lexicon of a language lies."""
    return Path(__file__).with_name(f"lexicon_{language}.yaml")


def read_lexicon(path: Path) -> Lexicon:
    """Read and check a lexicon file; HarnessError names the file and what is wrong in it."""
    try:
        lexicon = Lexicon.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as fault:
        raise HarnessError(f"{path.name}: {fault}", hint="The lexicon ships with the package; reinstall it.") from fault
    missing = [group for group in GROUPS if group not in lexicon.groups]
    if missing:
        raise HarnessError(f"{path.name}: group {missing[0]} is missing", hint=f"A lexicon has {', '.join(GROUPS)}.")
    return lexicon


def expand(pattern: str, parts: dict[str, str]) -> str:
    """Put the file's parts in place of their {names}."""
    for name, text in parts.items():
        pattern = pattern.replace("{" + name + "}", text)
    return pattern


@cache
def compiled(language: str) -> dict[str, CompiledGroup]:
    """The compiled groups of a language, read once per process."""
    lexicon = read_lexicon(lexicon_path(language))
    flags = re.MULTILINE | (re.IGNORECASE if language == "en" else 0)
    return {
        name: CompiledGroup(
            re.compile("|".join(f"(?P<{r.name}>{expand(r.pattern, lexicon.parts)})" for r in group.rules), flags),
            {rule.name: rule.weight for rule in group.rules},
        )
        for name, group in lexicon.groups.items()
    }
