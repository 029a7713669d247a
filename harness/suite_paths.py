"""Telling a local folder from a hub name."""

from __future__ import annotations

import re
from pathlib import Path

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def locate(base: Path, path: str) -> Path | None:
    """Absolute local path, or None for a hub name.

    A path that starts with '.' or '/' or that exists beside the suite file (folder `base`) is local.
    """
    local = (base / path).resolve()
    return local if path.startswith((".", "/")) or local.exists() else None


def is_hub_name(path: str) -> bool:
    """Whether the text has the form `organisation/name` or `name`."""
    return _HUB_NAME.fullmatch(path) is not None
