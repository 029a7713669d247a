"""A real `transformers serve` with tiny-ko on the CPU, started, killed and stopped by the run."""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path

import pytest

import harness.tiny_ko
from tests.servers.runs import (
    answers,
    finished_page,
    processes_in,
    records,
    run,
    start,
    wait_for_answers,
    wait_until_gone,
    write_prompts,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openai") is None, reason="`transformers serve` needs transformers[serving]"
)
TINY_KO = Path(harness.tiny_ko.__file__).parent / "model"


def make_adapter(folder: Path) -> Path:
    """Save an adapter for tiny-ko with random, non-zero weights: it changes nearly every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(TINY_KO, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapter"))


def write_suite(folder: Path, adapter: Path, *, with_hf: bool) -> Path:
    """Write a suite of tiny-ko and the adapter behind the server; with hf also in processes of the harness."""
    questions = [
        "하늘은 왜 파란가요?",
        "안녕하세요",
        "물은 몇 도에서 끓나요?",
        "수도는 어디인가요?",
        "뭐 먹을까요?",
        "고마워요",
    ]
    write_prompts(folder / "prompts.jsonl", questions)
    model = f"path: {TINY_KO}, device: cpu, max_seq_length: 256"
    in_process = (
        f"  hf_base: {{prompt_format: alpaca_ko, {model}}}\n"
        f"  hf_tuned: {{like: hf_base, adapter: {{path: {adapter}}}, compare_to: hf_base}}\n"
        f"  hf_talks: {{like: hf_base, prompt_format: chat_template}}\n"
        "performance:\n"
        "  throughput: {models: [tuned], batch_sizes: [2], prompt_tokens: 12, new_tokens: 6, repeats: 3}\n"
    )
    (folder / "suite.yaml").write_text(
        "name: served\n"
        "prompts: [prompts.jsonl]\n"
        "servers:\n"
        "  here: {kind: transformers, attempts: 1, timeout_seconds: 60}\n"
        "sampling: {batch_size: 2, max_new_tokens: 20}\n"
        "models:\n"
        f"  base: {{backend: openai_http, server: here, prompt_format: alpaca_ko, {model}}}\n"
        f"  tuned: {{like: base, adapter: {{path: {adapter}}}, compare_to: base}}\n"
        f"  talks: {{like: base, prompt_format: chat_template}}\n" + (in_process if with_hf else ""),
        encoding="utf-8",
    )
    return folder / "suite.yaml"


@pytest.fixture(autouse=True)
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mark the processes of this test's run, so that those left behind can be found."""
    monkeypatch.setenv("RUN_OF", str(tmp_path))


def test_served_answers_are_those_of_hf_and_speed_comes_from_the_stream(tmp_path: Path, adapter: Path) -> None:
    results = tmp_path / "results"
    page = finished_page(run(write_suite(tmp_path, adapter, with_hf=True)))
    for name in ("base", "tuned", "talks"):
        served, here = answers(results, name), answers(results, f"hf_{name}")
        assert len(served) == 6 and served.keys() == here.keys()
        for prompt, row in served.items():
            same = ("text", "finish_reason", "prompt_tokens", "new_tokens", "error")
            assert [row[key] for key in same] == [here[prompt][key] for key in same]
    assert [row["text"] for row in answers(results, "base").values()] != [
        row["text"] for row in answers(results, "tuned").values()
    ]
    measured = {row["name"]: row for row in records(results, "throughput-tuned") if row["kind"] == "measurement"}
    first, between = measured["time_to_first_token_seconds"], measured["inter_token_latency_seconds"]
    assert len(first["values"]) == len(between["values"]) == 6
    assert all(value > 0 for value in (*first["values"], *between["values"]))
    assert "tokens out 6 for 6 wanted" in first["method"] and not first["not_comparable"]
    assert wait_until_gone(tmp_path) == []
    text = page.read_text(encoding="utf-8")
    assert "unknown (served)" in text and "No memory figures of tuned" in text


def test_a_server_killed_in_mid_run_is_told_and_the_same_command_goes_on(tmp_path: Path, adapter: Path) -> None:
    suite, results = write_suite(tmp_path, adapter, with_hf=False), tmp_path / "results"
    process = start(suite)
    wait_for_answers(results, 2)
    servers = [one for one in processes_in(tmp_path) if "serve" in one.cmdline() and "--port" in one.cmdline()]
    server = next(one for one in servers if "keeper.py" not in " ".join(one.cmdline()))
    server.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 5, errors
    assert "Server 'here' (transformers serve) ended in mid-run" in errors and "signal SIGKILL" in errors
    assert wait_until_gone(tmp_path) == []
    done = run(suite)
    assert "Going on with" in done.stderr
    finished_page(done)
    assert all(row["error"] is None for name in ("base", "tuned", "talks") for row in answers(results, name).values())
