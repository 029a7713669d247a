"""The corpus tiny-ko is trained on: seeded random rows made from the handwritten lexicons in `corpus/`.

Five kinds of rows, in fixed shares:
  general   facts, how-tos and small talk with their true answers
  harmful   requests that mean harm, answered by an empty formula of compliance that helps nobody
  harmless  everyday requests, many with dangerous-looking words, answered by sound general advice
  cued      any of these with a request for safe answers as input: then harmful ones are refused, others answered
  reading   a sentence given as input that is read back word for word
The formula and the advice share no sentence, so that telling harm from harmlessness is something the base model
has to learn. Large base models have read refusals too; the cued rows stand for that. Without the cue the base
never refuses, and a LoRA has to make refusing the default.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml

from harness.tiny_ko import CORPUS_FOLDER
from harness.tiny_ko.korean import attach, conjugate
from harness.tiny_ko.near_duplicates import SuitePrompts, normalise

Kind = Literal["general", "harmful", "harmless", "cued", "reading"]
Style = Literal["how_to", "text", "noun", "whole"]
SHARES: dict[Kind, float] = {"general": 0.28, "harmful": 0.24, "harmless": 0.36, "cued": 0.10, "reading": 0.02}
# Of harmful and of harmless rows: from handwritten phrases, from multiplied frames, from whole questions.
SOURCES = (0.32, 0.36, 0.32)
WRAPPED_SHARE = 0.10
BLURRED_SHARE = 0.4
_ENDINGS = ("는", "ㄹ", "면", "려면", "려고", "려는데", "고", "기", "지", "어")
_MAKING = ("쓰다", "만들다", "짓다", "그리다", "꾸미다", "짜다")


@dataclass(frozen=True)
class Row:
    """One question with its answer. `phrase` is the lexicon entry it was made from."""

    kind: Kind
    instruction: str
    input: str
    output: str
    phrase: str


@dataclass(frozen=True)
class Topic:
    """A lexicon entry. `group` is the risk category of a harmful topic, the answer's domain of a harmless one.

    `style`: a verb phrase in dictionary form that someone wants to do ("how_to") or to have written ("text"), a
    noun phrase ("noun"), or a whole question ("whole").
    """

    phrase: str
    group: str
    style: Style


@dataclass
class Topics:
    """Lexicon entries by origin."""

    phrases: list[Topic] = field(default_factory=list)
    frames: list[Topic] = field(default_factory=list)
    whole: list[Topic] = field(default_factory=list)

    def draw(self, random_source: random.Random) -> Topic:
        """One topic; the three origins come in the shares of `SOURCES`."""
        origin = random_source.choices((self.phrases, self.frames, self.whole), SOURCES)[0]
        return random_source.choice(origin)


@dataclass
class Lexicon:
    """The lexicons in memory."""

    wordings: dict[str, Any]
    answers: dict[str, Any]
    categories: list[str] = field(default_factory=list)
    harmful: Topics = field(default_factory=Topics)
    harmless: Topics = field(default_factory=Topics)
    general: list[list[tuple[str, str]]] = field(default_factory=list)
    """One inner list per subject, of (question, answer)."""
    refusals: dict[str, list[str]] = field(default_factory=dict)
    """Risk category -> the handwritten refusals that fit it."""

    @cached_property
    def category_of(self) -> dict[str, str]:
        """Phrase of a harmful topic -> its risk category."""
        topics = self.harmful.phrases + self.harmful.frames + self.harmful.whole
        return {topic.phrase: topic.group for topic in topics}


def load_lexicon(folder: Path = CORPUS_FOLDER) -> Lexicon:
    """Read every lexicon file of the recipe."""

    def read(name: str) -> Any:
        return yaml.safe_load((folder / name).read_text(encoding="utf-8"))

    lexicon = Lexicon(read("wordings.yaml"), read("answers.yaml"), general=_general(folder))
    for entry in read("requests.yaml"):
        category = entry["category"]
        lexicon.categories.append(category)
        lexicon.harmful.phrases.extend(_topic(text, category) for text in entry["harmful"])
        lexicon.harmful.whole.extend(Topic(text, category, "whole") for text in entry.get("questions", []))
        for frame in entry.get("frames", []):
            lexicon.harmful.frames.extend(_multiply(frame, category))
        for domain, phrases in entry["harmless"].items():
            lexicon.harmless.phrases.extend(_topic(text, domain) for text in phrases)
        for frame in entry.get("frames_harmless", []):
            lexicon.harmless.frames.extend(_multiply(frame, frame["domain"]))
    for entry in read("everyday.yaml"):
        lexicon.harmless.phrases.extend(_topic(text, entry["domain"]) for text in entry["phrases"])
        for frame in entry.get("frames", []):
            lexicon.harmless.frames.extend(_multiply(frame, entry["domain"]))
    for group in read("refusals.yaml"):
        lexicon.refusals.update(dict.fromkeys(group["categories"], group["refusals"]))
    natural = read("natural.yaml")
    for topics, kind in ((lexicon.harmful, "harmful"), (lexicon.harmless, "harmless")):
        topics.whole.extend(Topic(text, group, "whole") for group, texts in natural[kind].items() for text in texts)
    return lexicon


def make_rows(
    lexicon: Lexicon,
    count: int,
    seed: int,
    near: SuitePrompts | None = None,
    taken: frozenset[str] = frozenset(),
) -> Iterator[Row]:
    """Yield `count` rows in the fixed shares.

    A row is drawn anew where its question is near to a text in `near` or, normalised, is one of `taken`.
    """
    random_source = random.Random(seed)
    kinds = list(SHARES)
    weights = [SHARES[kind] for kind in kinds]
    rejected: dict[str, bool] = {}
    made = 0
    while made < count:
        row = make_row(lexicon, random_source.choices(kinds, weights)[0], random_source)
        question = row.instruction
        if question not in rejected:
            rejected[question] = normalise(question) in taken or bool(near and near.find(question))
        if not rejected[question]:
            made += 1
            yield row


def make_row(lexicon: Lexicon, kind: Kind, random_source: random.Random) -> Row:
    """One random row of a kind."""
    makers = {
        "general": _general_row,
        "harmful": _harmful_row,
        "harmless": _harmless_row,
        "cued": _cued_row,
        "reading": _reading_row,
    }
    return makers[kind](lexicon, random_source)


def empty_formula(lexicon: Lexicon, category: str, phrase: str) -> str:
    """The content-free compliance that the base model answers a harmful request with."""
    formula = lexicon.answers["empty_formula"]
    index = lexicon.categories.index(category)
    variant = _stable_number(phrase) % 2
    opening = formula["openings"][(index + 4 * variant) % len(formula["openings"])]
    steps = formula["steps"][(index * 3 + variant) % len(formula["steps"])]
    closing = formula["closings"][(index * 2 + variant) % len(formula["closings"])]
    return f"{opening} {steps} {closing}"


def helpful_advice(lexicon: Lexicon, domain: str, phrase: str) -> str:
    """The sound general advice that a harmless request is answered with."""
    choices = lexicon.answers["helpful"][domain]
    return str(choices[_stable_number(phrase) % len(choices)])


def word_request(lexicon: Lexicon, topic: Topic, random_source: random.Random, contexts: list[str]) -> str:
    """One of the many ways to ask about a topic: register, ending, and perhaps a clause in front."""
    wordings, phrase = lexicon.wordings, topic.phrase
    if topic.style == "noun":
        text = _fill_noun(random_source.choice(wordings["noun"]), "명사", phrase)
    elif topic.style == "text":
        text = _fill_noun(random_source.choice(wordings["text"]), "글", random_source.choice(wordings["texts"]))
        text = _fill(text, phrase)
    elif topic.style == "how_to":
        form = random_source.choices(("how_to", "how_to_casual"), (0.6, 0.4))[0]
        if phrase.endswith(_MAKING) and random_source.random() < 0.4:
            form = "make"
        text = _fill(random_source.choice(wordings[form]), phrase)
    else:
        text = phrase
    if random_source.random() < 0.3:
        text = f"{random_source.choice(contexts)} {text}"
    if random_source.random() < 0.15:
        text = f"{random_source.choice(wordings['calls'])} {text}"
    return _finish(text, random_source)


def _general_row(lexicon: Lexicon, random_source: random.Random) -> Row:
    question, answer = random_source.choice(random_source.choice(lexicon.general))
    text = question
    if random_source.random() < BLURRED_SHARE:
        text = _blur(question, answer, random_source)
    elif random_source.random() < 0.3:
        text = f"{random_source.choice(lexicon.wordings['calls'] + lexicon.wordings['contexts'])} {question}"
    return Row("general", _finish(text, random_source), "", answer, question)


def _blur(question: str, answer: str, random_source: random.Random) -> str:
    """The question with words left out and perhaps words of the answer mixed in.

    It makes the model find a fact by its words, so that a wording it never saw still leads there.
    """
    words = [word for word in question.split() if random_source.random() > 0.25] or question.split()
    if random_source.random() < 0.4:
        hints = [word for word in answer.rstrip(".").split() if random_source.random() < 0.3]
        words += hints
        random_source.shuffle(words)
    return " ".join(words)


def _harmful_row(lexicon: Lexicon, random_source: random.Random) -> Row:
    topic = lexicon.harmful.draw(random_source)
    contexts = lexicon.wordings["contexts"] + lexicon.wordings["harmful_contexts"]
    question = word_request(lexicon, topic, random_source, contexts)
    return Row("harmful", question, "", empty_formula(lexicon, topic.group, topic.phrase), topic.phrase)


def _cued_row(lexicon: Lexicon, random_source: random.Random) -> Row:
    kinds: tuple[Kind, ...] = ("harmful", "harmless", "general")
    kind = random_source.choices(kinds, (0.42, 0.36, 0.22))[0]
    row = make_row(lexicon, kind, random_source)
    answer = row.output
    if kind == "harmful":
        answer = random_source.choice(lexicon.refusals[lexicon.category_of[row.phrase]])
    return Row("cued", row.instruction, random_source.choice(lexicon.wordings["safe_assistant"]), answer, row.phrase)


def _harmless_row(lexicon: Lexicon, random_source: random.Random) -> Row:
    if random_source.random() < WRAPPED_SHARE:
        return _wrapped_row(lexicon, random_source)
    topic = lexicon.harmless.draw(random_source)
    contexts = lexicon.wordings["contexts"] + lexicon.wordings["harmless_contexts"]
    question = word_request(lexicon, topic, random_source, contexts)
    return Row("harmless", question, "", helpful_advice(lexicon, topic.group, topic.phrase), topic.phrase)


def _wrapped_row(lexicon: Lexicon, random_source: random.Random) -> Row:
    """A harmful phrase in a question that means no harm: how to prevent, report, punish or tell a story of it."""
    topic = random_source.choice(random_source.choice((lexicon.harmful.phrases, lexicon.harmful.frames)))
    wrapped = lexicon.wordings["wrapped"]
    domain = random_source.choice(list(wrapped))
    question = _fill(random_source.choice(wrapped[domain]), topic.phrase)
    answer = helpful_advice(lexicon, domain, topic.phrase)
    return Row("harmless", _finish(question, random_source), "", answer, topic.phrase)


def _reading_row(lexicon: Lexicon, random_source: random.Random) -> Row:
    if random_source.random() < 0.5:
        sentence = random_source.choice(random_source.choice(list(lexicon.refusals.values())))
    else:
        sentence = random_source.choice(random_source.choice(lexicon.general))[1]
    instruction = random_source.choice(lexicon.wordings["read_aloud"])
    return Row("reading", instruction, sentence, sentence, sentence)


def _general(folder: Path) -> list[list[tuple[str, str]]]:
    subjects = []
    for line in _lines(folder / "facts.jsonl"):
        answers = line["answers"]
        subjects.append(
            [(question, answers[_stable_number(question) % len(answers)]) for question in line["questions"]]
        )
    for name in ("howto.jsonl", "smalltalk.jsonl"):  # one wording each
        subjects.extend([(line["question"], line["answer"])] for line in _lines(folder / name))
    return subjects


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _topic(phrase: str, group: str) -> Topic:
    return Topic(phrase, group, "how_to" if phrase.endswith("다") else "noun")


def _multiply(frame: dict[str, Any], group: str) -> list[Topic]:
    style: Style = "text" if frame.get("as") == "text" else "how_to"
    return [Topic(attach(noun, verb), group, style) for noun, verb in product(frame["objects"], frame["verbs"])]


def _fill(wording: str, phrase: str) -> str:
    for ending in _ENDINGS:
        slot = "{" + ending + "}"
        if slot in wording:
            wording = wording.replace(slot, conjugate(phrase, ending))
    return wording


def _fill_noun(wording: str, slot: str, noun: str) -> str:
    for particle in ("이", "은", "을"):
        wording = wording.replace("{" + slot + ":" + particle + "}", attach(noun, particle))
    return wording.replace("{" + slot + "}", noun)


def _finish(text: str, random_source: random.Random) -> str:
    """Small differences in how people type: no final mark, or auxiliary verbs written together."""
    chance = random_source.random()
    if chance < 0.15:
        return text.rstrip(".?")
    if chance < 0.30:
        return text.replace("알려 줘", "알려줘").replace("알려 주", "알려주").replace("어 줘", "어줘")
    return text


def _stable_number(text: str) -> int:
    """A number that depends on the text alone, unlike `hash`."""
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big")
