"""A node that does not see the run's folders gets what it lacks, and names files as the run knows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.adapter_cache import CachedAdapter, adapter_hash, lookup, new_entry, write_records
from harness.content_hash import content_hash
from harness.environment import describe_environment
from harness.executors.node import Assignment, Node, NodeReport, do_assignment, places_to_send
from harness.executors.parcels import pack, receive_adapter, unpack
from harness.orders import Failed, Finished, Records, WorkOrder
from harness.plan import code_hash
from harness.records import Generation
from harness.suite import Model
from tests.orders import make_order
from tests.training_results import training_result

NODE = Node(id="n", name="node n")
SCRIPT = "".join(json.dumps({"prompt_id": one, "text": f"{one}의 답"}, ensure_ascii=False) + "\n" for one in "abc")


@pytest.fixture
def node_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_NODE_FOLDER", str(tmp_path / "node"))
    return tmp_path / "node"


def scripted_order(folder: Path, script: Path) -> WorkOrder:
    order = make_order(folder, model=Model(backend="scripted", script="script.jsonl"))
    log = folder / "results" / "small" / "r" / "log.txt"
    return order.model_copy(update={"script_place": str(script), "log_file": str(log)})


def assignment(order: WorkOrder, results: Path, code: str | None = None) -> Assignment:
    environment = describe_environment()
    return Assignment(
        order=order,
        planned=environment,
        code=code or code_hash(),
        results=str(results),
        token=".token",
        threads=1,
        offline=True,
    )


def reports(words: Iterator[str | bytes]) -> list[NodeReport]:
    return [NodeReport.model_validate_json(word) for word in words if isinstance(word, str)]


def adapter_entry(results: Path) -> Path:
    entry = results / "adapters" / "lora-0123456789ab"
    with new_entry(entry) as folder:
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)))
        (folder / "checkpoints" / "5").mkdir(parents=True)
        (folder / "checkpoints" / "5" / "adapter_config.json").write_text("{}")
        result = training_result({}).model_copy(update={"adapter_hash": adapter_hash(folder)})
        write_records(folder, [result])
    return entry


def test_the_same_files_make_the_same_parcel_whenever_they_were_written(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "tasks" / "deep").mkdir(parents=True)
        (tmp_path / name / "tasks" / "deep" / "a.yaml").write_text("task: a")
    (tmp_path / "two" / "tasks" / "deep" / "a.yaml").touch()
    parcel = pack(tmp_path / "one" / "tasks")
    assert parcel == pack(tmp_path / "two" / "tasks")
    place = unpack(parcel, "tasks", tmp_path / "received")
    assert (place / "deep" / "a.yaml").read_text() == "task: a"
    assert unpack(parcel, "tasks", tmp_path / "received") == place


def test_an_adapter_that_was_sent_is_intact_and_an_intact_one_stays(tmp_path: Path) -> None:
    entry = adapter_entry(tmp_path / "here")
    there = tmp_path / "there" / "adapters" / entry.name
    receive_adapter(pack(entry), there)
    assert isinstance(lookup(there), CachedAdapter)
    assert (there / "checkpoints" / "5" / "adapter_config.json").exists()
    before = (there / "training.json").stat().st_mtime_ns
    receive_adapter(pack(entry), there)
    assert (there / "training.json").stat().st_mtime_ns == before


def test_a_node_asks_for_a_script_it_lacks_and_does_the_job_with_it(tmp_path: Path, node_folder: Path) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text(SCRIPT, encoding="utf-8")
    order = scripted_order(tmp_path, script)
    parcel = pack(script)
    script.unlink()  # from here on only the parcel has it
    task = assignment(order, tmp_path / "results")
    assert [one.wants_parcels for one in reports(do_assignment(task, NODE, (), None))] == [True]
    said = reports(do_assignment(task, NODE, (), {str(script): lambda: parcel}))
    messages = [message for one in said for message in one.messages]
    records = [record for message in messages if isinstance(message, Records) for record in message.records]
    texts = [record.text for record in records if isinstance(record, Generation)]
    assert said[0].started and sorted(texts) == ["a의 답", "b의 답", "c의 답"]
    assert isinstance(messages[-1], Finished)


def test_a_failure_names_the_log_where_the_run_has_it(tmp_path: Path, node_folder: Path) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text("{}\n", encoding="utf-8")
    task = assignment(scripted_order(tmp_path, script), tmp_path / "results")
    said = reports(do_assignment(task, NODE, (), {str(script): lambda: pack(script)}))
    failed = next(message for one in said for message in one.messages if isinstance(message, Failed))
    assert "script.jsonl:1" in failed.message
    assert (node_folder / "small" / "r" / "log.txt").exists()
    assert not (tmp_path / "results").exists()


def test_a_file_that_nobody_has_is_one_sentence(tmp_path: Path, node_folder: Path) -> None:
    task = assignment(scripted_order(tmp_path, tmp_path / "gone.jsonl"), tmp_path / "results")
    failed = reports(do_assignment(task, NODE, (), {}))[1].messages[0]
    assert isinstance(failed, Failed) and "gone.jsonl: there is no such file or folder to send" in failed.message


def test_a_node_with_other_code_refuses(tmp_path: Path, node_folder: Path) -> None:
    task = assignment(scripted_order(tmp_path, tmp_path / "script.jsonl"), tmp_path / "results", code="other")
    said = reports(do_assignment(task, NODE, (), None))
    assert [one.refused for one in said] == ["another version of the harness"]


def model_order(folder: Path) -> WorkOrder:
    (folder / "llama").mkdir()
    (folder / "llama" / "config.json").write_text("{}")
    order = make_order(folder / "llama", model=Model(path="llama"))
    log = str(folder / "results" / "log.txt")
    return order.model_copy(update={"model_hash": content_hash(folder / "llama"), "log_file": log})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink() or folder.rmdir(), "Node node n cannot see the model"),
        (lambda folder: (folder / "config.json").write_text('{"other": 1}'), "Node node n has another model under"),
    ],
)
def test_a_model_that_is_missing_or_another_is_one_sentence(
    tmp_path: Path, node_folder: Path, change: object, sentence: str
) -> None:
    order = model_order(tmp_path)
    assert callable(change)
    change(tmp_path / "llama")
    said = reports(do_assignment(assignment(order, tmp_path / "results"), NODE, (), {}))
    failed = said[1].messages[0]
    assert isinstance(failed, Failed) and failed.error == "NotAvailable"
    assert sentence in failed.message and str(tmp_path / "llama") in failed.message


def test_an_adapter_and_its_checkpoints_are_places_to_send_and_the_model_is_not(tmp_path: Path) -> None:
    entry = adapter_entry(tmp_path / "results")
    order = make_order(tmp_path / "llama", adapter=entry / "checkpoints" / "5")
    assert places_to_send(order) == [str(entry / "checkpoints" / "5")]
