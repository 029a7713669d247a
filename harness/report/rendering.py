"""Jinja with autoescape and StrictUndefined always on, and the policy that lets only the page's own script run."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.report import events, wording

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """The one template environment. Everything is escaped unless it is Markup; a missing name is an error."""
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.globals.update(t=wording.both, group_names=wording.GROUP_NAMES)
    for function in (
        wording.percent,
        wording.points,
        wording.share_interval,
        wording.points_interval,
        wording.count_of,
        wording.p_value,
        wording.number,
        wording.size,
        wording.duration,
        events.event_text,
    ):
        jinja.filters[function.__name__] = function
    return jinja


def render(template: str, **values: object) -> str:
    """The page made from a template: style sheet and script inside it, and nothing fetched from anywhere."""
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    page = environment().get_template(template)
    return page.render(style=Markup(style), script=Markup(script), policy=_policy(style, script), **values)


def _policy(style: str, script: str) -> str:
    """Content Security Policy: this style sheet and this script by hash, nothing else, and no HTML made from text."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
