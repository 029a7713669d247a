"""What every backend and engine must do with text on a GPU: the demonstration model through each, against itself.

The model is small, so this is about correctness alone; speed is measured elsewhere. Each runs in processes of its own
(`text_checks.py`), for unsloth patches the libraries that the others use.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GROUPS = {
    "hf": ("answering", "training", "lora"),
    "unsloth": ("answering", "training", "lora"),
    "fast": ("answering",),
    "vllm": ("answering_float32", "answering_bfloat16"),
}
"""Ways of answering, and the groups of checks that each can be put to; every group is a process."""
LOGIT_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Attached against merged: largest logit difference as a share of the largest logit. Merging rounds weights."""

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(480)]


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def outcomes(adapters: Path) -> Callable[[str], dict[str, Any]]:
    """Return what the processes of a way found out.

    All processes start at once, for the model is tiny and imports are most of the time; but for those of vLLM, which
    does not start while others give memory back.
    """

    @functools.cache
    def found(wanted: tuple[tuple[str, str], ...]) -> dict[str, dict[str, Any]]:
        processes = {(way, group): start(way, group, adapters) for way, group in wanted}
        outcome: dict[str, dict[str, Any]] = {}
        for (way, _), process in processes.items():
            output, errors = process.communicate(timeout=220)
            lines = [line for line in output.splitlines() if line.startswith("{")]
            outcome.setdefault(way, {}).update(json.loads(lines[-1]) if lines else {"fault": errors[-2000:]})
        return outcome

    def found_by(way: str) -> dict[str, Any]:
        if way == "vllm":
            each = [found(((way, group),))[way] for group in GROUPS[way]]
            return dict(itertools.chain.from_iterable(one.items() for one in each))
        others = [one for one in GROUPS if one != "vllm" and installed(one)]
        return found(tuple((one, group) for one in others for group in GROUPS[one]))[way]

    return found_by


def installed(way: str) -> bool:
    return way in ("hf", "fast") or importlib.util.find_spec(way) is not None


def start(way: str, group: str, adapters: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.gpu.text_checks", way, str(adapters), group],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


@pytest.fixture(params=sorted(GROUPS))
def outcome(request: pytest.FixtureRequest, outcomes: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Everything that the processes of one way found out."""
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return outcomes(request.param)


def checked(outcome: dict[str, Any], check: str) -> Any:
    """Return what a check found; skip where this backend has no such thing, fail with its own error."""
    if check not in outcome:
        if "fault" in outcome:
            pytest.fail(outcome["fault"])
        pytest.skip("not among what this way can be put to")
    found = outcome[check]
    if "skipped" in found:
        pytest.skip(found["skipped"])
    if "fault" in found:
        pytest.fail(found["fault"])
    return found


SAME_SHARE = {"float32": 1.0, "bfloat16": 0.75}
"""Answers that must be the same, batched and alone. In bfloat16 a near tie between tokens may turn."""


@pytest.mark.parametrize("dtype", sorted(SAME_SHARE))
def test_a_batch_gives_the_answers_of_the_prompts_alone(outcome: dict[str, Any], dtype: str) -> None:
    found = checked(outcome, f"batched_{dtype}")
    pairs = list(zip(found["batched"], found["alone"], strict=True))
    assert len(pairs) >= 12
    assert len(set(found["alone"])) > 3, "answers that are all the same would show nothing"
    assert sum(together == alone for together, alone in pairs) >= SAME_SHARE[dtype] * len(pairs)


def test_the_padding_self_test_passes_or_says_that_it_does_not(outcome: dict[str, Any]) -> None:
    found = checked(outcome, "padding")
    if "refused" in found:
        assert found["refused"].startswith("Padding self-test: logits of a left-padded batch differ by")
    else:
        assert 0 <= found["difference"] <= found["tolerance"]


def test_an_answer_streams_in_pieces(outcome: dict[str, Any]) -> None:
    found = checked(outcome, "streaming")
    assert len([piece for piece in found["pieces"] if piece]) > 1
    assert "".join(found["pieces"]).strip() == found["text"].strip()


def test_an_adapter_trained_for_20_steps_changes_logits(outcome: dict[str, Any]) -> None:
    found = checked(outcome, "training")
    assert found["steps"] == 20
    assert found["losses"][-1] < found["losses"][0]
    assert found["non_finite_steps"] == 0
    assert found["adapter_max_logit_change"] > 0
    assert found["settings"]["layer_output_dtype"] == found["settings"]["dtype"] == "bfloat16"
    assert found["settings"]["autocast_dtype"] == "bfloat16"
    assert found["settings"]["lora_dtype"] == "float32"


def test_float16_trains_with_a_loss_scaler(outcome: dict[str, Any]) -> None:
    found = checked(outcome, "float16")
    assert found["settings"]["layer_output_dtype"] == found["settings"]["autocast_dtype"] == "float16"
    assert found["settings"]["loss_scale_at_end"] > 0
    assert found["settings"]["skipped_scaler_steps"] < found["steps"] // 2


def test_packed_rows_train_or_are_refused_with_the_reason(outcome: dict[str, Any]) -> None:
    found = checked(outcome, "packing")
    if "refused" in found:
        assert found["refused"].startswith("packing:")
    else:
        assert found["settings"]["packing_effective"] is True


@pytest.mark.parametrize("kind", ["checkpointing", "r8", "r128_rslora", "loftq"])
def test_lora_of_every_kind_trains(outcome: dict[str, Any], kind: str) -> None:
    found = checked(outcome, kind)
    settings = found["settings"]
    assert (found["steps"], found["non_finite_steps"]) == (2, 0)
    assert settings["lora_b_nonzero"] > 0
    expected = {"checkpointing": 16, "r8": 8, "r128_rslora": 128, "loftq": 16}
    assert settings["r"] == expected[kind]
    assert settings["checkpointing_effective"] == ("on" if kind == "checkpointing" else "off")
    if kind == "loftq":
        assert 0 < settings["loftq_error_left"] < 1


@pytest.mark.parametrize("dtype", sorted(LOGIT_TOLERANCE))
def test_attached_gives_the_logits_of_merged(outcome: dict[str, Any], dtype: str) -> None:
    found = checked(outcome, f"merged_{dtype}")
    assert found["change"] > 0, "the adapter must do something for this to be a test"
    assert found["difference"] <= LOGIT_TOLERANCE[dtype] * found["largest"]


def test_four_bits_load_and_generate(outcome: dict[str, Any]) -> None:
    found = checked(outcome, "four_bits")
    assert found["quantization"] == "4bit"
    assert any("uint8" in dtype for dtype in found["parameter_dtypes"])
    assert all(answer for answer in found["answers"])


def test_unsloth_is_told_that_it_generates(outcome: dict[str, Any]) -> None:
    found = checked(outcome, "for_inference")
    assert found["flags"] and all(found["flags"])
