"""Trained adapters, kept under a hash of everything that can change them.

    results/adapters/<name>-<first 12 digits of the training hash>/
        adapter_config.json, adapter_model.safetensors   the adapter as peft reads it
        training.json                                     the records of its training: what it did and cost
        checkpoints/<step>/                               the adapter as it was after this step, where asked for

An entry appears in one rename, so there is no half of one. No torch here: a plan looks adapters up.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.prompt_formats import render
from harness.records import JobRecord, TrainingResult
from harness.store import exclusive_lock, saving
from harness.suite import Model, Training

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
TRAINING_FILE = "training.json"
CHECKPOINTS = "checkpoints"
MODEL_KEYS = {"backend", "dtype", "quantization", "attention", "device", "trust_remote_code"}
_records: TypeAdapter[tuple[JobRecord, ...]] = TypeAdapter(tuple[JobRecord, ...])


@dataclass(frozen=True)
class CachedAdapter:
    """An intact entry: its folder and the records of its training, the `TrainingResult` among them."""

    folder: Path
    records: tuple[JobRecord, ...]
    result: TrainingResult


@dataclass(frozen=True)
class DamagedEntry:
    """An entry that was not what its records say, and where it was moved."""

    moved_to: Path
    reason: str


def training_hash(
    training: Training, model: Model, *, model_hash: str, data_hash: str, basis: Mapping[str, object]
) -> str:
    """Return the SHA-256 of everything that can change the adapter.

    That is the contents of base and data, every setting of the step and the base's loading, the text of the prompt
    format, and `basis`: library versions and devices. Where base and data lie does not count.
    """
    identity = {
        "model": model_hash,
        "data": data_hash,
        "training": training.model_dump(mode="json", exclude={"model": True, "data": {"path", "hub"}}),
        "loading": model.model_dump(mode="json", include=MODEL_KEYS),
        "prompt_format": _format_text(training),
        "basis": basis,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def _format_text(training: Training) -> list[str]:
    """Return what the format makes of fixed words. A chat template is part of the base's contents already."""
    form = training.data.prompt_format
    if form == "chat_template":
        return [form]
    return [form, render(form, "instruction", ""), render(form, "instruction", "input")]


def entry_folder(results: Path, name: str, digest: str) -> Path:
    """Return where the adapter of training step `name` with training hash `digest` lies, present or not."""
    return results / "adapters" / f"{name}-{digest[:12]}"


def checkpoint_folder(entry: Path, step: int | None) -> Path:
    """Return where an entry keeps the adapter of an optimizer step; None means the end of the training."""
    return entry if step is None else entry / CHECKPOINTS / str(step)


def checkpoint_hash(digest: str, step: int | None) -> str:
    """Return the identity of a step's adapter from its training's hash."""
    return digest if step is None else f"{digest}-step{step}"


def adapter_hash(folder: Path) -> str:
    """Return the SHA-256 over the adapter's two files."""
    whole = hashlib.sha256()
    for name in ADAPTER_FILES:
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def lookup(folder: Path) -> CachedAdapter | DamagedEntry | None:
    """Return the entry at `folder` if it is intact; None where there is none.

    An entry whose files are not the ones its records name is moved aside, so that nothing is lost and it counts as
    missing from then on.
    """
    if not folder.exists():
        return None
    try:
        records = _records.validate_json((folder / TRAINING_FILE).read_bytes())
        result = next(record for record in records if isinstance(record, TrainingResult))
        hashes = {step: adapter_hash(checkpoint_folder(folder, int(step))) for step in result.checkpoints}
        if adapter_hash(folder) != result.adapter_hash or hashes != result.checkpoints:
            return _move_aside(folder, "its files are not the ones that training wrote")
    except (OSError, ValidationError, StopIteration) as error:
        return _move_aside(folder, f"it cannot be read ({type(error).__name__})")
    moved = result.model_copy(update={"adapter_folder": str(folder)})
    return CachedAdapter(folder, tuple(moved if record is result else record for record in records), moved)


def rope_scaling_of(adapter: Path) -> float | None:
    """Return the factor that RoPE was scaled by when the adapter was trained; None where it was not, or is unknown."""
    entry = adapter.parents[1] if adapter.parent.name == CHECKPOINTS else adapter
    file = entry / TRAINING_FILE
    if not file.is_file():
        return None  # an adapter that this harness did not train
    result = next(one for one in _records.validate_json(file.read_bytes()) if isinstance(one, TrainingResult))
    factor = result.settings.get("rope_scaling_factor")
    return float(factor) if isinstance(factor, int | float) else None


def _move_aside(folder: Path, reason: str) -> DamagedEntry:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    with saving(folder):
        folder.rename(aside)
    return DamagedEntry(aside, reason)


@contextlib.contextmanager
def entry_lock(folder: Path) -> Iterator[None]:
    """Hold the entry while looking it up and training it: a second run waits and then finds it in the cache."""
    with exclusive_lock(folder.with_name(f".{folder.name}.lock"), f"{folder}: it is being trained", wait=True):
        yield


@contextlib.contextmanager
def new_entry(folder: Path) -> Iterator[Path]:
    """Give an empty hidden folder to train into. It becomes `folder` in one rename, or goes away on an error."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a training that was killed
    with saving(partial):
        partial.mkdir(parents=True)
    try:
        yield partial
        with saving(folder):
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_records(folder: Path, records: Sequence[JobRecord]) -> None:
    """Write `training.json`: a cached adapter still tells what its training did and cost."""
    lines = ",\n".join(record.model_dump_json() for record in records)
    with saving(folder / TRAINING_FILE):
        (folder / TRAINING_FILE).write_text(f"[\n{lines}\n]\n", encoding="utf-8")
