"""The run folder keeps what was finished through torn writes, damage, full disks and a second writer."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environment import describe_environment
from harness.errors import StoreError
from harness.records import Generation, Job, JobStatus, RunHeader
from harness.store import JobFile, RunFolder, find_unfinished, new_run_id, read_records, write_atomically

JOB = Job(id="generate-base-1", kind="generate", model="base", batches=(("a", "b"), ("c",)))


def answer(prompt_id: str, batch: int, error: str | None = None) -> Generation:
    return Generation(
        job_id=JOB.id,
        model="base",
        prompt_id=prompt_id,
        batch=batch,
        rendered_prompt="질문",
        text="답\n둘째 줄\u2028",
        finish_reason="stop",
        prompt_tokens=1,
        new_tokens=2,
        error=error,
    )


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    header = RunHeader(
        run_id=new_run_id(),
        suite_name="suite",
        suite_file="suite.yaml",
        suite={},
        overrides=(),
        plan_hash="plan",
        started_at="2026-01-01T00:00:00+00:00",
        environment=describe_environment(),
        prompts=(),
        jobs=(JOB,),
    )
    return RunFolder.create(tmp_path, header)


def write(folder: RunFolder, *records: Generation, done: bool = False) -> Path:
    with JobFile(folder.job_file(JOB.id)) as file:
        file.append(records)
        if done:
            file.finish(JobStatus(job_id=JOB.id, state="done", seconds=1.0))
    return folder.job_file(JOB.id)


def test_what_was_written_is_read_back(folder: RunFolder) -> None:
    write(folder, answer("a", 0), answer("b", 0), done=True)
    assert folder.is_done(JOB.id)
    assert [record.kind for record in folder.records(JOB.id)] == ["generation", "generation", "job_status"]


def test_every_possible_torn_end_keeps_the_whole_lines_before_it(folder: RunFolder) -> None:
    path = write(folder, answer("a", 0), answer("b", 0), done=True)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert len(read_records(path)) == content[:length].count(b"\n")
        assert not folder.is_done(JOB.id)


def test_any_changed_byte_of_a_finished_job_is_noticed(folder: RunFolder) -> None:
    path = write(folder, answer("a", 0), done=True)
    content = path.read_bytes()
    unnoticed = []
    end_of_answers = content[:-1].rfind(b"\n")
    for position in range(end_of_answers):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            if folder.is_done(JOB.id):
                unnoticed.append(position)
        except StoreError:
            pass
    assert unnoticed == []


def test_only_whole_batches_without_failures_are_kept_on_resume(folder: RunFolder) -> None:
    write(folder, answer("a", 0), answer("b", 0), answer("c", 1, error="time-out"))
    assert folder.prepare_to_resume(JOB) == {0}
    assert {record.prompt_id for record in folder.records(JOB.id) if isinstance(record, Generation)} == {"a", "b"}


def test_a_half_batch_is_asked_again(folder: RunFolder) -> None:
    write(folder, answer("a", 0))
    assert folder.prepare_to_resume(JOB) == frozenset()
    assert folder.records(JOB.id) == ()


def test_a_damaged_file_is_set_aside_and_not_lost(folder: RunFolder) -> None:
    path = write(folder, answer("a", 0), answer("b", 0))
    damaged = path.read_bytes().replace(b'"kind"', b'"kin', 1)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"records\.jsonl:1: damaged record"):
        folder.records(JOB.id)
    assert folder.prepare_to_resume(JOB) == frozenset()
    assert path.with_name("records.jsonl.aside-1").read_bytes() == damaged
    assert not path.exists()


def test_a_damaged_record_is_named_by_its_field(folder: RunFolder) -> None:
    path = write(folder, answer("a", 0))
    path.write_text(path.read_text(encoding="utf-8").replace('"text"', '"txet"'), encoding="utf-8")
    with pytest.raises(StoreError, match=r"records\.jsonl:1: damaged record: generation\.text: Field required$"):
        read_records(path)


def test_a_folder_of_runs_is_no_run_and_the_newest_is_named(folder: RunFolder) -> None:
    with pytest.raises(StoreError) as caught:
        RunFolder.open(folder.path.parent)
    assert str(folder.path) in (caught.value.hint or "")


def test_a_folder_that_cannot_be_written_is_not_called_full(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(StoreError, match="Not a directory") as caught:
        write_atomically(tmp_path / "results/run.json", "x")
    assert "name a folder that can be written to" in (caught.value.hint or "")
    assert "room" not in (caught.value.hint or "")


def test_timings_are_redone_and_never_resumed_part_way(folder: RunFolder) -> None:
    write(folder, answer("a", 0), answer("b", 0))
    assert folder.prepare_to_resume(JOB.model_copy(update={"kind": "throughput"})) == frozenset()
    assert not folder.job_file(JOB.id).exists()


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder, answer("a", 0))
    before = path.read_bytes()
    real_write, calls = os.write, iter(["half", "full"])

    def half_then_full(descriptor: int, block: bytes) -> int:
        if next(calls) == "half":
            return real_write(descriptor, block[: len(block) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with JobFile(path) as file:
        monkeypatch.setattr(os, "write", half_then_full)
        with pytest.raises(StoreError, match="No space left on device"):
            file.append([answer("b", 0)])
    assert path.read_bytes() == before


def test_an_atomic_write_that_fails_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StoreError, match=r"summary\.json: could not be written: No space left") as caught:
        write_atomically(path, "new")
    assert caught.value.hint is not None and "make room" in caught.value.hint
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_process_cannot_write_the_same_run(folder: RunFolder) -> None:
    program = (
        "import sys; from pathlib import Path; from harness.store import RunFolder\n"
        "try:\n"
        "    with RunFolder(Path(sys.argv[1])).exclusive(): pass\n"
        "except Exception as error: sys.exit(str(error))"
    )
    with folder.exclusive():
        second = subprocess.run([sys.executable, "-c", program, str(folder.path)], capture_output=True, text=True)
    assert second.returncode == 1
    assert f"another process is writing this run (process {os.getpid()})" in second.stderr
    assert subprocess.run([sys.executable, "-c", program, str(folder.path)]).returncode == 0


def test_a_run_is_unfinished_until_its_page_is_written(folder: RunFolder) -> None:
    results = folder.path.parent.parent
    write(folder, answer("a", 0), answer("b", 0), answer("c", 1), done=True)
    assert find_unfinished(results, "suite", "plan") == folder
    (folder.path / "report.html").write_text("page")
    assert find_unfinished(results, "suite", "plan") is None
    assert find_unfinished(results, "suite", "another plan") is None


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 99}', '{"schema_version": 1}'])
def test_a_damaged_header_names_its_file(folder: RunFolder, content: str) -> None:
    (folder.path / "run.json").write_text(content)
    with pytest.raises(StoreError, match=r"run\.json"):
        folder.header()
