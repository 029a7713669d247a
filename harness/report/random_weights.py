"""Marks what was measured with random weights: the figures of a page, whoever drew them, and their captions.

Speed and memory are true, but a picture that is cut out and shown elsewhere must still say what it is of.
"""

from __future__ import annotations

import re

from markupsafe import Markup

from harness.report.wording import both

WORDS = ("무작위 가중치", "random weights")
BAND = 18
"""Height of the strip above a plot that the mark stands in, in the plot's own units."""
_PLOT = re.compile(r'<svg viewBox="0 0 (?P<width>[\d.]+) (?P<height>[\d.]+)" class="plot" aria-hidden="true">')


def mark_figures(page: str) -> str:
    """Write the words above every plot of a finished page and behind every caption."""
    flag = Markup(' <span class="flag">{}</span></figcaption>').format(both(*WORDS))
    return _PLOT.sub(_with_band, page).replace("</figcaption>", str(flag))


def _with_band(plot: re.Match[str]) -> str:
    width, height = float(plot["width"]), float(plot["height"])
    texts = "".join(
        f'<text class="{language}" lang="{language}" x="{width:g}" y="-5" text-anchor="end" font-size="12" '
        f'fill="var(--muted)">{words}</text>'
        for language, words in zip(("ko", "en"), WORDS, strict=True)
    )
    return f'<svg viewBox="0 -{BAND} {width:g} {height + BAND:g}" class="plot" aria-hidden="true">{texts}'
