"""Saved runs to compare with, by name: results/baselines/NAME/RUN_ID, a copy that outlives the run it was made from.

A copy rather than a link: it can be carried to another machine or kept in a repository, and deleting old runs never
takes away what later ones are judged by.
"""

from __future__ import annotations

import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Fault, InvalidInput, StoreError
from harness.records import RunHeader
from harness.store import RunFolder, saving
from harness.suite import NAME_PATTERN
from harness.suite_yaml import nearest

FOLDER = "baselines"
LEFT_OUT = shutil.ignore_patterns(".*", "*.html", "*.xml", "*.md", "*.aside-*", "log.txt", "gates.json", "summary.json")
"""What can be made again or is of no use in a comparison."""


@dataclass(frozen=True)
class Baseline:
    """A saved run and its name."""

    name: str
    folder: RunFolder

    def header(self) -> RunHeader:
        """The saved run's header."""
        return self.folder.header()


def saved_names(results: Path) -> list[str]:
    """Names of the saved runs."""
    return [baseline.name for baseline in saved_runs(results)]


def saved_runs(results: Path) -> list[Baseline]:
    """All saved runs, by name."""
    found = sorted((results / FOLDER).glob("*/*/run.json"))
    return [Baseline(path.parents[1].name, RunFolder(path.parent)) for path in found if path.parents[1].name[0] != "."]


def listing(results: Path) -> list[str]:
    """One line for each saved run: its name, which run it is, its suite and machine, or why it cannot be read."""
    lines = []
    for baseline in saved_runs(results):
        try:
            header = baseline.header()
        except StoreError as error:
            lines.append(f"{baseline.name}: cannot be read. {error.message}")
            continue
        machine = ", ".join(gpu.name for gpu in header.environment.gpus) or header.environment.cpu
        lines.append(f"{baseline.name}: {header.suite_name}/{header.run_id}, started {header.started_at}, on {machine}")
    return lines


def find_saved(results: Path, name: str) -> RunFolder:
    """The run saved under a name; StoreError with the nearest name where there is none."""
    runs = {baseline.name: baseline.folder for baseline in saved_runs(results)}
    if name not in runs:
        close = nearest(name, runs)
        near = f" Did you mean '{close}'?" if close else ""
        raise StoreError(
            f"There is no saved run '{name}' in {results / FOLDER}.{near}",
            f"harness baseline save {name} RUN saves one.",
        )
    return runs[name]


def save(results: Path, name: str, run: RunFolder, *, replace: bool) -> Path:
    """Keep a copy of a run under a name; return its folder. An earlier one is replaced only if that is asked for."""
    if re.fullmatch(NAME_PATTERN, name) is None:
        problem = "a name has only lower-case letters a-z, digits, '-' and '_'."
        raise InvalidInput([Fault("command line", None, "NAME", f"{problem[:-1]}; it is {name!r}.")])
    place = results / FOLDER / name
    if place.exists() and not replace:
        old = find_saved(results, name).path.name if name in saved_names(results) else "an unreadable run"
        raise StoreError(
            f"'{name}' is saved already ({old}).", "Give another name, or --replace to put this run in its place."
        )
    run_id = run.header().run_id
    fresh = place.with_name(f".{name}.{secrets.token_hex(4)}")
    with saving(place):
        try:
            shutil.copytree(run.path, fresh / run_id, ignore=LEFT_OUT)
            if place.exists():
                old_copy = place.with_name(f"{fresh.name}.old")
                place.rename(old_copy)
                fresh.rename(place)
                shutil.rmtree(old_copy)
            else:
                fresh.rename(place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return place / run_id
