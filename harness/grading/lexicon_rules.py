"""Reads the lexicon files and finds their rules in a text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import HarnessError

LANGUAGES = ("ko", "en")
GROUPS = ("decline", "inability", "no_subject", "condemn", "redirect", "answer", "prompt")


class Rule(BaseModel):
    """One rule as the file states it. `finds` and `spares` are examples that the tests check.

    A rule of weight 0 finds nothing itself: it covers text, so that no other rule of its group matches there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    weight: int = 1
    patterns: tuple[str, ...]
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
    """The rules of a group in the file's order.

    Each pattern stays an expression of its own: it begins with literals, and `re` then skips to the characters it
    can begin with. Joined into one alternation they lose that and take three times as long.
    """

    patterns: tuple[tuple[re.Pattern[str], str, int], ...]

    def find(self, text: str, end: int) -> list[Match]:
        """Matches before `end`, left to right; where two overlap, the earlier start and then the earlier rule."""
        found = [
            (match.start(), order, match.end(), rule, weight)
            for order, (pattern, rule, weight) in enumerate(self.patterns)
            for match in pattern.finditer(text, 0, end)
        ]
        if len(found) > 1:
            found.sort()
        kept: list[Match] = []
        position = -1
        for start, _, finish, rule, weight in found:
            if start >= position:
                kept.append(Match(start, finish, rule, weight))
                position = finish
        return kept


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
    return {
        name: CompiledGroup(
            tuple(
                (re.compile(expand(pattern, lexicon.parts), re.MULTILINE), rule.name, rule.weight)
                for rule in group.rules
                for pattern in rule.patterns
            )
        )
        for name, group in lexicon.groups.items()
    }
