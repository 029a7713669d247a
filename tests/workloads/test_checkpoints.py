"""Adapters kept along a training: what they hold, that the cache guards them, and that a sweep tests them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.adapter_cache import ADAPTER_FILES, CachedAdapter, DamagedEntry, checkpoint_folder, lookup, rope_scaling_of
from harness.errors import HarnessError
from tests.test_run import finished_page, llama_suite, run, summary
from tests.workloads.test_train_lora import Maker, llama, make, one_thread, rows_file

__all__ = ["llama", "llama_suite", "make", "one_thread", "rows_file"]  # fixtures

CONSTANT = {"max_steps": 3, "lr_scheduler_type": "constant"}


def adapter_bytes(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ADAPTER_FILES]


def test_a_checkpoint_is_what_a_training_of_so_many_steps_would_leave(make: Maker) -> None:
    long = make(trainer=CONSTANT, checkpoints=(1, 2)).run()
    short = make(trainer=CONSTANT | {"max_steps": 2}).run()
    entry = long.work.adapter_folder
    assert adapter_bytes(checkpoint_folder(entry, 2)) == short.adapter_bytes()
    assert adapter_bytes(checkpoint_folder(entry, 1)) != adapter_bytes(checkpoint_folder(entry, 2))
    assert adapter_bytes(checkpoint_folder(entry, None)) == long.adapter_bytes() != short.adapter_bytes()
    assert set(long.result.checkpoints) == {"1", "2"} and short.result.checkpoints == {}
    assert isinstance(lookup(entry), CachedAdapter)
    assert rope_scaling_of(checkpoint_folder(entry, 1)) is rope_scaling_of(entry)


def test_a_damaged_checkpoint_is_not_used(make: Maker) -> None:
    trained = make(checkpoints=(1,)).run()
    weights = checkpoint_folder(trained.work.adapter_folder, 1) / ADAPTER_FILES[1]
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert isinstance(lookup(trained.work.adapter_folder), DamagedEntry)


def test_a_step_that_is_never_reached_stops_the_training_at_its_start(make: Maker) -> None:
    trained = make(checkpoints=(1, 9))
    with pytest.raises(HarnessError, match=r"checkpoints: step 9 is never reached; the training has 2 steps\."):
        trained.run()
    assert trained.steps == [] and not trained.work.adapter_folder.exists()


def test_a_sweep_runs_from_the_suite_to_the_page(llama_suite: Path) -> None:
    overrides = ["sweep.lora.seeds=[1, 2]", "sweep.lora.checkpoints=[2, 4]", "performance={}"]
    page = finished_page(run(llama_suite, "--new", *(part for one in overrides for part in ("-o", one))))
    found = summary(page)
    names = ["base", "tuned-step2", "tuned-step4"]
    assert [setting["name"] for setting in found["sweep"]["settings"]] == names
    assert found["sweep"]["settings"][1]["models"] == ["tuned-step2-s1", "tuned-step2-s2"]
    hashes = [model["adapter_hash"] for model in found["loaded"] if model["adapter_hash"]]
    assert len(set(hashes)) == 4 and {value.partition("-step")[2] for value in hashes} == {"2", "4"}
    assert 'id="sweep"' in page.read_text(encoding="utf-8")
