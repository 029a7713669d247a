"""A check of JUnit XML in the form that Jenkins, GitLab and GitHub's test reporters take, written from their docs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

COUNTS = ("tests", "failures", "errors", "skipped")
ATTRIBUTES: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, {"skipped", "disabled"}),
    "testsuite": ({"name", "tests", "failures", "errors", "time"}, {"skipped", "timestamp", "hostname", "id"}),
    "testcase": ({"name", "classname", "time"}, {"file", "line", "assertions"}),
    "properties": (set(), set()),
    "property": ({"name", "value"}, set()),
    "failure": ({"message", "type"}, set()),
    "system-out": (set(), set()),
}
"""Element -> attributes it must have, and others it may have."""
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out", "system-err"},
    "testcase": {"failure", "system-out"},
    "properties": {"property"},
}


def read_junit(text: str) -> ElementTree.Element:
    """The tree of a valid file; AssertionError says what is wrong with another."""
    root = ElementTree.fromstring(text.encode("utf-8"))
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>') and root.tag == "testsuites"
    for element in root.iter():
        needed, allowed = ATTRIBUTES[element.tag]
        assert needed <= set(element.attrib) <= needed | allowed, (element.tag, element.attrib)
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set()), element.tag
        for key in (*COUNTS, "time"):
            assert re.fullmatch(r"\d+(\.\d+)?", element.get(key, "0")), (element.tag, key)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", element.get("timestamp", "2026-01-01T00:00:00"))
    for suite in (root, *root.iter("testsuite")):
        cases = list(suite.iter("testcase"))
        found = {"tests": len(cases), "failures": sum(case.find("failure") is not None for case in cases)}
        assert {key: int(suite.get(key, "0")) for key in COUNTS} == {"errors": 0, "skipped": 0, **found}
        names = [(case.get("classname"), case.get("name")) for case in cases]
        assert len(set(names)) == len(names), "two test cases have the same name"
    return root
