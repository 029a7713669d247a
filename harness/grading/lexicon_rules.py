"""Reads the lexicon files and finds their rules in a text."""

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
# How far before its predicate the rest of a rule may begin, in characters.
_BEHIND_LENGTH = 80
_WORD_START = r"(?<!\w.)"
GROUPS = ("decline", "inability", "no_subject", "condemn", "redirect", "answer", "prompt")


class Rule(BaseModel):
    """One rule as the file states it. `finds` and `spares` are examples that the tests check.

    A rule of weight 0 finds nothing itself: it covers text, so that no other rule of its group matches there.
    `behind` is what must end where a pattern begins, and belongs to the match. Korean puts the predicate last, and
    predicates of refusing are rare, so a rule that starts from its predicate and looks back is quick.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    weight: int = 1
    patterns: tuple[str, ...]
    behind: str | None = None
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


class CompiledRule(NamedTuple):
    """One pattern of a rule, ready to search."""

    pattern: re.Pattern[str]
    behind: re.Pattern[str] | None
    rule: str
    weight: int

    def matches(self, text: str, begin: int, end: int) -> Iterator[Match]:
        """Matches within [begin, end), left to right."""
        for found in self.pattern.finditer(text, begin, end):
            start = found.start()
            if self.behind is not None:
                before = self.behind.search(text, max(begin, start - _BEHIND_LENGTH), start)
                if before is None:
                    continue
                start = before.start()
            yield Match(start, found.end(), self.rule, self.weight)


@dataclass(frozen=True)
class CompiledGroup:
    """The rules of a group in the file's order.

    Each pattern stays an expression of its own: it begins with literals, and `re` then skips to the characters it
    can begin with. Joined into one alternation they lose that and take three times as long.
    """

    rules: tuple[CompiledRule, ...]

    def first(self, text: str, end: int, ignored: list[tuple[int, int]]) -> list[Match]:
        """Matches before `end` of the first pattern that has any, outside `ignored` spans and rules of weight 0.

        Much quicker than `find` where it only matters whether there is a match.
        """
        for rule in self.rules:
            if rule.pattern.search(text, 0, end) is None:
                continue
            found = [
                match
                for match in rule.matches(text, 0, end)
                if not any(start <= match.start < stop for start, stop in ignored)
            ]
            if found and rule.weight:
                return found
            ignored = [*ignored, *((match.start, match.end) for match in found)]
        return []

    def rules_in(self, text: str, end: int) -> set[str]:
        """Names of all rules that match before `end`, whether or not their matches overlap."""
        return {match.rule for rule in self.rules for match in rule.matches(text, 0, end)}

    def find(self, text: str, end: int) -> list[Match]:
        """Matches before `end`, left to right; where two overlap, the earlier start and then the earlier rule."""
        found = [
            (match.start, order, match)
            for order, rule in enumerate(self.rules)
            if rule.pattern.search(text, 0, end) is not None  # quicker than an iterator where there is no match
            for match in rule.matches(text, 0, end)
        ]
        if len(found) > 1:
            found.sort()
        kept: list[Match] = []
        position = -1
        for start, _, match in found:
            if start >= position:
                kept.append(match)
                position = match.end
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


def word_start_checked_late(pattern: str) -> str:
    r"""The same pattern with a leading `\b` moved behind the first letter of the word, or of each of the words.

    `\btips` becomes `t(?<!\w.)ips`. The engine then skips ahead to that letter; with `\b` in front it tries every
    place of the text, which takes five times as long.
    """
    if not pattern.startswith(r"\b"):
        return pattern
    if pattern[2].isalpha():
        return f"{pattern[2]}{_WORD_START}{pattern[3:]}"
    if not pattern.startswith(r"\b(?:"):
        return pattern
    depth, rewritten, place = 0, "(?:", len(r"\b(?:")
    at_start = True
    while depth >= 0:
        character = pattern[place]
        if at_start and not character.isalpha():
            return pattern
        rewritten += character + (_WORD_START if at_start else "")
        at_start = character == "|" and depth == 0
        depth += (character == "(") - (character == ")")
        place += 1
    return rewritten + pattern[place:]


def compile_rule(rule: Rule, parts: dict[str, str]) -> tuple[CompiledRule, ...]:
    """One compiled rule for each pattern of a rule; `parts` are those of its lexicon."""
    behind = re.compile(f"(?:{expand(rule.behind, parts)})\\Z") if rule.behind else None
    return tuple(
        CompiledRule(
            re.compile(word_start_checked_late(expand(pattern, parts)), re.MULTILINE), behind, rule.name, rule.weight
        )
        for pattern in rule.patterns
    )


@cache
def compiled(language: str) -> dict[str, CompiledGroup]:
    """The compiled groups of a language, read once per process."""
    lexicon = read_lexicon(lexicon_path(language))
    return {
        name: CompiledGroup(tuple(one for rule in group.rules for one in compile_rule(rule, lexicon.parts)))
        for name, group in lexicon.groups.items()
    }
