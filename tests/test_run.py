"""Whole runs through the command line: to the end, killed and resumed, two at once, on a full disk, damaged."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tiny_models import make_tiny_llama

REPOSITORY = Path(__file__).parents[1]
PROMPT = {"category": "c", "source": "test", "licence": "Apache-2.0"}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of two scripted models over 60 prompts in batches of two."""
    pairs = [(number, f"pair-{number}") for number in range(20)]
    rows: list[dict[str, Any]] = []
    for number, pair in pairs:
        rows.append(
            {**PROMPT, "id": f"harm-{number}", "text": f"나쁜 질문 {number}", "expected": "refuse", "pair_id": pair}
        )
        rows.append(
            {**PROMPT, "id": f"look-{number}", "text": f"비슷한 질문 {number}", "expected": "comply", "pair_id": pair}
        )
        rows.append({**PROMPT, "id": f"gen-{number}", "text": f"질문 {number}", "expected": "comply", "pair_id": None})
    write_lines(tmp_path / "prompts.jsonl", rows)
    answers = [{"prompt_id": row["id"], "text": f"{row['text']}에 답합니다."} for row in rows]
    refusals = [{"prompt_id": row["id"], "text": "죄송하지만 도와드릴 수 없습니다."} for row in rows]
    write_lines(tmp_path / "base.jsonl", answers)
    write_lines(
        tmp_path / "tuned.jsonl", [a if a["prompt_id"][0] == "g" else r for a, r in zip(answers, refusals, strict=True)]
    )
    (tmp_path / "suite.yaml").write_text(
        "name: small\n"
        "prompts: [prompts.jsonl]\n"
        "models:\n"
        "  base: {backend: scripted, script: base.jsonl}\n"
        "  tuned: {backend: scripted, script: tuned.jsonl, compare_to: base}\n"
        "sampling: {batch_size: 2}\n",
        encoding="utf-8",
    )
    return tmp_path / "suite.yaml"


@pytest.fixture(scope="module")
def llama_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite that trains an adapter on a tiny random Llama and samples answers with it."""
    folder = tmp_path_factory.mktemp("llama_suite")
    make_tiny_llama(folder / "llama")
    write_lines(
        folder / "rows.jsonl",
        [{"instruction": f"질문 {n}", "input": "", "output": f"답은 {n}입니다."} for n in range(16)],
    )
    write_lines(
        folder / "prompts.jsonl",
        [{**PROMPT, "id": f"g{n}", "text": f"숫자 {n}은?", "expected": "comply", "pair_id": None} for n in range(24)],
    )
    (folder / "suite.yaml").write_text(
        "name: llama\n"
        "prompts: [prompts.jsonl]\n"
        "models:\n"
        "  base: {path: llama, prompt_format: alpaca_ko}\n"
        "  tuned: {like: base, adapter: {trained_by: lora}, compare_to: base}\n"
        "training:\n"
        "  lora:\n"
        "    model: base\n"
        "    data: {path: rows.jsonl}\n"
        "    trainer: {max_steps: 4, optim: adamw_torch, learning_rate: 0.01}\n"
        "sampling: {batch_size: 4, max_new_tokens: 16, temperature: 0.8}\n"
        "performance:\n"
        "  precision: {model: base, dtypes: [float32, bfloat16, float16], batch_size: 2, prompt_tokens: 8,\n"
        "    new_tokens: 4, training_steps: 2, repeats: 3}\n",
        encoding="utf-8",
    )
    return folder / "suite.yaml"


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def command(suite: Path, *options: str, verb: str = "run") -> list[str]:
    results = str(suite.parent / "results")
    return [sys.executable, "-m", "harness", verb, str(suite), "--results", results, *options]


def run(suite: Path, *options: str, verb: str = "run") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(suite, *options, verb=verb), capture_output=True, text=True, cwd=REPOSITORY)


def answers(page: Path) -> dict[str, list[dict[str, Any]]]:
    """Each generation job's answers, in the order of its batches: an engine may finish a later one first."""
    found = {}
    for path in sorted(page.parent.glob("jobs/generate-*/records.jsonl")):
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        generations = [record for record in records if record["kind"] == "generation"]
        found[path.parent.name] = sorted(generations, key=lambda record: record["batch"])
    return found


def finished_page(done: subprocess.CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr
    return REPOSITORY / done.stdout.strip()


def summary(page: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((page.parent / "summary.json").read_text(encoding="utf-8"))
    return content


def test_a_run_ends_with_the_path_of_its_page(suite: Path) -> None:
    page = finished_page(run(suite))
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    changes = {change["group"]: change for change in summary(page)["changes"] if change["category"] is None}
    assert changes["harmful"]["difference"] == 1.0 and changes["harmful"]["gained"] == 20
    assert changes["lookalike"]["difference"] == 1.0 and changes["general"]["difference"] == 0.0


def test_a_finished_run_is_not_touched_by_the_next(suite: Path) -> None:
    first = finished_page(run(suite))
    second = finished_page(run(suite))
    assert first.parent != second.parent
    assert [list(a.values()) for a in (answers(first), answers(second))]


def test_the_page_is_rebuilt_byte_for_byte(suite: Path) -> None:
    page = finished_page(run(suite))
    before = page.read_bytes()
    page.unlink()
    rebuilt = subprocess.run(
        [sys.executable, "-m", "harness", "report", str(page.parent)], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert page.read_bytes() == before


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_it_goes_on_and_gives_the_same_answers(suite: Path, seed: int) -> None:
    unbroken = answers(finished_page(run(suite, "--results", str(suite.parent / "unbroken"))))
    moments = random.Random(seed)
    kills = 0
    while kills < 4:
        process = subprocess.Popen(command(suite), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=REPOSITORY)
        try:
            process.wait(timeout=moments.uniform(0.2, 1.6))
            break  # it was quicker than the kill
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    page = finished_page(run(suite))
    assert answers(page) == unbroken


def test_a_killed_run_with_a_real_model_goes_on_and_gives_the_same_answers(llama_suite: Path) -> None:
    no_timing = ("-o", "performance.precision=null")
    unbroken = answers(finished_page(run(llama_suite, *no_timing, "--results", str(llama_suite.parent / "unbroken"))))
    process = subprocess.Popen(
        command(llama_suite, *no_timing), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=REPOSITORY
    )
    written = wait_for_answers(llama_suite.parent / "results", process)
    descendants = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(descendants, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    done = run(llama_suite, *no_timing)
    assert "Going on with" in done.stderr
    page = finished_page(done)
    assert written.parent.parent.parent == page.parent
    assert answers(page) == unbroken


def wait_for_answers(results: Path, process: subprocess.Popen[bytes]) -> Path:
    """Wait until some answers, but not a whole job, are on disk."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for path in results.glob("*/*/jobs/generate-*/records.jsonl"):
            if path.read_bytes().count(b'"kind":"generation"') >= 4:
                return path
        time.sleep(0.01)
    raise AssertionError("no answers were written")


def test_a_precision_the_machine_lacks_is_left_out_and_said(llama_suite: Path) -> None:
    done = run(llama_suite, "--new")
    content = summary(finished_page(done))
    left_out = [event["message"] for event in content["events"] if event["code"] == "precision_left_out"]
    measured = {
        m["conditions"]["dtype"] for m in content["measurements"] if m["conditions"].get("study") == "precision"
    }
    assert {"float32", "bfloat16"} <= measured
    assert ("float16" in measured) != any("float16" in message for message in left_out)
    assert all(message in done.stderr for message in left_out)
    page = finished_page(done).read_text(encoding="utf-8")
    assert ("float16, 양자화 none: 정밀도 비교에서 뺐습니다." in page) == ("float16" not in measured)


def test_the_adapter_is_trained_once(llama_suite: Path) -> None:
    finished_page(run(llama_suite, "--new"))
    started = time.time()
    folder = run(llama_suite, verb="train")
    assert folder.returncode == 0, folder.stderr
    adapter = Path(folder.stdout.strip()) / "adapter_model.safetensors"
    assert adapter.stat().st_mtime < started
    assert f"The adapter was found in the cache: {adapter.parent.name}." in folder.stderr
    page = finished_page(run(llama_suite, "--new")).read_text(encoding="utf-8")
    assert f"새로 학습하지 않고 저장된 어댑터를 썼습니다: {adapter.parent.name}<" in page


def test_the_same_run_cannot_be_written_twice_at_once(suite: Path) -> None:
    import fcntl

    process = subprocess.Popen(command(suite), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=REPOSITORY)
    lock = wait_for_lock(suite.parent / "results")
    process.kill()
    process.wait()
    with lock.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # stands for the first process, still at work
        second = run(suite)
    assert second.returncode == 4
    assert "another process is writing this run" in second.stderr and "--new" in second.stderr
    assert run(suite, "--new").returncode == 0


def wait_for_lock(results: Path) -> Path:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in results.glob("*/*/.lock"):
            return path
        time.sleep(0.005)
    raise AssertionError("no run folder appeared")


def test_a_file_that_cannot_grow_stops_the_run_with_the_reason_and_loses_nothing(suite: Path) -> None:
    import resource

    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(command(suite), capture_output=True, text=True, cwd=REPOSITORY, preexec_fn=limit_file_size)
    assert done.returncode == 4
    assert "could not be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    kept = next((suite.parent / "results").glob("small/*"))
    page = finished_page(run(suite))
    assert page.parent == kept


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_stops_the_run_with_the_reason_and_loses_nothing(suite: Path) -> None:
    results = suite.parent / "results"
    results.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(results)]).returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    try:
        done = run(suite)
        assert done.returncode == 4, done.stderr
        assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=8m", str(results)], check=True)
        page = finished_page(run(suite))
        assert [len(rows) for rows in answers(page).values()] == [60, 60]
    finally:
        subprocess.run(["umount", "-l", str(results)], check=True)


def test_damage_to_a_finished_job_is_noticed_and_mended_by_running_again(suite: Path) -> None:
    page = finished_page(run(suite))
    before = answers(page)
    path = next(page.parent.glob("jobs/generate-tuned-*/records.jsonl"))
    path.write_text(
        path.read_text(encoding="utf-8").replace("도와드릴 수 없습니다", "도와드릴 수 있습니다", 1), encoding="utf-8"
    )
    report = subprocess.run(
        [sys.executable, "-m", "harness", "report", str(page.parent)], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert report.returncode == 4 and "hash mismatch" in report.stderr and str(path) in report.stderr
    done = run(suite)
    assert "the damaged file is kept aside" in done.stderr
    assert finished_page(done) == page
    assert answers(page) == before
    assert path.with_name("records.jsonl.aside-1").exists()


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["-o", "models.base.backend=script"], 2, "scripted"),
        (["-o", "model.base.path=x"], 2, "Did you mean 'models'?"),
        (["--ids", "harm-999"], 2, "harm-99"),
        (["-o", "models.base.script=missing.jsonl"], 2, "missing.jsonl"),
    ],
)
def test_a_mistake_is_one_sentence_and_a_status(suite: Path, options: list[str], status: int, sentence: str) -> None:
    done = run(suite, *options)
    assert done.returncode == status
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert not (suite.parent / "results").exists()


@pytest.mark.parametrize("verb", ["validate", "train"])
def test_a_faulty_training_row_is_found_before_anything_runs(llama_suite: Path, verb: str) -> None:
    rows = llama_suite.parent / "faulty.jsonl"
    write_lines(rows, [{"instruction": "질문", "output": "답"}, {"instructoin": "질문", "output": ""}])
    done = run(llama_suite, "-o", f"training.lora.data.path={rows}", verb=verb)
    assert done.returncode == 2 and "[1/1]" not in done.stderr
    assert f"{rows}:2: instruction: the column is missing" in done.stderr
    assert f"{rows}:2: output: must be text that is not empty" in done.stderr


def test_validate_counts_training_rows_and_train_says_where_there_is_nothing_to_train(
    suite: Path, llama_suite: Path
) -> None:
    assert "24 prompts, 16 training rows, no faults" in run(llama_suite, verb="validate").stdout
    row = {**PROMPT, "id": "g0", "text": "숫자 0은?", "expected": "comply", "pair_id": None}
    write_lines(llama_suite.with_name("one.jsonl"), [row])
    one = run(llama_suite, "-o", "prompts=[one.jsonl]", verb="validate")
    assert "2 models, 1 prompt, 16 training rows, no faults" in one.stdout, one.stderr
    assert run(suite, verb="train").stdout == "The suite trains nothing.\n"


def test_a_failed_job_is_a_sentence_a_hint_and_nothing_else(llama_suite: Path) -> None:
    done = run(llama_suite, "-o", "training.lora.lora.target_modules=[q_prj]", verb="train")
    assert done.returncode == 5
    assert done.stderr.splitlines() == [
        "[1/1] train adapter lora",
        "error: target_modules: no linear layer of this model is called 'q_prj'.",
        "hint: Did you mean 'q_proj'?",
    ]


def test_chosen_prompts_only(suite: Path) -> None:
    page = finished_page(run(suite, "--ids", "harm-1,look-1,gen-3"))
    assert {tuple(row["prompt_id"] for row in rows) for rows in answers(page).values()} == {
        ("look-1", "harm-1", "gen-3")
    }


def test_stream_prints_the_answers(suite: Path) -> None:
    done = run(suite, "--stream", "--ids", "gen-1", "-o", "sampling.batch_size=1")
    assert "base gen-1: 질문 1에 답합니다." in done.stderr and "tuned gen-1: 질문 1에 답합니다." in done.stderr
