"""The answers as data for the page's script, and as nothing else: no answer is ever written as HTML."""

from __future__ import annotations

import json

from markupsafe import Markup

from harness.report.lookup import Lookup
from harness.report.wording import GROUP_NAMES, VERDICT_NAMES
from harness.summary import Answer, AnswerRow

ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""Inside a script element nothing but these can end the element or a JavaScript line; JSON reads them back."""


def answers_json(lookup: Lookup) -> Markup:
    """All prompts and answers as JSON that is safe inside `<script type="application/json">`."""
    summary = lookup.summary
    data = {
        "models": [
            {"name": model, "baseline": summary.baselines.get(model), "number": lookup.number(model)}
            for model in summary.models
        ],
        "groups": {group: list(GROUP_NAMES[group]) for group in lookup.groups},
        "verdicts": {verdict: list(names) for verdict, names in VERDICT_NAMES.items()},
        "categories": {
            category: [name.ko, name.en, name.group_ko, name.group_en]
            for category in _categories(lookup)
            if (name := lookup.category(category))
        },
        "rows": [_row(row, summary.models) for row in summary.rows],
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character, escape in ESCAPES.items():
        text = text.replace(character, escape)
    return Markup(text)


def _categories(lookup: Lookup) -> list[str]:
    present = {row.prompt.category for row in lookup.summary.rows}
    known = [category for category in lookup.summary.categories if category in present]
    return known + sorted(present - set(known))


def _row(row: AnswerRow, models: tuple[str, ...]) -> list[object]:
    """[id, text, category, group, pair id, answers by model number], short because there are thousands."""
    prompt = row.prompt
    answers = [[_answer(answer) for answer in row.answers.get(model, ())] for model in models]
    return [prompt.id, prompt.text, prompt.category, row.group, prompt.pair_id, answers]


def _answer(answer: Answer) -> list[object]:
    """[text, verdict, finish reason, tokens, error, [[start, end, rule], ...]]; positions in code points."""
    verdict = "failed" if answer.error is not None else answer.verdict or "unscored"
    evidence = [[span.start, span.end, span.rule] for span in answer.evidence]
    return [answer.text, verdict, answer.finish_reason, answer.new_tokens, answer.error, evidence]
