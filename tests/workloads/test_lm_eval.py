"""lm-eval as a library: the model it tests is ours, its figures are right, and nothing is shared or fetched."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.backends import open_backend
from harness.backends.transformers_model import TransformersModel
from harness.errors import HarnessError, NotAvailable
from harness.prompt_formats import render
from harness.records import LoadedModel, TaskResult, TaskSample
from harness.suite import LmEval, Model, PromptFormat, Sampling
from harness.workloads.lm_eval import measure_ability
from harness.workloads.lm_eval_model import EvaluatedModel
from tests.backends.test_hf import make_adapter
from tests.orders import PROMPTS, Inbox, make_order
from tests.tiny_models import make_tiny_llama

REPOSITORY = Path(__file__).parents[2]
ITEMS = [
    {"question": "하늘은 무슨 색인가요?", "choices": ["파란색", "검은색", "초록색"], "answer": 0},
    {"question": "물은 몇 도에서 끓나요?", "choices": ["십 도", "백 도", "천 도"], "answer": 1},
    {"question": "수도는 어디인가요?", "choices": ["부산", "대전", "서울"], "answer": 2},
    {"question": "얼음은 어떻게 되나요?", "choices": ["뜹니다", "가라앉습니다", "탑니다"], "answer": 0},
    {"question": "소금은 무슨 맛인가요?", "choices": ["단맛", "짠맛", "쓴맛"], "answer": 1},
    {"question": "해는 어디에서 뜨나요?", "choices": ["서쪽", "남쪽", "동쪽"], "answer": 2},
]
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: data/items.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{text}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def adapter(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(llama, tmp_path_factory.mktemp("adapter") / "lora")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tasks with local data; relative data files count from the task's file."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "data").mkdir()
    (folder / "data/items.jsonl").write_text(
        "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in ITEMS), encoding="utf-8"
    )
    for name, text in (("quiz", "{{question}}"), ("quiz_bos", "<|bos|><|bos|>{{question}}")):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, text=text), encoding="utf-8")
    (folder / "lost.yaml").write_text(
        TASK.format(name="quiz_without_data", text="{{question}}").replace("items", "lost"), encoding="utf-8"
    )
    (folder / "hub.yaml").write_text(
        TASK.format(name="quiz_on_hub", text="{{question}}")
        .replace("dataset_path: json", "dataset_path: nobody/no-such-set")
        .replace("dataset_kwargs: {data_files: {test: data/items.jsonl}}\n", ""),
        encoding="utf-8",
    )
    return folder


@pytest.fixture(autouse=True)
def untouched_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold every test to it: no network, no lm-eval cache, nothing in the user's dataset cache."""
    import datasets
    import huggingface_hub

    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("an lm-eval cache was used")

    cache = tmp_path / "home-cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for place in (
        "lm_eval.api.model.CachingLM.__init__",
        "lm_eval.api.task.save_to_cache",
        "lm_eval.caching.cache.open",
    ):
        monkeypatch.setattr(place, refuse, raising=False)
    yield
    assert not cache.exists()


def order_for(
    place: Path,
    folder: Path,
    task: str = "quiz",
    form: str = "task",
    format: PromptFormat = "alpaca_ko",
    **fields: Any,
) -> Any:
    model = Model(path="model", prompt_format=format, max_seq_length=256)
    section = LmEval.model_validate({"tasks": (task,), "prompt_form": form, "batch_size": 4})
    order = make_order(place, kind="lm_eval", model=model, **fields)
    return order.model_copy(update={"lm_eval": section, "task_folders": (str(folder),)})


def measure(order: Any) -> Inbox:
    inbox = Inbox()
    measure_ability(order, inbox)
    return inbox


def results(inbox: Inbox) -> dict[str, TaskResult]:
    return {record.metric: record for record in inbox.records if isinstance(record, TaskResult)}


def right_answers(inbox: Inbox) -> list[float]:
    samples = [record for record in inbox.records if isinstance(record, TaskSample)]
    return [sample.scores["acc"] for sample in sorted(samples, key=lambda sample: sample.doc_id)]


def loaded(order: Any) -> TransformersModel:
    backend = open_backend(order)
    assert isinstance(backend, TransformersModel)
    return backend


def by_hand(backend: TransformersModel) -> list[float]:
    """Which items the model gets right, from bare logits: the choice with the largest summed log-probability."""
    right = []
    for item in ITEMS:
        scores = []
        for choice in item["choices"]:  # type: ignore[attr-defined]
            context = backend.tokenizer(item["question"])["input_ids"]
            whole = backend.tokenizer(f"{item['question']} {choice}")["input_ids"]
            with torch.inference_mode():
                logits = backend.model(torch.tensor([whole])).logits[0].log_softmax(-1)
            scores.append(sum(float(logits[i - 1, whole[i]]) for i in range(len(context), len(whole))))
        right.append(float(scores.index(max(scores)) == item["answer"]))
    return right


def test_scores_are_those_of_bare_logits_for_base_and_tuned(llama: Path, adapter: Path, tasks: Path) -> None:
    for fields in ({}, {"adapter": adapter}, {"adapter": adapter, "adapter_mode": "merged"}):
        order = order_for(llama, tasks, **fields)
        inbox = measure(order)
        right = right_answers(inbox)
        assert right == by_hand(loaded(order))
        share = sum(right) / 6
        result = results(inbox)["acc"]
        assert result.value == pytest.approx(share) and result.n == 6 and result.higher_is_better is True
        assert result.stderr == pytest.approx(math.sqrt(share * (1 - share) / 5))
        record = next(record for record in inbox.records if isinstance(record, LoadedModel))
        assert record.compute_dtype == "float32" and (record.adapter_mode is not None) == ("adapter" in fields)


def test_base_and_tuned_share_no_answers_where_lm_evals_own_cache_would_mix_them(
    llama: Path, adapter: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = order_for(llama, tasks), order_for(llama, tasks, adapter=adapter)
    scored: list[list[tuple[float, bool]]] = []
    original = EvaluatedModel.loglikelihood

    def spy(self: EvaluatedModel, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        scored.append(original(self, requests, disable_tqdm))
        return scored[-1]

    monkeypatch.setattr(EvaluatedModel, "loglikelihood", spy)
    for order in orders:
        measure(order)
    base, tuned = scored
    assert len(base) == len(tuned) == 18 and all(a[0] != b[0] for a, b in zip(base, tuned, strict=True))

    monkeypatch.undo()  # the hazard itself: with its cache, lm-eval gives the tuned model the base's answers
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CachingLM
    from lm_eval.models.huggingface import HFLM

    requests = [Instance("loglikelihood", {}, ("하늘은", " 파란색"), 0)]
    models = [HFLM(pretrained=loaded(order).model, tokenizer=loaded(order).tokenizer) for order in orders]
    alone = [model.loglikelihood(requests) for model in models]
    cached = [CachingLM(model, str(tmp_path / "answers.db")).loglikelihood(requests) for model in models]
    assert alone[0] != alone[1] and cached[0] == cached[1] == alone[0]


def test_the_texts_are_put_into_the_models_own_format_on_request(
    llama: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [{"role": "user", "content": "물음"}]
    for format in ("alpaca_ko", "chat_template"):
        backend = loaded(order_for(llama, tasks, format=format))
        model = EvaluatedModel(backend, 1, lambda done, total: None)
        assert model.apply_chat_template(turns) == backend.texts.render("물음")
    shots = [*turns, {"role": "assistant", "content": "답"}, {"role": "user", "content": "다음"}]
    backend = loaded(order_for(llama, tasks))
    text = EvaluatedModel(backend, 1, lambda done, total: None).apply_chat_template(shots)
    assert text == render("alpaca_ko", "물음") + "답\n\n" + render("alpaca_ko", "다음")
    contexts: list[str] = []

    def spy(self: EvaluatedModel, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        contexts.append(requests[0].args[0])
        return [(0.0, False) for _ in requests]

    monkeypatch.setattr(EvaluatedModel, "loglikelihood", spy)
    for form, format in (("task", "alpaca_ko"), ("model", "alpaca_ko"), ("model", "plain"), ("model", "chat_template")):
        measure(order_for(llama, tasks, form=form, format=format))  # type: ignore[arg-type]
    question = str(ITEMS[0]["question"])
    chat = loaded(order_for(llama, tasks, format="chat_template")).texts.render(question)
    assert contexts == [question, render("alpaca_ko", question), question, chat]


def test_a_second_bos_is_never_added_and_never_accepted(llama: Path, tasks: Path) -> None:
    backend = loaded(order_for(llama, tasks, format="chat_template"))
    model = EvaluatedModel(backend, 1, lambda done, total: None)
    for text in (backend.texts.render("물음"), "물음"):
        assert model.tok_encode(text).count(backend.tokenizer.bos_token_id) == 1
        assert model.tok_batch_encode([text])[0][0].tolist().count(backend.tokenizer.bos_token_id) == 1
    with pytest.raises(HarnessError, match="begins with 2 BOS tokens"):
        measure(order_for(llama, tasks, task="quiz_bos"))


def test_generation_gives_the_answers_of_our_own_backend(llama: Path, tasks: Path) -> None:
    from lm_eval.api.instance import Instance

    backend = loaded(order_for(llama, tasks))
    answers = [answer.text for answer in backend.answer(list(PROMPTS.values()), Sampling(max_new_tokens=8), 0, None)]
    seen: list[tuple[int, int]] = []
    model = EvaluatedModel(backend, 2, lambda done, total: seen.append((done, total)))
    requests = [
        Instance(
            "generate_until",
            {},
            (backend.texts.render(prompt), {"until": [], "max_gen_toks": 8, "do_sample": False}),
            i,
        )
        for i, prompt in enumerate(PROMPTS.values())
    ]
    assert model.generate_until(requests) == answers
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert backend.model.generation_config.eos_token_id == backend.end_tokens


def test_fewshot_and_limit_reach_lm_eval(llama: Path, tasks: Path) -> None:
    order = order_for(llama, tasks)
    section = order.lm_eval.model_copy(update={"num_fewshot": 2, "limit": 3})
    result = results(measure(order.model_copy(update={"lm_eval": section})))["acc"]
    assert (result.n, result.num_fewshot) == (3, 2)


def test_hub_data_without_the_network_is_one_clear_sentence(llama: Path, tasks: Path) -> None:
    with pytest.raises(NotAvailable, match="not in the local cache, and the network is off") as caught:
        measure(order_for(llama, tasks, task="quiz_on_hub"))
    assert "'quiz_on_hub'" in caught.value.message and "\n" not in caught.value.message


def test_a_faulty_task_is_one_clear_sentence(llama: Path, tasks: Path) -> None:
    with pytest.raises(NotAvailable, match="'quiz_without_data' could not be loaded: FileNotFoundError") as caught:
        measure(order_for(llama, tasks, task="quiz_without_data"))
    assert caught.value.hint is not None and caught.value.hint.startswith(f"It is defined in {tasks}")


def test_the_shipped_task_runs_offline(llama: Path) -> None:
    folder = REPOSITORY / "prompts/lm_eval"
    order = order_for(llama, folder, task="tiny_ko_world", form="model")
    section = order.lm_eval.model_copy(update={"limit": 4})
    result = results(measure(order.model_copy(update={"lm_eval": section})))
    assert set(result) == {"acc", "acc_norm"} and result["acc"].n == 4


def test_data_that_cannot_be_had_stop_a_run_before_its_training(llama: Path, tasks: Path, tmp_path: Path) -> None:
    row = {"instruction": "질문", "input": "", "output": "답"}
    (tmp_path / "rows.jsonl").write_text(32 * f"{json.dumps(row)}\n", encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(
        "name: early\n"
        "models:\n"
        f"  base: {{path: {llama}, prompt_format: alpaca_ko, max_seq_length: 256}}\n"
        "  tuned: {like: base, adapter: {trained_by: lora}, compare_to: base}\n"
        "training:\n"
        "  lora: {model: base, data: {path: rows.jsonl}, trainer: {max_steps: 4, optim: adamw_torch}}\n"
        f"lm_eval: {{tasks: [quiz, quiz_on_hub], task_folders: [{tasks}], models: [tuned]}}\n",
        encoding="utf-8",
    )

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        suite, results = str(tmp_path / "suite.yaml"), str(tmp_path / "out")
        command = [sys.executable, "-m", "harness", "run", suite, "--results", results, *options]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
        return subprocess.run(command, cwd=REPOSITORY, env=offline, capture_output=True, text=True)

    stopped = run()
    sentence = "the data of 'quiz_on_hub' are not in the local cache, and the network is off"
    assert stopped.returncode == 3, stopped.stderr
    assert sentence in stopped.stderr and "'nobody/no-such-set'" in stopped.stderr
    assert "hint: Load them once while connected" in stopped.stderr
    assert "train adapter" not in stopped.stderr and not (tmp_path / "out/adapters").exists()
    trained = run("-o", "lm_eval.tasks=[quiz]")
    assert trained.returncode == 0 and "Before the training:" in trained.stderr, trained.stderr
    late = run()  # the adapter is in the cache: nothing is lost by waiting for the job
    assert late.returncode == 3 and sentence in late.stderr
    assert "Before the training:" not in late.stderr and "train adapter lora: done" in late.stderr


def test_a_run_ends_with_ability_beside_the_rates(llama: Path, adapter: Path, tasks: Path, tmp_path: Path) -> None:
    prompt = {
        "id": "a",
        "text": "?",
        "category": "c",
        "expected": "comply",
        "pair_id": None,
        "source": "t",
        "licence": "t",
    }
    (tmp_path / "prompts.jsonl").write_text(json.dumps(prompt), encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(
        "name: ability\nprompts: [prompts.jsonl]\nsampling: {max_new_tokens: 4}\n"
        "models:\n"
        f"  base: {{path: {llama}, prompt_format: plain, max_seq_length: 256}}\n"
        f"  tuned: {{like: base, adapter: {{path: {adapter}}}, compare_to: base}}\n"
        f"lm_eval: {{tasks: [quiz], task_folders: [{tasks}]}}\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "harness", "run", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "out")]
    places = {"HF_HOME": str(tmp_path / "hub"), "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **places}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip().splitlines()[-1])
    summary = json.loads((page.parent / "summary.json").read_text(encoding="utf-8"))
    assert [score["model"] for score in summary["abilities"]] == ["base", "tuned"]
    (change,) = summary["ability_changes"]
    assert (change["task"], change["metric"], change["n"]) == ("quiz", "acc", 6)
    assert 'id="ability"' in page.read_text(encoding="utf-8")
    assert not (tmp_path / "hub").exists(), "something was put into the user's caches"
    assert list((tmp_path / "temporary").iterdir()) == []
