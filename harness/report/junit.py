"""Gates as JUnit XML, which CI servers read: one test case for each gate, a failure with its figures for each not met.

The elements and attributes are those that Jenkins, GitLab and the usual GitHub actions all take.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from harness.gates.words import verdict_line, visible
from harness.records import GateReport, GateResult, RunHeader


def junit_xml(header: RunHeader, report: GateReport) -> str:
    """The file's text; the same results give the same bytes."""
    failed = sum(result.outcome != "passed" for result in report.results)
    counts = {"tests": str(len(report.results)), "failures": str(failed), "errors": "0", "skipped": "0", "time": "0"}
    name = f"{header.suite_name} gates"
    root = ElementTree.Element("testsuites", {"name": visible(name), **counts})
    started = header.started_at[:19]  # the format has no place for a time zone; it is UTC
    suite = ElementTree.SubElement(root, "testsuite", {"name": visible(name), **counts, "timestamp": started})
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", {"name": "run", "value": visible(header.run_id)})
    for result in report.results:
        _add_case(suite, header.suite_name, result)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_case(suite: ElementTree.Element, suite_name: str, result: GateResult) -> None:
    case = ElementTree.SubElement(
        suite,
        "testcase",
        {
            "classname": visible(f"{suite_name}.gates"),
            "name": visible(f"{result.name} [{result.subject}]"),
            "time": "0",
        },
    )
    line = verdict_line(result)
    text = "\n".join([line, *(visible(note.en) for note in result.notes)])
    if result.outcome == "passed":
        ElementTree.SubElement(case, "system-out").text = text
    else:
        failure = {"message": line, "type": "no data" if result.outcome == "no_data" else "limit not met"}
        ElementTree.SubElement(case, "failure", failure).text = text
