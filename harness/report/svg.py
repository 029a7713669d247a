"""Turns matplotlib's SVG into SVG that lives in the page.

matplotlib writes `style` attributes, fixed colours, its own fonts and ids that repeat from figure to figure. The
page forbids inline styles, has a dark mode, two languages and several figures. So: styles become presentation
attributes, named colours become CSS variables, `@key` texts become both languages, ids are made unique or dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from markupsafe import Markup

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"

COLOURS = {
    "#000001": "var(--ink)",
    "#000002": "var(--muted)",
    "#000003": "var(--line)",
    "#000004": "var(--surface)",
    **{f"#0000a{number}": f"var(--series-{number})" for number in range(1, 7)},
}
"""Colours that plots draw with, each standing for a variable of the style sheet."""

INK, MUTED, GRID, SURFACE = list(COLOURS)[:4]
SERIES = tuple(list(COLOURS)[4:])


def embed(source: str, name: str, labels: Mapping[str, tuple[str, str]]) -> Markup:
    """matplotlib's SVG text as inline SVG.

    `name` must be unique on the page; `labels` maps the `@key` texts to their Korean and English wording.
    """
    root = ElementTree.fromstring(source)
    referenced = set(re.findall(r'(?:url\(|href=")#([^)"]+)', source))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == SVG + "metadata" or child.tag == SVG + "style":
                parent.remove(child)
        if parent.tag == SVG + "g":
            _translate_texts(parent, labels)
    for element in root.iter():
        _plain_attributes(element, name, referenced)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "class": "plot", "aria-hidden": "true"})
    return Markup(_serialise(root))


def _translate_texts(parent: ElementTree.Element, labels: Mapping[str, tuple[str, str]]) -> None:
    for index, child in reversed(list(enumerate(parent))):
        if child.tag != SVG + "text" or not (child.text or "").startswith("@"):
            continue
        parent.remove(child)
        for language, wording in zip(("en", "ko"), reversed(labels[(child.text or "")[1:]]), strict=True):
            copy = ElementTree.Element(child.tag, {**child.attrib, "class": language, "lang": language})
            copy.text = wording
            parent.insert(index, copy)


def _plain_attributes(element: ElementTree.Element, name: str, referenced: set[str]) -> None:
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key and key != "font-family":
            element.set(key, COLOURS.get(value, value))
    if LINK in element.attrib:
        element.set("href", f"#{name}-{element.attrib.pop(LINK)[1:]}")
    if "clip-path" in element.attrib:
        element.set("clip-path", element.attrib["clip-path"].replace("url(#", f"url(#{name}-"))
    if element.attrib.get("transform", "").startswith("rotate(-0"):
        del element.attrib["transform"]
    identifier = element.attrib.pop("id", None)
    if identifier in referenced:
        element.set("id", f"{name}-{identifier}")


def _serialise(root: ElementTree.Element) -> str:
    """Elements without namespace prefixes (HTML knows inline SVG by its tag) and without indentation."""
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        element.tail = None
        if element.tag != "text":
            element.text = None
        if "d" in element.attrib:
            element.set("d", " ".join(element.attrib["d"].split()))
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
