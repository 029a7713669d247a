"""Small scripted suites for the executors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROMPT = {"category": "c", "source": "test", "licence": "Apache-2.0", "expected": "comply", "pair_id": None}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def scripted_suite(folder: Path, *, models: int = 2, prompts: int = 6, more: str = "") -> Path:
    """Write a suite of scripted models that give each prompt an answer of their own, in batches of two."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"p{number}" for number in range(prompts)]
    write_lines(folder / "prompts.jsonl", [{**PROMPT, "id": one, "text": f"질문 {one}"} for one in ids])
    lines = []
    for model in range(models):
        write_lines(folder / f"m{model}.jsonl", [{"prompt_id": one, "text": f"{one}의 답 {model}"} for one in ids])
        lines.append(f"  m{model}: {{backend: scripted, script: m{model}.jsonl}}\n")
    suite = folder / "suite.yaml"
    head = "name: small\nprompts: [prompts.jsonl]\nsampling: {batch_size: 2}\nmodels:\n"
    suite.write_text(head + "".join(lines) + more, encoding="utf-8")
    return suite


def answers(run_folder: Path) -> Mapping[str, list[tuple[str, str, str]]]:
    """Each generation job's answers (model, prompt id, text) in the order of its file."""
    found = {}
    for path in sorted(run_folder.glob("jobs/generate-*/records.jsonl")):
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[path.parent.name] = [
            (record["model"], record["prompt_id"], record["text"])
            for record in records
            if record["kind"] == "generation"
        ]
    return found
