"""Servers that the run starts: the command line, and that they come, serve and go, whatever happens to the run.

vLLM does not run without a GPU, so a stand-in (see `stand_in`) takes its command line.
"""

from __future__ import annotations

import signal
import stat
import sys
from pathlib import Path

import pytest

from harness.errors import NotAvailable
from harness.servers.commands import Hosted, server_command
from harness.suite import Model, Server
from tests.servers.runs import (
    REPOSITORY,
    answers,
    finished_page,
    processes_in,
    records,
    run,
    start,
    wait_for_answers,
    wait_until_gone,
    write_adapter,
    write_prompts,
)

MODELS = (
    "  base: {backend: openai_http, server: gpu, path: model, dtype: bfloat16, prompt_format: alpaca_ko}\n"
    "  low: {like: base, adapter: {path: low}, compare_to: base}\n"
)
MORE = (
    "  high: {like: base, adapter: {path: high}, compare_to: base}\n"
    "performance: {throughput: {models: [low], batch_sizes: [2], prompt_tokens: 8, new_tokens: 4, repeats: 3}}\n"
)


def write_suite(folder: Path, models: str) -> Path:
    """Write a suite of models on one server, with twelve prompts in batches of two."""
    vllm = folder / "vllm"
    vllm.write_text(f'#!/bin/sh\ncd "{REPOSITORY}" && exec "{sys.executable}" -m tests.servers.stand_in "$@"\n')
    vllm.chmod(vllm.stat().st_mode | stat.S_IXUSR)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    write_adapter(folder / "low")
    write_adapter(folder / "high", r=40)
    write_prompts(folder / "prompts.jsonl", [f"질문 {number}" for number in range(12)])
    (folder / "suite.yaml").write_text(
        "name: served\n"
        "prompts: [prompts.jsonl]\n"
        "servers:\n"
        "  gpu: {kind: vllm, executable: ./vllm, arguments: [--gpu-memory-utilization, '0.5'], attempts: 1,\n"
        "    start_timeout_seconds: 60}\n"
        "sampling: {batch_size: 2, max_new_tokens: 16}\n"
        "models:\n" + models,
        encoding="utf-8",
    )
    return folder / "suite.yaml"


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base and an adapter on one server."""
    monkeypatch.setenv("RUN_OF", str(tmp_path))
    return write_suite(tmp_path, MODELS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a finished run of a base and two adapters with the speed of one."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUN_OF", str(folder))
        return finished_page(run(write_suite(folder, MODELS + MORE)))


def test_one_server_has_the_base_and_all_adapters_and_is_gone_at_the_end(finished: Path) -> None:
    results = finished.parents[2]
    for model in ("base", "low", "high"):
        assert {row["text"] for row in answers(results, model).values()} == {f"{model}의 답"}
        assert len(answers(results, model)) == 12
    log = (finished.parent / "servers" / "gpu.log").read_text(encoding="utf-8")
    assert log.count("$ ") == 1 and "The server ended with signal SIGTERM." in log
    assert wait_until_gone(results.parent) == []


def test_speed_is_what_a_client_sees_and_memory_is_said_to_be_out_of_sight(finished: Path) -> None:
    found = records(finished.parents[2], "throughput-low")
    measured = {row["name"]: row for row in found if row["kind"] == "measurement"}
    assert {"time_to_first_token_seconds", "inter_token_latency_seconds", "served_tokens_per_second"} <= set(measured)
    assert not any("bytes" in name for name in measured)
    first, between = measured["time_to_first_token_seconds"], measured["inter_token_latency_seconds"]
    assert len(first["values"]) == len(between["values"]) == 2 * 3
    assert all(value > 0 for value in first["values"]) and not first["not_comparable"]
    assert first["method"].endswith("tokens out 4 for 4 wanted")
    (event,) = [row for row in found if row["kind"] == "event"]
    assert event["code"] == "memory_not_measured" and "server 'gpu'" in event["message"]
    assert event["message"] in finished.read_text(encoding="utf-8").replace("&#39;", "'")


def test_a_server_that_dies_in_mid_run_is_told_with_its_last_words_and_the_run_goes_on_later(suite: Path) -> None:
    once = suite.parent / "once"
    once.touch()
    died = run(suite, die_at=7, die_once=str(once))
    assert died.returncode == 5, died.stderr
    assert "Server 'gpu' (vllm serve) ended in mid-run" in died.stderr
    assert "engine core died" in died.stderr and "signal SIGKILL" in died.stderr and "Traceback" not in died.stderr
    assert wait_until_gone(suite.parent) == []
    before = {key: row for key, row in answers(suite.parent / "results", "base").items() if not row["error"]}
    assert 0 < len(before) < 12
    done = run(suite, die_at=7, die_once=str(once))
    assert "Going on with" in done.stderr
    finished_page(done)
    after = answers(suite.parent / "results", "base")
    assert len(after) == 12 and all(after[key] == row for key, row in before.items())


def test_a_server_that_cannot_start_is_told_with_its_last_words(suite: Path) -> None:
    failed = run(suite, die_before_ready=True)
    assert failed.returncode == 5
    assert "Server 'gpu' (vllm serve) ended before it was ready" in failed.stderr
    assert "no kernel image" in failed.stderr and "exit status 3" in failed.stderr


def test_a_server_that_does_not_become_ready_is_given_up_and_ended(suite: Path) -> None:
    failed = run(suite, "-o", "servers.gpu.start_timeout_seconds=2", never_ready=True)
    assert failed.returncode == 5
    assert "was not ready within 2 seconds" in failed.stderr
    assert wait_until_gone(suite.parent) == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_way_of_ending_the_run_leaves_a_server(suite: Path, stop: signal.Signals) -> None:
    process = start(suite, wait_seconds=0.2)
    wait_for_answers(suite.parent / "results", 2)
    assert len(processes_in(suite.parent)) >= 4  # run, keeper, server, the server's worker
    process.send_signal(stop)
    _, errors = process.communicate(timeout=60)
    assert wait_until_gone(suite.parent) == []
    if stop == signal.SIGINT:
        assert process.returncode == 130 and "Stopped during generate-base" in errors
    assert "Going on with" in (done := run(suite)).stderr
    finished_page(done)


def test_a_server_that_will_not_stop_is_killed(suite: Path) -> None:
    finished_page(run(suite, ignore_sigterm=True))
    assert wait_until_gone(suite.parent) == []


def hosted(name: str, adapter: Path | None = None, place: str = "/models/base", **model: object) -> Hosted:
    settings = Model.model_validate({"backend": "openai_http", "path": place, "dtype": "bfloat16", **model})
    return Hosted(name, settings, place, str(adapter) if adapter else None)


def test_the_command_line_of_vllm(tmp_path: Path) -> None:
    low, high = (
        write_adapter(tmp_path / "low"),
        write_adapter(tmp_path / "high", r=8, rank_pattern={"q": 40}, alpha_pattern={"q": 40}),
    )
    settings = Server(kind="vllm", executable="true", arguments=("--gpu-memory-utilization", "0.5"))
    models = [hosted("base"), hosted("low", low), hosted("high", high)]
    made = server_command("gpu", settings, models, 8123, tmp_path)
    text = " ".join(made.arguments[1:])
    assert text.startswith("serve /models/base --served-model-name base --enable-lora --lora-modules ")
    assert f"low={low} high={high} --max-loras 2 --max-lora-rank 64 --host 127.0.0.1 --port 8123" in text
    assert "--dtype bfloat16 --max-model-len 2048 --generation-config vllm" in text
    assert text.endswith("--gpu-memory-utilization 0.5")
    assert made.names == {"base": "base", "low": "low", "high": "high"}


def test_the_command_line_of_vllm_without_adapters_but_quantized(tmp_path: Path) -> None:
    model = hosted("base", quantization="4bit", revision="main", place="org/model")
    made = server_command("gpu", Server(kind="vllm", executable="true"), [model], 1, tmp_path)
    text = " ".join(made.arguments)
    assert "lora" not in text and "--quantization bitsandbytes" in text and "--revision main" in text


def test_an_adapter_that_vllm_cannot_serve_is_refused_by_name(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "dora", use_dora=True)
    with pytest.raises(NotAvailable, match="models.tuned: vLLM takes no adapter with DoRA"):
        server_command("gpu", Server(kind="vllm", executable="true"), [hosted("tuned", adapter)], 1, tmp_path)


def test_a_command_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    settings = Server(kind="vllm", executable="no-such-server")
    with pytest.raises(NotAvailable, match="servers.gpu: there is no command 'no-such-server'"):
        server_command("gpu", settings, [hosted("base")], 1, tmp_path)


def test_the_command_line_of_transformers(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    adapter = write_adapter(tmp_path / "adapter")
    models = [hosted("base", None, str(base)), hosted("tuned", adapter, str(base), device="cpu")]
    made = server_command("here", Server(kind="transformers", executable="true"), models, 8123, tmp_path / "links")
    assert made.arguments[1:6] == ("serve", "--host", "127.0.0.1", "--port", "8123")
    assert made.names == {"base": str(base), "tuned": str(tmp_path / "links" / "tuned")}
    linked = {file.name: file.resolve() for file in (tmp_path / "links" / "tuned").iterdir()}
    assert linked == {
        "config.json": base / "config.json",
        "adapter_config.json": adapter / "adapter_config.json",
        "adapter_model.safetensors": adapter / "adapter_model.safetensors",
    }
