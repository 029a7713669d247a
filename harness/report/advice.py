"""The page's first sentence, its lines of advice, and links to the answers that they are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from markupsafe import Markup

Level = Literal["good", "act", "note"]


@dataclass(frozen=True)
class Line:
    """One line of advice; `link` leads to what the line is about: answers that pass a filter, or a section."""

    level: Level
    text: Markup
    link: str | None = None
    link_text: Markup | None = None


@dataclass(frozen=True)
class Headline:
    """The sentence about one model and its lines of advice."""

    model: str
    sentence: Markup
    lines: tuple[Line, ...]


def answers_link(**filters: str) -> str:
    """Address on the page of the answers that pass the filters (group, category, change, verdict.MODEL)."""
    return "#answers?" + urlencode(filters)
