"""Writes a suite's prompts as lm-eval tasks that plain `lm_eval --include_path` runs, graded by the refusal grader.

<suite>.yaml              the group: run all by the suite's name
<suite>_<group>.yaml      one task for harmful prompts, one for their look-alikes, one for general prompts
<suite>_<group>.jsonl     its rows
refusal_task.py           reads the rows and grades the answers
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from harness import refusal_task
from harness.errors import Fault, InvalidInput
from harness.prompt_formats import render
from harness.prompts import group_of
from harness.records import Prompt
from harness.store import write_atomically
from harness.suite import PromptFormat, Sampling
from harness.suite_file import LoadedSuite
from harness.suite_paths import siblings
from harness.summary import Group

TASK_VERSION = 1
_TASK = """\
task: {task}
custom_dataset: !function refusal_task.load
dataset_kwargs:
  file: {task}.jsonl
test_split: test
output_type: generate_until
doc_to_text: text
doc_to_target: expected
process_results: !function refusal_task.process_results
generation_kwargs: {generation}
metric_list:
  - {{metric: {metric}, aggregation: mean, higher_is_better: {better}}}
  - {{metric: unscored, aggregation: mean, higher_is_better: false}}
  - {{metric: empty, aggregation: mean, higher_is_better: false}}
  - {{metric: incoherent, aggregation: mean, higher_is_better: false}}
metadata:
  version: {version}
"""


def export_lm_eval(loaded: LoadedSuite, folder: Path, prompt_format: PromptFormat | None = None) -> list[str]:
    """Write the task files into `folder` and return the tasks' names; files of an earlier export are replaced.

    Prompts are written in `prompt_format`, by default the one that all models of the suite share. For chat_template
    they are written bare, and lm-eval's --apply_chat_template does the rest. InvalidInput if the models share none,
    and for a folder that holds something else, such as the suite itself.
    """
    suite = loaded.suite
    format = prompt_format or _shared_format(loaded)
    source = Path(refusal_task.__file__)
    if siblings(folder / source.name) and not (folder / source.name).exists():
        raise InvalidInput([Fault(str(folder), None, "", "the folder has other files; name a new or an empty one.")])
    groups: dict[Group, list[Prompt]] = {group: [] for group in get_args(Group)}
    for prompt in loaded.prompts:
        groups[group_of(prompt)].append(prompt)
    tasks = []
    for group, prompts in groups.items():
        if not prompts:
            continue
        task = f"{suite.name}_{group}"
        metric, better = ("refusal_rate", "true") if group == "harmful" else ("over_refusal_rate", "false")
        text = _TASK.format(
            task=task, metric=metric, better=better, generation=_generation(suite.sampling), version=TASK_VERSION
        )
        write_atomically(folder / f"{task}.yaml", text)
        write_atomically(folder / f"{task}.jsonl", "".join(_rows(prompts, format)))
        tasks.append(task)
    members = "".join(f"  - {task}\n" for task in tasks)
    write_atomically(folder / f"{suite.name}.yaml", f"group: {suite.name}\ntask:\n{members}")
    write_atomically(folder / source.name, source.read_text(encoding="utf-8"))
    return tasks


def lm_eval_command(loaded: LoadedSuite, folder: Path, prompt_format: PromptFormat | None = None) -> str:
    """Return the command that runs what `export_lm_eval` wrote with the same arguments."""
    command = f"lm_eval --model hf --model_args pretrained=MODEL --include_path {folder} --tasks {loaded.suite.name}"
    chat = (prompt_format or _shared_format(loaded)) == "chat_template"
    return f"{command} --apply_chat_template" if chat else command


def _shared_format(loaded: LoadedSuite) -> PromptFormat:
    formats = {model.prompt_format for model in loaded.suite.models.values()}
    if len(formats) > 1:
        problem = f"they have different prompt formats ({', '.join(sorted(formats))}); choose one with --prompt-format."
        raise InvalidInput([Fault(str(loaded.file), None, "models", problem)])
    return formats.pop()


def _rows(prompts: Sequence[Prompt], format: PromptFormat) -> Iterable[str]:
    written: PromptFormat = "plain" if format == "chat_template" else format
    for prompt in prompts:
        row = {**prompt.model_dump(exclude={"text"}), "prompt": prompt.text, "text": render(written, prompt.text)}
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _generation(sampling: Sampling) -> str:
    """Return lm-eval's generation settings as YAML: the suite's own, stopping at the end token alone."""
    settings: dict[str, object] = {"until": [], "max_gen_toks": sampling.max_new_tokens, "do_sample": False}
    if sampling.temperature > 0:
        settings |= {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    return json.dumps(settings)
