"""Whole runs on a real Ray cluster: the same records as on one machine, nodes killed, Ctrl-C, failures, adapters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.adapter_cache import CachedAdapter, lookup
from harness.tiny_ko import MODEL_FOLDER
from tests.executors.conftest import Nodes
from tests.executors.suites import PROMPT, answers, scripted_suite, write_lines
from tests.grading.scripted_server import Scripted, ScriptedServer, Seen, chat

REPOSITORY = Path(__file__).parents[2]
SECONDS_PER_ANSWER = 0.2
MODELS = ("base", "tuned")
PROMPTS = [f"p{number}" for number in range(12)]


def command(suite: Path, *options: str, results: str = "results") -> list[str]:
    return [sys.executable, "-m", "harness", "run", str(suite), "--results", str(suite.parent / results), *options]


def start(nodes: Nodes | None, suite: Path, *options: str, results: str = "results") -> subprocess.Popen[str]:
    variables = {**os.environ, "RAY_ADDRESS": nodes.address} if nodes else dict(os.environ)
    where = ["--executor", "ray"] if nodes else []
    return subprocess.Popen(
        command(suite, *where, *options, results=results),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=variables,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def run(nodes: Nodes | None, suite: Path, *options: str, results: str = "results") -> Path:
    """Run to the end; return the run's folder."""
    status, out, err = end(start(nodes, suite, *options, results=results))
    assert status == 0, err
    page = Path(out.strip())  # nothing else may be on standard output
    assert page.is_file()
    return page.parent


def statuses(folder: Path) -> dict[str, dict[str, Any]]:
    """The last line of every job's file."""
    paths = folder.glob("jobs/*/records.jsonl")
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8").splitlines()[-1]) for path in paths}


def codes(folder: Path) -> Counter[str]:
    lines = [line for path in folder.glob("jobs/*/records.jsonl") for line in path.read_text("utf-8").splitlines()]
    return Counter(record["code"] for line in lines if (record := json.loads(line))["kind"] == "event")


@pytest.fixture(scope="module")
def two_nodes(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    """One node that sees the run's folders and one that does not."""
    nodes.add()
    nodes.add(own_folder=tmp_path_factory.mktemp("node"))
    return nodes


class SlowServer:
    """Answers each prompt of each model in its own words, after a while."""

    def __init__(self, seconds_per_answer: float = SECONDS_PER_ANSWER) -> None:
        self.seconds_per_answer = seconds_per_answer
        self.broken: set[str] = set()
        self._server = ScriptedServer(self._reply)
        self.endpoint = self._server.endpoint
        self.close = self._server.close

    def _reply(self, number: int, seen: Seen) -> Scripted:
        if seen.body["model"] in self.broken:
            return Scripted("no such model", status=404)
        body = chat(f"{seen.body['model']}: {seen.message}에 답합니다.").body
        return Scripted(body, wait_seconds=self.seconds_per_answer)

    def asked(self) -> Counter[tuple[str, str]]:
        """How often each model was asked each prompt."""
        return Counter((seen.body["model"], seen.message) for seen in self._server.requests)


@pytest.fixture
def server() -> Iterator[SlowServer]:
    slow = SlowServer()
    yield slow
    slow.close()


def served_suite(folder: Path, server: SlowServer, models: int) -> Path:
    """A suite of models behind the slow server, asked one prompt at a time."""
    write_lines(folder / "prompts.jsonl", [{**PROMPT, "id": one, "text": one} for one in PROMPTS])
    lines = [f"  m{one}: {{backend: openai_http, server: slow, served_name: m{one}}}\n" for one in range(models)]
    (folder / "suite.yaml").write_text(
        "name: served\nprompts: [prompts.jsonl]\nsampling: {batch_size: 1, max_new_tokens: 50}\n"
        f"servers:\n  slow: {{kind: external, endpoint: '{server.endpoint}'}}\nmodels:\n" + "".join(lines)
    )
    return folder / "suite.yaml"


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def written(suite: Path) -> dict[str, int]:
    """Number of stored answers per job."""
    found = [found for path in suite.parent.glob("results/served/*") for found in answers(path).items()]
    return {job: len(rows) for job, rows in found}


def complete(folder: Path, models: int) -> bool:
    """Whether every model has one answer of its own to every prompt."""
    rows = [row for rows in answers(folder).values() for row in rows]
    return sorted(rows) == sorted(
        (f"m{one}", prompt, f"m{one}: {prompt}에 답합니다.") for one in range(models) for prompt in PROMPTS
    )


def test_the_same_plan_gives_the_same_records_as_on_one_machine(two_nodes: Nodes, tmp_path: Path) -> None:
    suite = scripted_suite(tmp_path, models=4, prompts=8)
    here, there = run(None, suite, results="here"), run(two_nodes, suite, results="there")
    assert answers(here) == answers(there) != {}
    plans = [json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in (here, there)]
    assert plans[0]["plan_hash"] == plans[1]["plan_hash"]
    assert {status["node"] for status in statuses(here).values()} == {None}
    assert len({status["node"] for status in statuses(there).values()}) == 2
    assert list(there.glob("jobs/*/log.txt"))
    assert not list((tmp_path / "there").glob(".cluster-*"))


def test_a_killed_nodes_job_goes_on_elsewhere_from_its_finished_batches(
    two_nodes: Nodes, tmp_path: Path, server: SlowServer
) -> None:
    suite = served_suite(tmp_path, server, models=3)
    victim = two_nodes.add()
    process = start(two_nodes, suite)
    wait_for(lambda: sum(count >= 3 for count in written(suite).values()) == 3, process)
    two_nodes.kill(victim)
    status, out, err = end(process)
    assert status == 0, err
    folder = Path(out.strip()).parent
    assert complete(folder, models=3)
    assert codes(folder)["node_lost"] == 1 and "Done again: answers of m" in err
    asked = server.asked()
    twice = [key for key, count in asked.items() if count > 1 and key[1] in PROMPTS]
    assert len(twice) <= 2  # the one that was being asked, and one whose answer was on its way


def test_ctrl_c_ends_all_jobs_and_the_same_command_goes_on(
    two_nodes: Nodes, tmp_path: Path, server: SlowServer
) -> None:
    suite = served_suite(tmp_path, server, models=2)
    process = start(two_nodes, suite)
    wait_for(lambda: sum(written(suite).values()) >= 6, process)
    process.send_signal(signal.SIGINT)
    status, _, err = end(process)
    assert status == 130 and "The same command goes on from here." in err and "Traceback" not in err
    kept, asked = written(suite), server.asked().total()
    time.sleep(3 * SECONDS_PER_ANSWER)
    assert server.asked().total() <= asked + 2  # no job lives on
    folder = run(two_nodes, suite)
    assert complete(folder, models=2)
    assert kept == {job: len(rows[: kept[job]]) for job, rows in answers(folder).items()}
    assert server.asked().total() <= 2 * len(PROMPTS) + 4 + 2 * 2  # a probe per job and run; two answers in flight


def test_a_failed_job_stops_only_what_needs_it(two_nodes: Nodes, tmp_path: Path, server: SlowServer) -> None:
    suite = served_suite(tmp_path, server, models=3)
    server.broken = {"m0"}
    status, _, err = end(start(two_nodes, suite))
    assert status == 3 and "asked as 'm0'" in err and "Traceback" not in err
    assert sorted(written(suite).values()) == [0, len(PROMPTS), len(PROMPTS)]
    server.broken = set()
    assert complete(run(two_nodes, suite), models=3)
    assert max(count for (_, prompt), count in server.asked().items() if prompt in PROMPTS) == 1


def test_an_adapter_trained_on_one_node_is_used_on_another(tmp_path: Path) -> None:
    """Neither node sees the run's folder; the second starts when the first is gone."""
    suite = tiny_suite(tmp_path)
    nodes = Nodes()
    try:
        first = nodes.add(own_folder=tmp_path / "first")
        trained = run(nodes, suite)
        nodes.kill(first)
        nodes.add(own_folder=tmp_path / "second")
        fetched = run(nodes, suite, "--new")
    finally:
        nodes.close()
    (entry,) = (path for path in (tmp_path / "results" / "adapters").iterdir() if path.is_dir())
    assert isinstance(lookup(entry), CachedAdapter)
    assert isinstance(lookup(tmp_path / "second" / "adapters" / entry.name), CachedAdapter)
    assert codes(trained)["adapter_from_cache"] == 0 and codes(fetched)["adapter_from_cache"] == 1
    here = run(None, suite, "--new")
    assert answers(trained) == answers(fetched) == answers(here)
    texts = {model: [row[2] for rows in answers(here).values() for row in rows if row[0] == model] for model in MODELS}
    assert len(texts["base"]) == len(texts["tuned"]) and texts["base"] != texts["tuned"]
    timed = [status for name, status in statuses(trained).items() if name.startswith("throughput")]
    assert [status["state"] for status in timed] == ["done"]


def tiny_suite(folder: Path) -> Path:
    write_lines(
        folder / "rows.jsonl",
        [{"instruction": f"질문 {n}", "input": "", "output": f"답은 {n}입니다."} for n in range(8)],
    )
    write_lines(folder / "prompts.jsonl", [{**PROMPT, "id": one, "text": f"{one}은?"} for one in PROMPTS[:4]])
    (folder / "suite.yaml").write_text(
        "name: tiny\nprompts: [prompts.jsonl]\nsampling: {batch_size: 2, max_new_tokens: 8}\n"
        "models:\n"
        f"  base: {{path: {MODEL_FOLDER}, prompt_format: alpaca_ko, device: cpu}}\n"
        "  tuned: {like: base, adapter: {trained_by: lora}, compare_to: base}\n"
        "training:\n"
        "  lora:\n"
        "    model: base\n"
        "    data: {path: rows.jsonl}\n"
        "    trainer: {max_steps: 4, optim: adamw_torch, learning_rate: 0.05}\n"
        "performance:\n"
        "  throughput: {models: [tuned], batch_sizes: [1], prompt_tokens: 8, new_tokens: 4, repeats: 3}\n"
    )
    return folder / "suite.yaml"


def test_without_the_package_it_is_one_sentence_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "absent" / "ray").mkdir(parents=True)
    (tmp_path / "absent" / "ray" / "__init__.py").write_text("raise ImportError('No module named ray')")
    suite = scripted_suite(tmp_path / "suite")
    variables = {**os.environ, "PYTHONPATH": str(tmp_path / "absent")}
    done = subprocess.run(
        command(suite, "--executor", "ray"), capture_output=True, text=True, cwd=REPOSITORY, env=variables
    )
    assert done.returncode == 3 and done.stderr == (
        "error: --executor ray needs the package ray, which is not installed.\n"
        "hint: pip install 'korean-lora-harness[ray]', here and on every node.\n"
    )
    local = subprocess.run(command(suite), capture_output=True, text=True, cwd=REPOSITORY, env=variables)
    assert local.returncode == 0, local.stderr  # and nobody else asks for it


@pytest.mark.parametrize(
    ("more", "options", "sentence"),
    [
        ("", ["--stream"], "--stream shows one job at a time"),
        (
            "servers: {own: {kind: vllm}}\n",
            [],
            "servers.own: a server that the harness starts is asked on this machine",
        ),
    ],
)
def test_what_a_cluster_cannot_do_is_said_before_anything_runs(
    tmp_path: Path, more: str, options: list[str], sentence: str
) -> None:
    suite = scripted_suite(tmp_path, more=more)
    done = subprocess.run(command(suite, "--executor", "ray", *options), capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 3 and sentence in done.stderr
    assert not list(tmp_path.glob("results/small"))


def test_an_address_without_a_cluster_is_one_sentence(tmp_path: Path) -> None:
    suite = scripted_suite(tmp_path)
    variables = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    done = subprocess.run(
        command(suite, "--executor", "ray"), capture_output=True, text=True, cwd=REPOSITORY, env=variables
    )
    assert done.returncode == 3
    assert "RAY_ADDRESS=127.0.0.1:1: no Ray cluster there (Connection refused)." in done.stderr
    assert not list(tmp_path.glob("results/small"))
