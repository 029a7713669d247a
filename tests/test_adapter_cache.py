"""The adapter cache: what makes another adapter, what is found again, and what is not trusted."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.adapter_cache import (
    CachedAdapter,
    DamagedEntry,
    adapter_hash,
    entry_folder,
    entry_lock,
    lookup,
    new_entry,
    training_hash,
    write_records,
)
from harness.records import JobRecord, TrainingResult, TrainingStep
from harness.suite import Lora, Model, Trainer, Training, TrainingData

DIGEST = "0123456789abcdef" * 4
TRAINING = Training(model="base", data=TrainingData(path="rows.jsonl"), trainer=Trainer(max_steps=1))
MODEL = Model(path="model")


def digest(training: Training = TRAINING, model: Model = MODEL, **others: Any) -> str:
    given: dict[str, Any] = {"model_hash": "m", "data_hash": "d", "basis": {"torch": "1"}, **others}
    return training_hash(training, model, **given)


def changed(**sections: Any) -> Training:
    return TRAINING.model_copy(update=sections)


def test_everything_that_can_change_the_adapter_changes_its_hash() -> None:
    trainer, lora, data = TRAINING.trainer, TRAINING.lora, TRAINING.data
    variants = [
        digest(),
        digest(model_hash="other"),
        digest(data_hash="other"),
        digest(basis={"torch": "2"}),
        digest(model=MODEL.model_copy(update={"dtype": "bfloat16"})),
        digest(model=MODEL.model_copy(update={"attention": "eager"})),
        digest(changed(max_seq_length=64)),
        digest(changed(lora=lora.model_copy(update={"random_state": 1}))),
        digest(changed(trainer=trainer.model_copy(update={"seed": 1}))),
        digest(changed(data=data.model_copy(update={"loss_on": "answer"}))),
        digest(changed(data=data.model_copy(update={"prompt_format": "plain"}))),
        digest(changed(data=data.model_copy(update={"limit": 3}))),
    ]
    assert len(set(variants)) == len(variants)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_every_hyperparameter_counts() -> None:
    """A key that is added later counts too: each is changed in turn, whatever its type."""
    for section, kind in (("lora", Lora), ("trainer", Trainer)):
        for key in kind.model_fields:
            values = getattr(TRAINING, section).model_copy(update={key: "another"})
            assert digest(changed(**{section: values})) != digest(), key


def test_where_things_lie_and_what_only_generation_uses_do_not_count() -> None:
    moved = TRAINING.data.model_copy(update={"path": "elsewhere/rows.jsonl"})
    assert digest(changed(data=moved)) == digest()
    assert digest(model=MODEL.model_copy(update={"path": "elsewhere", "prompt_format": "plain"})) == digest()


def test_the_text_of_the_prompt_format_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    monkeypatch.setattr("harness.prompt_formats._ALPACA_HEADER", "another")
    assert digest() != before


def result(folder: Path) -> TrainingResult:
    figures: dict[str, Any] = dict.fromkeys(TrainingResult.model_fields, 1)
    texts = dict.fromkeys(("job_id", "training", "device_name", "memory_method"), "x")
    named = {"adapter_hash": adapter_hash(folder), "adapter_folder": "elsewhere", "kind": "training_result"}
    return TrainingResult.model_validate(
        {**figures, **texts, **named, "settings": {}, "substitutions": {}, "checkpoints": {}}
    )


def make_entry(results: Path) -> Path:
    folder = entry_folder(results, "safety", DIGEST)
    with new_entry(folder) as partial:
        (partial / "adapter_config.json").write_text("{}", encoding="utf-8")
        (partial / "adapter_model.safetensors").write_bytes(b"weights")
        step = TrainingStep(job_id="x", step=1, epoch=1, loss=float("nan"), learning_rate=1e-4)
        records: list[JobRecord] = [step, result(partial)]
        write_records(partial, records)
    return folder


def test_an_entry_is_found_again_with_its_cost(tmp_path: Path) -> None:
    folder = make_entry(tmp_path)
    assert folder == tmp_path / "adapters" / "safety-0123456789ab"
    found = lookup(folder)
    assert isinstance(found, CachedAdapter)
    assert found.result.adapter_folder == str(folder), "an entry may be moved"
    assert [record.kind for record in found.records] == ["training_step", "training_result"]
    assert found.records[-1] == found.result


def test_no_entry_is_none(tmp_path: Path) -> None:
    assert lookup(entry_folder(tmp_path, "safety", DIGEST)) is None


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "training.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_entry_is_moved_aside_and_missing_from_then_on(tmp_path: Path, name: str, damage: str) -> None:
    folder = make_entry(tmp_path)
    file = folder / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if damage == "cut" else b"[" + content)
    if name == "training.json" and damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    found = lookup(folder)
    assert isinstance(found, DamagedEntry)
    assert found.moved_to.is_dir()
    assert lookup(folder) is None
    make_entry(tmp_path)
    assert isinstance(lookup(folder), CachedAdapter)


def test_damaged_entries_do_not_overwrite_each_other(tmp_path: Path) -> None:
    moved = set()
    for _ in range(2):
        folder = make_entry(tmp_path)
        (folder / "training.json").unlink()
        found = lookup(folder)
        assert isinstance(found, DamagedEntry)
        moved.add(found.moved_to)
    assert len(moved) == 2


def test_a_failed_training_leaves_nothing(tmp_path: Path) -> None:
    folder = entry_folder(tmp_path, "safety", DIGEST)
    with pytest.raises(RuntimeError), new_entry(folder) as partial:
        (partial / "adapter_config.json").write_text("{}", encoding="utf-8")
        raise RuntimeError
    assert list(folder.parent.iterdir()) == []


def test_what_a_killed_training_left_is_no_entry_and_goes_away(tmp_path: Path) -> None:
    folder = entry_folder(tmp_path, "safety", DIGEST)
    with new_entry(folder) as partial:
        pass
    folder.rename(partial)
    (partial / "half").write_text("x", encoding="utf-8")
    assert lookup(folder) is None
    with new_entry(folder) as again:
        assert list(again.iterdir()) == []


def _hold(folder: Path, seconds: float, held: Any) -> None:
    with entry_lock(folder):
        held.set()
        time.sleep(seconds)


def test_a_second_run_waits_for_the_first(tmp_path: Path) -> None:
    folder = entry_folder(tmp_path, "safety", DIGEST)
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=_hold, args=(folder, 0.5, held))
    other.start()
    assert held.wait(60)
    start = time.monotonic()
    with entry_lock(folder):
        waited = time.monotonic() - start
    other.join()
    assert waited > 0.3


def test_looking_up_loads_no_torch() -> None:
    code = "import sys, harness.adapter_cache, harness.content_hash; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
