"""What can be known of lm-eval's tasks without importing it, which takes seconds: where a name is defined, and a hash.

A name counts as known where a task file mentions it as a word: task files can include each other and make names in
code, so only lm-eval itself, in the job, says for certain.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from harness.content_hash import content_hash

_WILDCARD = re.compile(r"[*?\[]")
_DEFINED = re.compile(r"^[ \t-]*(?:task|group|tag):[ \t]*([\w.-]+)[ \t]*$", re.MULTILINE)
_GROUPS = re.compile(r"^[ \t]*(?:group|tag):(.*(?:\n[ \t]*- .*)*)", re.MULTILINE)


def is_known(name: str, folders: Iterable[Path]) -> bool:
    """Whether a task file of these folders mentions the name, or a word that begins as a pattern does."""
    beginning, *wildcards = _WILDCARD.split(name)
    word = re.compile(rf"(?<![\w.-]){re.escape(beginning)}") if wildcards else _word(name)
    return any(beginning in text and word.search(text) for folder in folders for text in _task_texts(folder))


def lm_eval_folders() -> list[Path]:
    """Where the installed lm-eval has its own task files."""
    spec = importlib.util.find_spec("lm_eval")
    roots = spec.submodule_search_locations if spec else None
    return [Path(root) / "tasks" for root in roots or ()]


def tests_task(listed: Sequence[str], task: str, folders: Sequence[Path]) -> bool:
    """Whether a suite that lists these tasks, groups, tags and patterns has a result named `task`.

    A member of a group or tag counts where its name begins with the group's and a task file has it, or where one task
    file names both.
    """
    if any(name == task or fnmatchcase(task, name) for name in listed):
        return True
    whole = _word(task)
    prefixed = any(task.startswith(f"{name}_") for name in listed)
    texts = (text for folder in [*folders, *lm_eval_folders()] for text in _task_texts(folder))
    return any(
        whole.search(text) is not None and (prefixed or not set(listed).isdisjoint(_groups_in(text)))
        for text in texts
        if task in text
    )


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])")


def _groups_in(text: str) -> set[str]:
    """Names that a task file gives as its groups and tags."""
    return {name for block in _GROUPS.findall(text) for name in re.findall(r"[\w.-]*\w", block)}


def task_names(folders: Iterable[Path]) -> list[str]:
    """Names of tasks, groups and tags that the task files of these folders define."""
    return sorted({name for folder in folders for text in _task_texts(folder) for name in _DEFINED.findall(text)})


def folders_hash(folders: Sequence[Path]) -> str:
    """Identity of task folders: relative names and contents of all their files, data and code included."""
    whole = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in relative.parts):
                whole.update(f"{relative.as_posix()}\0{content_hash(path)}\n".encode())
    return whole.hexdigest()


def _task_texts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        # What others include is often called _x_yaml or has no ending, and may hold names of its own.
        if ("yaml" in path.name or not path.suffix) and path.is_file():
            yield path.read_text(encoding="utf-8", errors="replace")
