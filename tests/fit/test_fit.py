"""`harness fit` through its door: tables, lengths, advice that helps, and faults."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.fit.advice import changes, until_it_fits
from harness.fit.gpus import GPUS, Gpu, find_gpu
from harness.fit.jobs import SuiteJobs, jobs_of
from harness.fit.memory import predict
from harness.suite_file import load_suite
from tests.tiny_models import make_tokenizer

PROJECT = Path(__file__).parents[2]
CONFIG = PROJECT / "suites/configs/llama31_8b"
SUITE = """\
name: eight
models:
  base: {path: llama, weights: random, dtype: bfloat16, quantization: 4bit, prompt_format: alpaca_ko}
  tuned: {like: base, adapter: {trained_by: lora}, compare_to: base}
  whole: {like: base, quantization: none}
training:
  lora:
    model: whole
    data: {path: rows.jsonl}
    trainer: {max_steps: 5, optim: adamw_torch, per_device_train_batch_size: 8}
performance:
  throughput: {models: [base, tuned], batch_sizes: [1, 64], prompt_tokens: 200, new_tokens: 128}
  precision: {model: whole, dtypes: [bfloat16, float32], training_steps: 3}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama/config.json").write_bytes((CONFIG / "config.json").read_bytes())
    rows = [{"instruction": "질문", "input": "", "output": "답" * length} for length in (1, 400)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return tmp_path / "suite.yaml"


def jobs(suite: Path, gpu: Gpu | None = None, *overrides: str) -> SuiteJobs:
    return jobs_of(load_suite(suite, overrides), gpu)


def fit(suite: Path, *options: str, columns: int = 160) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "fit", str(suite), *options]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=PROJECT, env={"COLUMNS": str(columns), "PATH": ""}
    )


def test_the_table_has_every_job_and_the_smallest_gpu_for_it(suite: Path) -> None:
    done = fit(suite)
    assert done.returncode == 0, done.stderr
    _, _, table = done.stdout.partition("─ \n")
    lines = (re.split(r" {2,}", line.strip(), maxsplit=1) for line in table.splitlines() if line.startswith(" "))
    rows = {name: cells[0].split() for name, *cells in lines if name}
    assert list(rows) == [
        "train lora",
        "speed of base",
        "speed of tuned",
        "speed in bfloat16",
        "training speed in bfloat16",
        "speed in float32",
        "training speed in float32",
    ]
    assert rows["speed in bfloat16"][0] == "14.96"
    assert rows["speed of base"][-1] == "T4"


def test_figures_are_whole_in_a_terminal_of_80_columns(suite: Path) -> None:
    wide, narrow = (fit(suite, "--gpu", "T4", columns=columns).stdout for columns in (160, 80))
    figures = [word for word in wide.split() if word.replace(".", "").removeprefix("-").isdigit()]
    assert figures == [word for word in narrow.split() if word.replace(".", "").removeprefix("-").isdigit()]
    assert max(map(len, narrow.split("\n\n")[0].splitlines())) <= 80 and "…" not in narrow


def test_on_a_small_gpu_it_says_what_to_change_and_exits_1(suite: Path) -> None:
    done = fit(suite, "--gpu", "t4")
    assert done.returncode == 1
    assert "train lora does not fit on T4. Each of these alone saves:" in done.stdout
    assert "-o training.lora.load_in_4bit=true" in done.stdout
    assert "T4 does not compute in bfloat16: use dtype float16." in done.stdout


@pytest.mark.parametrize(
    ("section", "status", "left_out", "sentence"),
    [
        (
            "precision: {model: base, dtypes: [bfloat16, float32], training_steps: 0}",
            0,
            ["speed in float32"],
            "speed in float32 does not fit on L4: a run would leave out this job and go on.",
        ),
        (
            "throughput: {batch_sizes: [1, 4096], prompt_tokens: 200}",
            0,
            ["speed of base"],
            "speed of base does not fit on L4: a run would leave out points as large as this and go on.",
        ),
        ("throughput: {batch_sizes: [4096], prompt_tokens: 200}", 1, [], "speed of base does not fit on L4. Each"),
    ],
)
def test_what_a_run_leaves_out_is_no_failure(
    suite: Path, section: str, status: int, left_out: list[str], sentence: str
) -> None:
    model = "{path: llama, weights: random, dtype: bfloat16}"
    suite.write_text(f"name: small\nmodels: {{base: {model}}}\nperformance:\n  {section}\n", encoding="utf-8")
    done = fit(suite, "--gpu", "L4")
    assert done.returncode == status and sentence in done.stdout
    rows = (re.split(r" {2,}", line.strip())[0] for line in done.stdout.splitlines() if "left out" in line[-12:])
    assert list(rows) == left_out


def test_what_is_advised_together_makes_it_fit(suite: Path) -> None:
    gpu = GPUS["T4"]
    job = jobs(suite, gpu).jobs[0]
    assert predict(job.configuration).process > gpu.usable_bytes
    advised = until_it_fits(job, gpu.usable_bytes)
    assert advised
    overrides = [one for change in advised for one in change.overrides]
    changed = jobs(suite, gpu, *overrides).jobs[0]
    assert predict(changed.configuration).process <= gpu.usable_bytes


def test_every_change_saves_what_it_says(suite: Path) -> None:
    job = jobs(suite).jobs[0]
    before = predict(job.configuration).process
    found = changes(job)
    assert {change.overrides[0].partition("=")[0].rpartition(".")[2] for change in found} >= {
        "use_gradient_checkpointing",
        "per_device_train_batch_size",
        "load_in_4bit",
    }
    for change in found:
        changed = jobs(suite, None, *change.overrides).jobs[0]
        after = predict(changed.configuration).process
        assert before - after == pytest.approx(change.saves, rel=0.02)
        assert change.saves > 0


def test_rows_are_read_where_a_tokenizer_is_at_hand(suite: Path) -> None:
    make_tokenizer().save_pretrained(suite.parent / "llama")
    job = jobs(suite).jobs[0]
    assert 400 < job.configuration.row_tokens < 2048
    assert "the longest row" in job.notes[0]
    packed = jobs(suite, None, "training.lora.trainer.packing=true").jobs[0]
    assert packed.configuration.row_tokens == 2048
    text = SUITE.replace("{path: rows.jsonl}", "{hub: someone/rows}")
    suite.write_text(text, encoding="utf-8")
    job = jobs(suite).jobs[0]
    assert job.configuration.row_tokens == 2048
    assert "upper bound: the rows are on a hub" in job.notes[0]


def test_an_automatic_batch_is_the_largest_that_fits(suite: Path) -> None:
    row = {"category": "c", "source": "test", "licence": "Apache-2.0", "expected": "comply", "pair_id": None}
    prompts = [{**row, "id": f"p{number}", "text": "질문 " * 20} for number in range(100)]
    (suite.parent / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in prompts), encoding="utf-8")
    suite.write_text(
        "name: answers\nprompts: [prompts.jsonl]\nmodels:\n"
        "  base: {path: llama, dtype: bfloat16, prompt_format: alpaca_ko}\n",
        encoding="utf-8",
    )
    whole = jobs(suite).jobs[0].configuration
    assert whole.batch_size == 100
    gpu = find_gpu("L4")
    halved = jobs(suite, gpu).jobs[0].configuration
    assert halved.batch_size in (50, 25, 12, 6, 3)
    assert predict(halved).process <= gpu.usable_bytes
    fixed = jobs(suite, gpu, "sampling.batch_size=64").jobs[0].configuration
    assert fixed.batch_size == 64


def test_what_cannot_be_predicted_is_said(suite: Path) -> None:
    text = SUITE.replace(
        "whole: {like: base, quantization: none}", "whole: {like: base, quantization: none, device: cpu}"
    )
    suite.write_text(text, encoding="utf-8")
    found = jobs(suite)
    assert [job.name for job in found.jobs] == ["speed of base", "speed of tuned"]
    assert found.left_out == ("whole is not predicted: it runs on the CPU.",)


@pytest.mark.parametrize(
    ("options", "sentence", "status"),
    [
        (["--gpu", "H20O"], "--gpu: there is no GPU 'H20O' in the table. Did you mean 'H200'?", 3),
        (["-o", "models.base.path=no/such-model"], "no/such-model: its config.json is not in the local hub cache", 3),
        (["-o", "models.base.dtpye=float16"], "Did you mean 'dtype'?", 2),
    ],
)
def test_faults_are_one_sentence(suite: Path, options: list[str], sentence: str, status: int) -> None:
    done = fit(suite, *options)
    assert done.returncode == status
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_it_loads_no_torch(suite: Path) -> None:
    program = (
        "import sys; from harness.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules or 'transformers' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "fit", str(suite), "--gpu", "H200"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.stderr.strip().splitlines()[-1] == "False", done.stderr


def test_an_adapter_s_own_rank_counts_and_a_damaged_configuration_is_a_sentence(suite: Path) -> None:
    adapter = suite.parent / "adapter"
    adapter.mkdir()
    override = f"models.tuned.adapter={{path: {adapter}}}"
    written = adapter / "adapter_config.json"
    for targets, notes in ((["q_proj"], ""), ("all-linear", "target_modules 'all-linear' taken as all seven")):
        written.write_text(json.dumps({"r": 3, "target_modules": targets}))
        job = next(one for one in jobs(suite, None, override).jobs if one.name == "speed of tuned")
        assert job.configuration.rank == 3 and notes in "; ".join(job.notes)
        assert len(job.configuration.targets) == (1 if targets == ["q_proj"] else 7)
    written.write_text('{"r": 3,')
    done = fit(suite, "-o", override)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "adapter_config.json: it is not the configuration of a LoRA adapter" in done.stderr
