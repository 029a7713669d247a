"""The identity of contents: what changes it, and what must not."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from harness.content_hash import content_hash
from harness.errors import NotAvailable


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "additional").mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (folder / "additional" / "chat.jinja").write_text("x", encoding="utf-8")
    return folder


def test_a_file_is_its_sha256(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"abc")
    assert content_hash(file) == hashlib.sha256(b"abc").hexdigest()
    assert content_hash(str(file)) == content_hash(file)


def test_a_moved_folder_is_the_same(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "elsewhere")
    assert content_hash(copy) == content_hash(model)


@pytest.mark.parametrize("name", ["README.md", ".gitattributes", "pytorch_model.bin", ".cache/config.json"])
def test_what_loading_never_reads_does_not_count(model: Path, name: str) -> None:
    before = content_hash(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("x", encoding="utf-8")
    assert content_hash(model) == before


def test_a_changed_byte_a_new_file_and_a_new_name_count(model: Path) -> None:
    seen = {content_hash(model)}
    (model / "model.safetensors").write_bytes(bytes(999) + b"\1")
    seen.add(content_hash(model))
    (model / "additional" / "chat.jinja").rename(model / "chat.jinja")
    seen.add(content_hash(model))
    (model / "tokenizer.json").write_text("{}", encoding="utf-8")
    seen.add(content_hash(model))
    assert len(seen) == 4


def test_swapped_contents_count(model: Path) -> None:
    before = content_hash(model)
    first, second = model / "config.json", model / "additional" / "chat.jinja"
    texts = first.read_bytes(), second.read_bytes()
    second.write_bytes(texts[0])
    first.write_bytes(texts[1])
    assert content_hash(model) != before


def test_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="no such file or folder"):
        content_hash(tmp_path / "absent")
    with pytest.raises(NotAvailable, match="holds no model"):
        content_hash(tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_hub_name_is_its_commit_in_the_local_cache(hub: Path) -> None:
    for kind, revision, commit in (
        ("models", "main", "a" * 40),
        ("datasets", "main", "b" * 40),
        ("models", "v2", "c" * 40),
    ):
        reference = hub / f"{kind}--someone--thing" / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="ascii")
    assert content_hash("someone/thing") == "a" * 40
    assert content_hash("someone/thing", hub="dataset") == "b" * 40
    assert content_hash("someone/thing", "v2") == "c" * 40
    assert content_hash("someone/thing", "d" * 40) == "d" * 40


def test_a_hub_name_that_cannot_be_asked_for_is_one_sentence(hub: Path) -> None:
    with pytest.raises(NotAvailable, match="someone/absent: this model .* could not be asked"):
        content_hash("someone/absent")
