"""Reads pages back, the way a browser would, for tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from harness.summary import Summary

RENDER = (
    "import sys, hashlib; from pathlib import Path; from harness.summary import Summary;"
    "from harness.report.page import render_report;"
    "page = render_report(Summary.model_validate_json(Path(sys.argv[1]).read_text('utf-8')));"
    "assert not {'torch', 'transformers'} & set(sys.modules);"
    "print(hashlib.sha256(page.encode()).hexdigest())"
)


def digest_of_rebuilt(summary: Summary, folder: Path, **environment: str) -> str:
    """SHA-256 of the page that a process of its own makes of the stored summary, without loading torch."""
    stored = folder / "summary.json"
    stored.write_text(summary.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-c", RENDER, str(stored)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Page(HTMLParser):
    """Elements, attributes and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text = ""
        self._raw: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._raw = self.scripts if tag == "script" else self.styles
            self._raw.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._raw = None

    def handle_data(self, data: str) -> None:
        if self._raw is not None:
            self._raw[-1] += data
        else:
            self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of all elements with the tag, in order."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def policy(self) -> str:
        """The Content Security Policy."""
        found = [meta["content"] for meta in self.attributes("meta") if "http-equiv" in meta]
        assert len(found) == 1
        return str(found[0])

    @property
    def answers(self) -> dict[str, Any]:
        """The JSON island."""
        data: dict[str, Any] = json.loads(self.scripts[1])
        return data

    def sentence(self, language: str) -> str:
        """The headline in one language."""
        heading = re.search(r"<h1>(.*?)</h1>", self.html, re.S)
        assert heading is not None
        other = "en" if language == "ko" else "ko"
        own = re.sub(rf'<span class="{other}".*', "", heading[1]) if language == "ko" else heading[1]
        if language == "en":
            own = own[own.index('<span class="en"') :]
        return re.sub("<[^>]+>", "", own)


class _Reader(HTMLParser):
    """The text outside elements of a class, however deep they are nested."""

    def __init__(self, html: str, hidden: str) -> None:
        super().__init__()
        self.hidden, self.text, self._open = hidden, "", list[bool]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(dict(attrs).get("class") == self.hidden)

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not any(self._open):
            self.text += data


def in_english(html: str) -> str:
    """What an English reader sees of a piece of a page; its elements must all be closed."""
    return _Reader(html, "ko").text
