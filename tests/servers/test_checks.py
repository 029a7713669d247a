"""Faults in a suite's servers and served models, each one sentence at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InvalidInput
from harness.plan import make_plan
from harness.records import Environment
from harness.suite_file import LoadedSuite, load_suite
from tests.servers.runs import write_adapter, write_prompts

EXTERNAL = """
name: external
prompts: [prompts.jsonl]
servers:
  far: {kind: external, endpoint: "http://127.0.0.1:8000/v1", api_key_env: SERVER_KEY}
models:
  base: {backend: openai_http, server: far, served_name: org/base, prompt_format: alpaca_ko}
  tuned: {like: base, served_name: safety, compare_to: base}
"""
CHILD = """
name: child
prompts: [prompts.jsonl]
servers:
  near: {kind: vllm}
models:
  base: {backend: openai_http, server: near, path: model, prompt_format: alpaca_ko}
  tuned: {like: base, adapter: {path: adapter}, compare_to: base}
"""
MACHINE = Environment(
    python="3.11", platform="", cpu="", cpu_cores=1, memory_bytes=1, gpus=(), packages={}, git_commit=None,
    git_dirty=None,
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_prompts(tmp_path / "prompts.jsonl", ["하나", "둘"])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    write_adapter(tmp_path / "adapter")
    return tmp_path


def load(text: str, *overrides: str) -> LoadedSuite:
    Path("suite.yaml").write_text(text, encoding="utf-8")
    return load_suite(Path("suite.yaml"), overrides)


@pytest.mark.parametrize("text", [EXTERNAL, CHILD, CHILD.replace("vllm", "transformers")])
def test_good_suites_have_no_fault(text: str) -> None:
    assert set(load(text).suite.models) == {"base", "tuned"}


@pytest.mark.parametrize(
    ("text", "old", "new", "key", "problem"),
    [
        (EXTERNAL, "server: far, ", "", "models.base.server", "needs the name of a server"),
        (EXTERNAL, "server: far", "server: fra", "models.base.server", "no server 'fra'. Did you mean 'far'?"),
        (EXTERNAL, ', endpoint: "http://127.0.0.1:8000/v1"', "", "servers.far.endpoint", "needs its base URL"),
        (EXTERNAL, "served_name: org/base, ", "", "models.base.served_name", "needs the name by which"),
        (EXTERNAL, "served_name: safety, ", "", "models.tuned.served_name", "'org/base' as for 'base'"),
        (EXTERNAL, "served_name: safety", "device: cpu, served_name: safety", "models.tuned.device", "there already"),
        (EXTERNAL, "served_name: safety", "served_name: x, adapter: {path: adapter}", "models.tuned.adapter", "all"),
        (EXTERNAL, "api_key_env: SERVER_KEY", "arguments: [-v]", "servers.far.arguments", "that the harness starts"),
        (EXTERNAL, "api_key_env: SERVER_KEY", "extra_request: {prompt: x}", "servers.far.extra_request", "not set"),
        (CHILD, "path: model, ", "", "models.base.path", "local folder or a hub name"),
        (CHILD, "kind: vllm", "kind: vllm, endpoint: 'http://x/v1'", "servers.near.endpoint", "chooses a free port"),
        (CHILD, "path: adapter", "path: adapter, mode: merged", "models.tuned.adapter.mode", "attached"),
        (CHILD, "path: adapter", "path: ./adaptor", "models.tuned.adapter.path", "Did you mean 'adapter'?"),
        (CHILD, "compare_to: base", "compare_to: base, dtype: bfloat16", "models.tuned.dtype", "a server each"),
        (CHILD, "path: model", "path: model, device: cuda", "models.base.device", "vLLM takes the GPU that it finds"),
        (CHILD, "path: model", "path: model, served_name: x", "models.base.served_name", "names of its own"),
        (CHILD, "path: model", "path: model, quantization: 8bit", "models.base.quantization", "4bit only"),
    ],
)  # fmt: skip
def test_a_fault_is_one_sentence_at_its_key(text: str, old: str, new: str, key: str, problem: str) -> None:
    assert text.count(old) == 1
    with pytest.raises(InvalidInput) as caught:
        load(text.replace(old, new))
    named = [fault for fault in caught.value.faults if fault.key == key]
    assert len(named) == 1 and problem in str(named[0]), str(caught.value)
    assert named[0].line is not None


def test_an_adapter_for_transformers_needs_a_local_base() -> None:
    text = CHILD.replace("vllm", "transformers").replace("path: model", "path: org/model")
    with pytest.raises(InvalidInput, match=r"models\.tuned\.adapter: .*local folder only"):
        load(text)


def test_a_model_without_a_server_names_none() -> None:
    text = CHILD.replace("backend: openai_http, ", "")
    with pytest.raises(InvalidInput, match="only a model with backend 'openai_http' has this"):
        load(text)


@pytest.mark.parametrize(
    ("study", "problem"),
    [
        ("lm_eval: {tasks: [kobest_copa]}", "'base' is served, and a server does not give the probabilities"),
        ("performance: {precision: {model: base, dtypes: [float32, bfloat16]}}", "its precision is the server's"),
        ("performance: {throughput: {}, roofline: true}", "its work cannot be counted"),
    ],
)
def test_what_a_server_cannot_give_is_refused(study: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(CHILD + study + "\n")
    assert problem in str(caught.value)


def test_the_others_can_still_be_tested_by_lm_eval() -> None:
    load(CHILD + "  here: {path: model}\nlm_eval: {tasks: [kobest_copa], models: [here]}\n")


def job_ids(text: str, *overrides: str) -> dict[str, str]:
    loaded = load(text, *overrides)
    return {job.model: job.id for job in make_plan(loaded, loaded.prompts, MACHINE).jobs}


def test_jobs_of_an_external_server_are_told_apart_by_place_and_name() -> None:
    first = job_ids(EXTERNAL)
    moved = job_ids(EXTERNAL, "servers.far.endpoint=http://127.0.0.1:9000/v1")
    renamed = job_ids(EXTERNAL, "models.base.served_name=org/other")
    revised = job_ids(EXTERNAL, "models.base.revision=v2")
    ids = [one[model] for one in (first, moved, renamed, revised) for model in ("base", "tuned")]
    assert len(set(ids)) == 7 and renamed["tuned"] == first["tuned"] != revised["tuned"]


def test_jobs_of_a_child_change_with_contents_and_arguments_but_not_with_patience(folder: Path) -> None:
    first = job_ids(CHILD)
    assert first == job_ids(CHILD, "servers.near.timeout_seconds=5", "servers.near.attempts=9")
    assert first["base"] != job_ids(CHILD, "servers.near.arguments=[--enforce-eager]")["base"]
    write_adapter(folder / "other", r=8)
    tuned = job_ids(CHILD, "models.tuned.adapter.path=other")
    assert tuned["tuned"] != first["tuned"] and tuned["base"] == first["base"]
    (folder / "model" / "config.json").write_text('{"a": 1}')
    assert set(job_ids(CHILD).values()).isdisjoint(first.values())


def test_batches_of_a_server_are_short_enough_to_resume_on(folder: Path) -> None:
    write_prompts(folder / "prompts.jsonl", [f"질문 {number}" for number in range(20)])
    loaded = load(CHILD, "servers.near.concurrency=2")
    job = make_plan(loaded, loaded.prompts, MACHINE).jobs[0]
    assert [len(batch) for batch in job.batches] == [8, 8, 4]
