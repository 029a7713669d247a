"""Models with random weights: a public configuration and a seed give a model's speed and memory without a download.

    results/random-weights/<name>-<first 12 digits of the recipe's hash>/
        config.json, tokenizer files      those of the place that the suite names, or tiny-ko's tokenizer
        model-*.safetensors               the weights made from the seed
        random_weights.json               what they were made from, and the size of every file

Every backend and quantization loads that folder as it loads any model, so only the numbers in it differ from a real
one. It appears in one rename, so there is no half of one. No torch here: a plan names these folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from harness.content_hash import CONTENT_SUFFIXES, hub_commit
from harness.errors import NotAvailable
from harness.records import Record
from harness.store import exclusive_lock, saving

MARK = "random_weights_seed"
"""Key that random weights leave in their config.json, so that they are known wherever the folder goes."""
RECIPE_FILE = "random_weights.json"
RECIPE_VERSION = 1
"""Raised when the same seed gives other numbers."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
STAND_IN_TOKENIZER = Path(__file__).parent / "tiny_ko" / "model"
FREE_SPACE_KEPT = 1 << 30
"""Bytes left free on the disk when the weights lie there: answers and pages must still be written."""


class Recipe(Record):
    """What a folder of random weights was made from, and its files with their sizes in bytes."""

    place: str
    seed: int
    made_on: Literal["cuda", "cpu"]
    stand_in_tokenizer: bool
    parameter_count: int
    seconds: float
    files: dict[str, int]


def weights_of(config: object) -> Literal["file", "random"]:
    """Return what the weights of a loaded model are, by the mark in its configuration."""
    return "random" if hasattr(config, MARK) else "file"


def recipe_hash(place: str, revision: str | None, seed: int, made_on: str) -> str:
    """Return the SHA-256 of all that decides the numbers: configuration and tokenizer, seed, kind of device.

    A GPU and a CPU draw different numbers from one seed. Weights that lie in the folder do not count.
    Raises `NotAvailable` where there is no such folder or hub name.
    """
    folder = Path(place)
    content = (
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in configuration_files(folder)}
        if folder.is_absolute()
        else hub_commit(place, revision)
    )
    identity = [content, seed, made_on, RECIPE_VERSION]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def weights_folder(results: Path, place: str, digest: str) -> Path:
    """Return where the random weights of a recipe lie, made or not."""
    return results / "random-weights" / f"{Path(place).name}-{digest[:12]}"


def read_recipe(folder: Path) -> Recipe | None:
    """Return what the weights in `folder` were made from; None where they are missing or not whole."""
    try:
        recipe = Recipe.model_validate_json((folder / RECIPE_FILE).read_bytes())
        whole = all((folder / name).stat().st_size == size for name, size in recipe.files.items())
    except (OSError, ValidationError):
        return None
    return recipe if whole else None


def configuration_files(folder: Path) -> list[Path]:
    """Return the files of a model folder that are not weights: configuration, tokenizer, code."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file()
        and file.suffix in CONTENT_SUFFIXES - {".safetensors"}
        and not file.name.startswith(".")
        and not file.name.endswith(".index.json")
    )


def configuration_folder(place: str, revision: str | None) -> Path:
    """Return a local folder with the configuration of `place`: itself, or what is fetched of a hub name.

    No weights are fetched. Raises `NotAvailable` if the hub is needed and cannot be reached.
    """
    if Path(place).is_absolute():
        return Path(place)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [f"*{suffix}" for suffix in sorted(CONTENT_SUFFIXES - {".safetensors"})]
    try:
        return Path(snapshot_download(place, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise NotAvailable(
            f"{place}: its configuration is not in the local hub cache and could not be fetched "
            f"({type(error).__name__}).",
            "Connect once, or name a local folder with a config.json.",
        ) from error


def check_room(folder: Path, needed: int) -> None:
    """Raise NotAvailable, before anything is written, if the disk of `folder` has no room for `needed` bytes."""
    with saving(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
    if needed + FREE_SPACE_KEPT > free:
        raise NotAvailable(
            f"{folder}: the random weights need {needed / 1e9:.1f} GB on disk (and {FREE_SPACE_KEPT / 1e9:.0f} GB "
            f"beside them), but {free / 1e9:.1f} GB are free.",
            "Make room, or name another disk with --results.",
        )


@contextlib.contextmanager
def weights_lock(folder: Path) -> Iterator[None]:
    """Hold the folder while looking it up and making it: a second run waits and then finds it made."""
    with exclusive_lock(folder.with_name(f".{folder.name}.lock"), f"{folder}: it is being made", wait=True):
        yield
