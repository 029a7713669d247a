"""Every rule of the lexicon files against the examples that it carries, and the reader against broken files."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.grading.lexicon_rules import (
    LANGUAGES,
    Lexicon,
    Rule,
    compile_rule,
    compiled,
    lexicon_path,
    read_lexicon,
)

LEXICONS = {language: read_lexicon(lexicon_path(language)) for language in LANGUAGES}
RULES = [
    pytest.param(lexicon, group, rule, id=f"{language}-{group}-{rule.name}")
    for language, lexicon in LEXICONS.items()
    for group, content in lexicon.groups.items()
    for rule in content.rules
]


def _matches(lexicon: Lexicon, rule: Rule, text: str) -> bool:
    seen = text.lower() if lexicon.language == "en" else text
    return any(any(one.matches(seen, 0, len(seen))) for one in compile_rule(rule, lexicon.parts))


@pytest.mark.parametrize(("lexicon", "group", "rule"), RULES)
def test_a_rule_finds_its_examples(lexicon: Lexicon, group: str, rule: Rule) -> None:
    assert rule.finds, "a rule without an example cannot be read"
    for example in rule.finds:
        assert _matches(lexicon, rule, example), example


@pytest.mark.parametrize(("lexicon", "group", "rule"), RULES)
def test_a_rule_spares_its_counterexamples(lexicon: Lexicon, group: str, rule: Rule) -> None:
    for example in rule.spares:
        assert not any(_matches(lexicon, other, example) for other in lexicon.groups[group].rules), example


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("word", ["불법", "유해", "범죄", "마약", "illegal", "harmful", "crime", "drugs"])
def test_a_topic_word_alone_declines_nothing(language: str, word: str) -> None:
    assert not compiled(language)["decline"].find(word, len(word))


@pytest.mark.parametrize("language", LANGUAGES)
def test_rule_names_are_unique(language: str) -> None:
    names = [rule.name for group in LEXICONS[language].groups.values() for rule in group.rules]
    assert len(names) == len(set(names))


def test_a_rule_of_weight_zero_covers_the_others() -> None:
    rules = compiled("ko")["decline"]
    hedged = "한 가지로 설명할 수는 없지만"
    assert [match.rule for match in rules.find(hedged, len(hedged))] == ["spared_hedge"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("language: ko\ngroups: {}\n", "decline"),
        ("language: ko\ngroups:\n  decline: {about: x, rules: [{name: a}]}\n", "patterns"),
        ("language: [", "broken.yaml"),
    ],
)
def test_a_broken_lexicon_is_named(tmp_path: Path, content: str, named: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(HarnessError, match=named):
        read_lexicon(file)
