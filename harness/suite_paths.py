"""Telling a local folder from a hub name."""

from __future__ import annotations

import re
from pathlib import Path

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


def locate(base: Path, path: str) -> Path | None:
    """Absolute local path, or None for a hub name.

    A path that starts with '.' or '/' or that exists beside the suite file (folder `base`) is local.
    """
    local = (base / path).resolve()
    return local if path.startswith((".", "/")) or is_file(local) or is_folder(local) else None


def is_file(path: Path) -> bool:
    """Whether it is a file; False as well where the system cannot even look, as for a name too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether it is a folder; False as well where the system cannot even look."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_hub_name(path: str) -> bool:
    """Whether the text has the form `organisation/name` or `name`."""
    return _HUB_NAME.fullmatch(path) is not None


def siblings(path: Path) -> list[str]:
    """Names beside a path, to find the one that was meant."""
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []
