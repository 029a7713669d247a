"""What a suite may say about judges and guards: faults are plain, and never repeat a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from harness.errors import InvalidInput
from harness.suite_file import load_suite

SECRET = "sk-not-a-real-key-0123456789"
JUDGE: dict[str, object] = {"endpoint": "http://127.0.0.1:8000/v1", "model": "m"}
GUARD: dict[str, object] = {"path": "./model", "labels": {"yes": "compliance"}, "kind": "causal_lm"}


def write_suite(folder: Path, grading: dict[str, object]) -> Path:
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text("{}", encoding="utf-8")
    prompt = {
        "id": "h1", "text": "질문", "category": "demo", "expected": "refuse", "pair_id": None,
        "source": "handwritten", "licence": "Apache-2.0",
    }  # fmt: skip
    (folder / "prompts.jsonl").write_text(json.dumps(prompt) + "\n", encoding="utf-8")
    suite = {"name": "demo", "prompts": ["prompts.jsonl"], "models": {"base": {"path": "./model"}}, "grading": grading}
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("section", "settings", "key", "problem"),
    [
        ("judges", JUDGE | {"api_key_env": SECRET}, "api_key_env", "name of an environment variable, not the key"),
        ("judges", JUDGE | {"api_key": SECRET}, "api_key", "Did you mean 'api_key_env'"),
        ("judges", JUDGE | {"endpoint": f"http://user:{SECRET}@host/v1"}, "endpoint", "without a password"),
        ("judges", JUDGE | {"endpoint": f"https://host/v1?key={SECRET}"}, "endpoint", "without a password or a query"),
        ("judges", JUDGE | {"extra_request": {"messages": [SECRET]}}, "extra_request", "must not set messages"),
        ("judges", {"model": "m"}, "endpoint", "missing"),
        ("guards", GUARD | {"template": "거절인가?"}, "template", "must hold $answer"),
        ("guards", GUARD | {"template": "$answer $label"}, "template", "no other $name"),
        ("guards", GUARD | {"labels": {"yes": "agreed"}}, "labels.yes", "must be"),
        ("guards", GUARD | {"labels": {}}, "labels", "at least 1"),
        ("guards", GUARD | {"path": "./gone"}, "path", "gone"),
    ],
)
def test_faults(tmp_path: Path, section: str, settings: dict[str, object], key: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_suite(write_suite(tmp_path, {section: {"one": settings}}))
    fault = next(fault for fault in caught.value.faults if fault.key == f"grading.{section}.one.{key}")
    assert fault.line is not None and problem in str(fault)
    assert SECRET not in str(caught.value)


def test_good_sections_are_read(tmp_path: Path) -> None:
    guard = GUARD | {"template": "$prompt\n$answer\n답: "}
    suite = load_suite(write_suite(tmp_path, {"judges": {"one": JUDGE}, "guards": {"two": guard}})).suite
    assert suite.grading.judges["one"].concurrency == 4
    assert suite.grading.guards["two"].labels == {"yes": "compliance"}
