"""One process per job: what it says arrives, and it never outlives the run that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.errors import JobFailed
from harness.orders import Failed, Finished, Progress, Records, WorkOrder
from harness.process import run_in_process
from harness.records import Generation, Scalar
from harness.suite import Model
from tests.orders import make_order
from tests.tiny_models import make_tiny_llama

SCRIPT = '{"prompt_id": "a", "text": "하나"}\n{"prompt_id": "b", "text": "둘"}\n{"prompt_id": "c", "text": "셋"}\n'


def scripted_order(folder: Path, script: str = SCRIPT) -> WorkOrder:
    path = folder / "script.jsonl"
    path.write_text(script, encoding="utf-8")
    order = make_order(folder, model=Model(backend="scripted", script="script.jsonl"))
    return order.model_copy(update={"script_place": str(path), "log_file": str(folder / "log.txt")})


def long_order(folder: Path) -> WorkOrder:
    """Timing passes that would take hours."""
    llama = make_tiny_llama(folder / "llama")
    parameters: dict[str, Scalar] = {
        "batch_size": 1,
        "prompt_tokens": 8,
        "new_tokens": 8,
        "warmup": 0,
        "repeats": 1_000_000,
    }
    order = make_order(llama, kind="throughput", parameters=parameters)
    return order.model_copy(update={"log_file": str(folder / "log.txt")})


def test_records_arrive_in_order_and_the_last_word_is_finished(tmp_path: Path) -> None:
    messages = list(run_in_process(scripted_order(tmp_path), preload=False))
    records = [record for message in messages if isinstance(message, Records) for record in message.records]
    answers = {record.prompt_id: record.text for record in records if isinstance(record, Generation)}
    assert answers == {"a": "하나", "b": "둘", "c": "셋"}
    assert isinstance(messages[-1], Finished)


def test_a_users_mistake_comes_back_as_its_sentence(tmp_path: Path) -> None:
    messages = list(run_in_process(scripted_order(tmp_path, "{}\n"), preload=False))
    assert isinstance(messages[-1], Failed)
    assert messages[-1].error == "InvalidInput"
    assert "script.jsonl:1" in messages[-1].message


def test_what_a_job_prints_is_in_its_log_and_not_on_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    order = make_order(tmp_path / "no model here").model_copy(update={"log_file": str(tmp_path / "log.txt")})
    messages = list(run_in_process(order, preload=False))
    assert isinstance(messages[-1], Failed)
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "log.txt").exists()


def test_a_job_that_has_ended_is_not_waited_for_when_a_thread_keeps_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lingering = "import sys, threading, time\nif '--multiprocessing-fork' in sys.orig_argv:\n"
    lingering += "    threading.Thread(target=time.sleep, args=(3600,)).start()\n"
    (tmp_path / "sitecustomize.py").write_text(lingering, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr("harness.process.SECONDS_TO_EXIT", 2)
    messages = run_in_process(scripted_order(tmp_path), preload=False)
    next(messages)
    child = _job_process()
    assert isinstance(list(messages)[-1], Finished)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("preload", [False, True])
def test_a_killed_job_is_reported_with_its_signal(tmp_path: Path, preload: bool) -> None:
    messages = run_in_process(long_order(tmp_path), preload=preload)
    assert isinstance(next(messages), Progress)
    child = _job_process()
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(JobFailed, match="killed by SIGKILL|ended without finishing"):
        list(messages)


def test_a_killed_job_is_reported_while_a_process_that_it_forked_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forking = "import multiprocessing, sys, threading, time\ndef fork():\n    time.sleep(1)\n"
    forking += "    multiprocessing.get_context('fork').Process(target=time.sleep, args=(3600,)).start()\n"
    forking += "if '--multiprocessing-fork' in sys.orig_argv:\n    threading.Thread(target=fork, daemon=True).start()\n"
    (tmp_path / "sitecustomize.py").write_text(forking, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    messages = run_in_process(long_order(tmp_path), preload=False)
    next(messages)
    job = _job_process()
    (forked,) = job.children()
    os.kill(job.pid, signal.SIGKILL)
    killed = time.monotonic()
    with pytest.raises(JobFailed, match="killed by SIGKILL"):
        list(messages)
    assert time.monotonic() - killed < 20
    psutil.wait_procs([forked], timeout=10)
    assert not forked.is_running() or forked.status() == psutil.STATUS_ZOMBIE


def test_closing_the_messages_ends_the_job(tmp_path: Path) -> None:
    messages = run_in_process(long_order(tmp_path), preload=False)
    next(messages)
    child = _job_process()
    messages.close()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("preload", [False, True])
def test_a_job_dies_with_the_run_that_started_it(tmp_path: Path, preload: bool) -> None:
    order_file = tmp_path / "order.json"
    order_file.write_text(long_order(tmp_path).model_dump_json(), encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from harness.orders import WorkOrder\n"
        "from harness.process import run_in_process\n"
        "if __name__ == '__main__':\n"
        "    order = WorkOrder.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "    for message in run_in_process(order, preload=sys.argv[2] == 'True'): print('said', flush=True)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(program, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(script), str(order_file), str(preload)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None and parent.stdout.readline() == "said\n"
    descendants = psutil.Process(parent.pid).children(recursive=True)
    assert descendants
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(descendants, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def _job_process() -> psutil.Process:
    """Find the job among this process's descendants: the one that leads a process group of its own."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for process in psutil.Process().children(recursive=True):
            if os.getpgid(process.pid) == process.pid:
                return process
        time.sleep(0.05)
    raise AssertionError("no job process found")
