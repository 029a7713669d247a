"""Identity of models, adapters and data by their contents: a moved folder is the same, a changed one is not.

No torch here: a plan needs these hashes before any model is loaded.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from harness.errors import NotAvailable

CONTENT_SUFFIXES = frozenset((".json", ".jsonl", ".safetensors", ".jinja", ".model", ".tiktoken", ".txt", ".py"))
"""What loading a model or adapter may read. Read-me files, licences and weights in other formats are left out."""
READERS = 8
_COMMIT = re.compile(r"[0-9a-f]{40}")


def content_hash(place: str | Path, revision: str | None = None, *, hub: Literal["model", "dataset"] = "model") -> str:
    """Return the identity of a local file or folder (SHA-256) or of a hub repository (its commit).

    A folder's hash covers relative names and contents of the files that loading may read, wherever the folder lies.
    A hub name's commit is the one in the local hub cache; the hub is asked only where the cache has none.

    Raises `NotAvailable` where there is nothing of that name.
    """
    path = Path(place)
    if path.is_file():
        return _file_digest(path)
    if path.is_dir():
        return _folder_digest(path)
    if path.is_absolute():
        raise NotAvailable(f"{place}: there is no such file or folder.")
    return hub_commit(str(place), revision, hub)


def hub_commit(name: str, revision: str | None, kind: Literal["model", "dataset"] = "model") -> str:
    """Return the commit that a branch, tag or commit of a hub repository stands for; `NotAvailable` if unknown."""
    revision = revision or "main"
    if _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.file_download import repo_folder_name

    cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind) / "refs" / revision
    if cached.is_file():
        return cached.read_text(encoding="ascii").strip()
    try:
        return str(HfApi().repo_info(name, revision=revision, repo_type=kind).sha)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise NotAvailable(
            f"{name}: this {kind} (revision {revision}) is neither a local folder nor in the local hub cache, "
            f"and the hub could not be asked ({type(error).__name__}).",
            "Check the name, or download it once while connected.",
        ) from error


def _folder_digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if _matters(path.relative_to(folder)) and path.is_file())
    if not files:
        raise NotAvailable(f"{folder}: the folder holds no model, adapter or data files.")
    with ThreadPoolExecutor(READERS) as readers:  # hashing releases the interpreter lock
        digests = list(readers.map(_file_digest, files))
    whole = hashlib.sha256()
    for path, digest in zip(files, digests, strict=True):
        whole.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return whole.hexdigest()


def _matters(relative: Path) -> bool:
    return relative.suffix in CONTENT_SUFFIXES and not any(part.startswith(".") for part in relative.parts)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
