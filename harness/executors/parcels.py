"""Files and folders as bytes, for nodes that do not see the path: adapters, scripts, training data, task folders."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import tempfile
from pathlib import Path

from harness.adapter_cache import CachedAdapter, entry_lock, lookup, new_entry
from harness.store import saving


def pack(place: Path) -> bytes:
    """Return a file or a folder as a tar archive. The same contents give the same bytes."""
    inside = sorted(path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    files = inside if place.is_dir() else [place]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in files:
            entry = tarfile.TarInfo(path.relative_to(place.parent).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(entry, content)
    return archive.getvalue()


def unpack(parcel: bytes, name: str, folder: Path) -> Path:
    """Put a packed file or folder called `name` below `folder`; what is there already stays. Return its place."""
    place = folder / hashlib.sha256(parcel).hexdigest()[:16] / name
    if not place.exists():
        with saving(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent) as temporary:
                _extract(parcel, Path(temporary))
                if not place.exists():  # another job of this node may have been quicker
                    (Path(temporary) / name).rename(place)
    return place


def receive_adapter(parcel: bytes, entry: Path) -> None:
    """Put a packed adapter into the cache as `entry`, unless an intact one is there."""
    with entry_lock(entry):
        if isinstance(lookup(entry), CachedAdapter):
            return
        with new_entry(entry) as partial:
            _extract(parcel, partial)
            for path in (partial / entry.name).iterdir():
                shutil.move(path, partial / path.name)
            (partial / entry.name).rmdir()


def _extract(parcel: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(parcel)) as tar:
        tar.extractall(folder, filter="data")
