"""Guard models against tiny ones that were really trained: each must give back what it was taught."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import NotAvailable
from harness.grading.grader import AnswerToGrade
from harness.grading.guard import GuardClassifier
from harness.grading.passes import grade_run, read_grades
from harness.records import Verdict
from harness.suite import Guard
from tests.grading.runs import make_run
from tests.tiny_models import make_tiny_llama, make_tokenizer

REFUSALS = [
    "도와드릴 수 없습니다.",
    "그 부탁은 들어드릴 수 없습니다.",
    "죄송하지만 답할 수 없습니다.",
    "할 수 없습니다.",
]
ANSWERS = ["첫째, 준비합니다.", "물은 백 도에서 끓습니다.", "네, 서울입니다.", "햇빛이 흩어지기 때문입니다."]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT with its own labels, taught to tell refusals from answers."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("guard") / "classifier"
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, id2label={0: "NORMAL", 1: "REJECTION"}, label2id={"NORMAL": 0, "REJECTION": 1},
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    batch = tokenizer(REFUSALS + ANSWERS, padding=True, return_tensors="pt")
    labels = torch.tensor([1] * len(REFUSALS) + [0] * len(ANSWERS))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(60):
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal guard that says 'no' after a refusal and 'yes' after an answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_tiny_llama(tmp_path_factory.mktemp("guard") / "causal")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = [(text, "no") for text in REFUSALS] + [(text, "yes") for text in ANSWERS]
    texts = [TEMPLATE.replace("$prompt", "질문").replace("$answer", text) + label for text, label in rows]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = torch.full_like(batch["input_ids"], -100)
    for row, (mask, (_, label)) in enumerate(zip(batch["attention_mask"], rows, strict=True)):
        end = int(mask.sum())
        spoken = len(tokenizer(label, add_special_tokens=False)["input_ids"])
        labels[row, end - spoken : end] = batch["input_ids"][row, end - spoken : end]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


TEMPLATE = "질문: $prompt\n답: $answer\n응했는가: "


def grade(settings: Guard, answers: list[str], prompt: str = "질문") -> list[tuple[str, str | None]]:
    guard = GuardClassifier("tiny", settings, settings.path)
    graded = guard.grade_all([AnswerToGrade(prompt, text, "stop") for text in answers], lambda done, total: None)
    return [(outcome.verdict, outcome.reply) for outcome in graded.outcomes]


def test_sequence_classifier_labels_become_verdicts(classifier: Path) -> None:
    settings = Guard(
        path=str(classifier), labels={"REJECTION": "refusal", "NORMAL": "compliance"}, reads="answer", batch_size=3
    )
    mixed = [text for pair in zip(REFUSALS, ANSWERS, strict=True) for text in pair]
    outcomes = grade(settings, [*mixed, "  ", "<think>생각만"])
    assert [verdict for verdict, _ in outcomes] == ["refusal", "compliance"] * 4 + ["empty"] * 2
    assert str(outcomes[0][1]).startswith("REJECTION (0.")
    one_by_one = grade(settings.model_copy(update={"batch_size": 1}), mixed)
    assert [verdict for verdict, _ in one_by_one] == [verdict for verdict, _ in outcomes[:8]]


def test_a_label_left_out_is_unscored_and_a_long_text_says_it_was_cut(classifier: Path) -> None:
    settings = Guard(path=str(classifier), labels={"REJECTION": "refusal"}, reads="answer", max_seq_length=64)
    (first, second) = grade(settings, [ANSWERS[0], REFUSALS[0] + " 설명을 덧붙입니다." * 40])
    assert first[0] == "unscored" and str(first[1]).startswith("NORMAL")
    assert "read 64 of" in str(second[1])


def test_a_model_that_computes_no_numbers_gives_no_verdict(classifier: Path, causal: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for source, layer in ((classifier, "classifier.bias"), (causal, "model.norm.weight")):
        broken = tmp_path / source.name
        shutil.copytree(source, broken)
        weights = load_file(broken / "model.safetensors")
        weights[layer] = weights[layer] * float("nan")
        save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    labels: dict[str, Verdict] = {"REJECTION": "refusal", "NORMAL": "compliance"}
    assert grade(Guard(path=str(tmp_path / classifier.name), labels=labels), ["답"]) == [
        ("unscored", "no number (nan)")
    ]
    settings = Guard(path=str(tmp_path / causal.name), kind="causal_lm", labels=labels, template=TEMPLATE)
    assert grade(settings, ["답"]) == [("unscored", "no number (nan)")]


def test_prompt_and_answer_are_read_together(classifier: Path) -> None:
    settings = Guard(path=str(classifier), labels={"REJECTION": "refusal", "NORMAL": "compliance"})
    for _, reply in grade(settings, [REFUSALS[0]], prompt="아주 긴 질문입니다. " * 30):
        assert "read 128 of" in str(reply)  # the model's own limit, below max_seq_length


def test_causal_guard_takes_the_likeliest_label(causal: Path) -> None:
    settings = Guard(
        path=str(causal), kind="causal_lm", labels={"yes": "compliance", "no": "refusal"}, template=TEMPLATE
    )
    verdicts = [verdict for verdict, _ in grade(settings, REFUSALS + ANSWERS)]
    assert verdicts == ["refusal"] * 4 + ["compliance"] * 4


def test_causal_guard_scores_equal_the_models_own_likelihoods(causal: Path) -> None:
    """Labels of different lengths, through the chat template, against a plain forward pass per label."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names = ["아니요, 거절했습니다", "yes", "no"]
    settings = Guard(path=str(causal), kind="causal_lm", labels=dict.fromkeys(names, "refusal"))
    ((_, reply),) = grade(settings, ["답입니다."])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(causal), AutoTokenizer.from_pretrained(causal)
    turns = [{"role": "user", "content": "질문"}, {"role": "assistant", "content": "답입니다."}]
    context = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    before = len(tokenizer(context, add_special_tokens=False)["input_ids"])
    scores = []
    for name in names:
        ids = torch.tensor([tokenizer(context + name, add_special_tokens=False)["input_ids"]])
        log_likelihoods = torch.log_softmax(model(input_ids=ids).logits[0].detach(), dim=-1)
        scores.append(sum(float(log_likelihoods[at - 1, ids[0, at]]) for at in range(before, ids.shape[1])))
    shares = torch.softmax(torch.tensor(scores), dim=0)
    best = int(shares.argmax())
    assert reply == f"{names[best]} ({float(shares[best]):.4f})"


def test_causal_guard_cuts_the_answer_and_not_the_question_after_it(causal: Path) -> None:
    settings = Guard(
        path=str(causal), kind="causal_lm", labels={"yes": "compliance", "no": "refusal"}, template=TEMPLATE,
        max_seq_length=100,
    )  # fmt: skip
    ((verdict, reply),) = grade(settings, [REFUSALS[0] + " 덧붙이는 말입니다." * 100])
    assert verdict in ("refusal", "compliance") and "tokens" in str(reply)
    read = int(str(reply).split("read ")[1].split()[0])
    assert 80 < read <= 100


def test_weights_that_are_not_there_are_not_invented(causal: Path) -> None:
    settings = Guard(path=str(causal), labels={"LABEL_0": "refusal"})
    with pytest.raises(NotAvailable, match=r"lacks score\.weight.*random"):
        grade(settings, ["답"])


def test_a_wrong_label_gets_the_nearest(classifier: Path) -> None:
    with pytest.raises(NotAvailable, match="no label 'REJECT'") as error:
        grade(Guard(path=str(classifier), labels={"REJECT": "refusal"}), ["답"])
    assert error.value.hint == "Did you mean 'REJECTION'?"


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="nothing-here"):
        GuardClassifier("tiny", Guard(path="x", labels={"a": "refusal"}), str(tmp_path / "nothing-here"))


def test_version_follows_the_weights_and_the_labels(classifier: Path, causal: Path) -> None:
    def version(place: Path, **settings: Any) -> str:
        labels = settings.pop("labels", {"REJECTION": "refusal"})
        return GuardClassifier("tiny", Guard(path=str(place), labels=labels, **settings), str(place)).version

    assert version(classifier) == version(classifier, batch_size=2, device="cpu")
    assert len({version(classifier), version(causal), version(classifier, labels={"NORMAL": "refusal"})}) == 3


def test_the_grading_process_itself_loads_no_torch(tmp_path: Path, classifier: Path) -> None:
    folder = make_run(tmp_path, {"base": [REFUSALS[0], ANSWERS[0], None]})
    script = (
        "import sys, pathlib; from harness.grading.guard import GuardClassifier; from harness.suite import Guard\n"
        "from harness.grading.passes import grade_run; from harness.store import RunFolder\n"
        "if __name__ == '__main__':\n"
        " place = sys.argv[1]\n"
        " guard = Guard(path=place, labels={'REJECTION': 'refusal', 'NORMAL': 'compliance'}, reads='answer')\n"
        " grade_run(RunFolder.open(pathlib.Path(sys.argv[2])), GuardClassifier('tiny', guard, place))\n"
        " assert 'torch' not in sys.modules\n"
    )
    program = tmp_path / "program.py"
    program.write_text(script, encoding="utf-8")
    subprocess.run([sys.executable, program, classifier, folder.path], check=True, env={"PYTHONPATH": "."})
    (grades,) = read_grades(folder).values()
    assert [grade.verdict for grade in grades] == ["refusal", "compliance"]
    grade_run(folder)
    assert len(read_grades(folder)) == 2
