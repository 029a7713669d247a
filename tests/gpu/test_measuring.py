"""The measuring itself, without a GPU: nothing measured is lost, nothing is measured twice, a fault is said."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.suite import Model
from harness.workloads.training_settings import Device, resolve
from tests.gpu.configurations import MATRIX, SHORT_ROW_TOKENS, Configuration, chosen
from tests.gpu.one_training import training_of
from tests.gpu.page import curve, lines_of, render
from tests.gpu.rows import row_of
from tests.gpu.run_all import ROOT, Run, Step, files_of
from tests.gpu.savings import savings
from tests.gpu.training_matrix import measure

TINY_KO = Path(__file__).parents[2] / "harness" / "tiny_ko" / "model"
GPU = Device("cuda", bfloat16=True, bitsandbytes=True)
ON_CPU = Configuration(
    "hf-tiny",
    backend="hf",
    quantization="none",
    dtype="float32",
    checkpointing=True,
    accumulation=1,
    seq_len=128,
    optimizer="adamw_torch",
    warmup_steps=1,
    counted_steps=2,
)


def test_every_configuration_can_be_honoured_as_it_stands() -> None:
    assert len({one.name for one in MATRIX}) == len(MATRIX)
    for one in MATRIX:
        model = Model(path="m", dtype=one.dtype, backend=one.backend)
        settings = resolve(training_of(one, Path("rows.jsonl")), model, GPU)
        assert settings.substitutions == {}, one.name
        assert (settings.backend, settings.quantization) == (one.backend, one.quantization)
        assert settings.compute_dtype == one.dtype


def test_each_unsloth_training_has_its_like_in_hf_where_hf_can() -> None:
    names = {one.name for one in MATRIX}
    shared = [name for name in names if name.startswith("unsloth-") and name.replace("unsloth-", "hf-") in names]
    assert len(shared) >= 8
    for name in shared:
        mine, other = chosen((name,))[0], chosen((name.replace("unsloth-", "hf-"),))[0]
        assert mine == replace(other, name=mine.name, backend="unsloth", checkpointing=mine.checkpointing)
        assert bool(mine.checkpointing) == bool(other.checkpointing)


def test_a_wrong_name_is_named() -> None:
    with pytest.raises(ValueError, match="no configuration is called nothing; there are hf-"):
        chosen(("nothing", MATRIX[0].name))


@pytest.mark.parametrize("length", [*SHORT_ROW_TOKENS, 2064])
def test_rows_have_the_tokens_they_should(length: int) -> None:
    from harness.backends.hf import load_tokenizer
    from harness.prompt_formats import render as render_prompt

    tokenizer = load_tokenizer(Model(path=str(TINY_KO)), str(TINY_KO))
    row = row_of(length, tokenizer, random.Random(1))
    text = render_prompt("alpaca_ko", row["instruction"], row["input"], tokenizer) + row["output"]
    assert length <= len(tokenizer(text)["input_ids"]) + 1 <= length + 8


def test_what_was_measured_stays_whatever_happens_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.gpu.training_matrix.SECONDS_FOR_ONE", 1.0)
    broken = replace(ON_CPU, name="hf-broken", optimizer="no_such")
    late = replace(ON_CPU, name="hf-late")
    measure((ON_CPU, broken), TINY_KO, tmp_path, 200)
    monkeypatch.setattr("tests.gpu.training_matrix.SECONDS_FOR_ONE", 1000.0)
    document = measure((ON_CPU, late), TINY_KO, tmp_path, 200)
    assert document == json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    points = {point["name"]: point for point in document["points"]}
    assert points["hf-tiny"]["status"] == "measured", "an attempt without time does not take a figure away"
    assert points["hf-broken"]["status"] == "failed"
    assert "no_such" in points["hf-broken"]["reason"]
    assert points["hf-late"] == {**points["hf-late"], "status": "not measured"}
    assert "used up" in points["hf-late"]["reason"]
    tiny = points["hf-tiny"]
    assert len(tiny["step_seconds"]) == len(tiny["losses"]) == 3
    assert len(document["commands"]) == 2
    tokens, seconds = tiny["step_tokens"][1:], tiny["step_seconds"][1:]
    speeds = sorted(n / s for n, s in zip(tokens, seconds, strict=True))
    assert tiny["tokens_per_second"]["median"] == pytest.approx(sum(speeds) / 2)
    assert tiny["settings"]["layer_output_dtype"] == "float32"
    assert not list((tmp_path / "adapters").iterdir()), "adapters are not results"


def command(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_every_step_is_kept_at_once_and_a_bad_one_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.gpu.run_all.LEAST_SECONDS", 0.1)
    run = Run(tmp_path, 100)
    steps = [
        Step("weights", command("print('folder-of-weights')"), 60),
        Step("bad", command("import sys; print('said why'); sys.exit(3)"), 60),
        Step("slow", command("import time; time.sleep(99)"), 0.5),
        Step("absent", command("print('{weights}')"), 60, ("no_such_package",)),
        Step("good", command("print('{weights}')"), 60),
    ]
    kept: dict[str, Any] = {}
    for step in steps:
        run.do(step)
        kept = json.loads((tmp_path / "measurements.json").read_text(encoding="utf-8"))["steps"]
        assert step.name in kept
    assert [kept[step.name]["status"] for step in steps] == ["done", "failed", "failed", "not measured", "done"]
    assert kept["bad"]["reason"] == "exit status 3"
    assert kept["bad"]["output"] == "said why\n"
    assert kept["slow"]["reason"].startswith("not done after")
    assert kept["absent"]["reason"] == "no_such_package is not here"
    assert kept["good"]["output"] == "folder-of-weights\n"
    assert "said why" in (tmp_path / "measurements.html").read_text(encoding="utf-8")


def test_what_the_suites_measured_is_taken_over_with_their_pages(tmp_path: Path) -> None:
    summary = tmp_path / "results" / "throughput_8b" / "20260101" / "summary.json"
    summary.parent.mkdir(parents=True)
    measured = {"name": "decode", "values": [1.0, 3.0, 2.0], "unit": "tokens/s", "conditions": {"batch_size": 64}}
    summary.write_text(json.dumps({"measurements": [measured]}), encoding="utf-8")
    summary.with_name("report.html").write_text(f"of {ROOT}/suites/a.yaml", encoding="utf-8")
    run = Run(tmp_path, 100)
    run.write()
    assert run.document["throughput_8b"] == [measured]
    page = (tmp_path / "measurements.html").read_text(encoding="utf-8")
    assert "Throughput suite" in page and 'href="throughput_8b.html"' in page
    assert (tmp_path / "throughput_8b.html").read_text(encoding="utf-8") == "of suites/a.yaml"


def test_a_step_that_needs_weights_says_that_there_are_none(tmp_path: Path) -> None:
    run = Run(tmp_path, 100)
    run.do(Step("training", command("print('{weights}')"), 60))
    assert "there are no weights" in run.document["steps"]["training"]["reason"]


def test_only_files_with_the_marker_are_collected() -> None:
    assert "tests/gpu/test_text.py" in files_of("tests")
    assert files_of("vllm-tests") == ("tests/engine/test_vllm.py", "tests/servers/test_vllm_serve.py")


def point(name: str, speed: float, gib: float, **keys: Any) -> dict[str, Any]:
    quartiles = {"median": speed, "lower_quartile": speed, "upper_quartile": speed}
    settings = {
        "checkpointing_effective": "on",
        "use_gradient_checkpointing": "unsloth",
        "packing_effective": False,
        "padding_free_effective": False,
        "loftq_error_left": None,
        "layer_output_dtype": "bfloat16",
        "lora_dtype": "float32",
        "skipped_scaler_steps": 0,
    }
    return {
        "name": name,
        "status": "measured",
        "batch_size": 2,
        "accumulation": 4,
        "r": 16,
        "tokens_per_second": quartiles,
        "seconds_a_step": {key: 1000 / value for key, value in quartiles.items()},
        "peak_reserved_bytes": int(gib * 2**30),
        "peak_allocated_bytes": None,
        "nvml_process_bytes": None,
        "nvml_device_bytes": None,
        "step_seconds": [1.0, 2.0],
        "losses": [2.0, 1.0],
        "settings": settings,
        **keys,
    }


def test_savings_are_those_of_the_figures() -> None:
    points = [
        point("unsloth-a", 300, 6),
        point("hf-a", 200, 10),
        point("unsloth-b", 100, 6),
        {"name": "hf-b", "status": "failed"},
    ]
    (saving,) = savings(points)
    assert saving.name == "a"
    assert saving.speed == pytest.approx(1.5)
    assert saving.memory == pytest.approx(0.4)


def test_the_page_shows_figures_claims_and_what_is_missing() -> None:
    document = {
        "machine": {"date": "2026-01-01", "cpu": "a processor", "packages": {"torch": "2"}},
        "made": "today",
        "commands": ["python -m tests.gpu.run_all"],
        "steps": {"training": {"status": "done", "seconds": 3.0, "reason": "", "command": "python -m x"}},
        "training": {
            "commands": [],
            "points": [
                point("unsloth-a", 300, 6),
                point("hf-a", 200, 10),
                {"name": "hf-c", "status": "not measured", "reason": "<no> time"},
            ],
        },
        "engine_fast": [{"part": "fixed", "tokens_per_second": [10.0, 30.0, 20.0]}],
        "precision_8b": [],
    }
    page = render(document)
    assert "1.50×" in page and "40.0%" in page
    assert "2×" in page and "70.0%" in page, "what unsloth claims stands beside it"
    assert "&lt;no&gt; time" in page and "<no> time" not in page
    assert 'href="precision_8b.html"' in page and "throughput_8b" not in page
    assert page == render(document)


def test_parts_of_other_shapes_become_lines() -> None:
    entries = [
        {"part": "decode", "a": 1, "b": [1.0, 3.0, 2.0]},
        {"name": "x", "deep": {"c": 1}, "conditions": {"d": 2}},
    ]
    expected = [("decode", [("a", 1), ("b", 2.0)]), ("x", [("d", 2)])]
    assert lines_of(entries) == lines_of({"points": entries}) == expected
    assert lines_of(None) == []


def test_a_curve_leaves_out_what_is_not_finite() -> None:
    drawn = curve([3.0, float("nan"), float("inf"), 1.0])
    assert "3.000 → 1.000" in drawn
    assert "nan" not in drawn and "inf" not in drawn
    assert curve([1.0]) == ""
