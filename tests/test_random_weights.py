"""Random weights: made from a configuration and a seed, loaded as any model, and said to be random everywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from harness.environment import describe_environment
from harness.errors import InvalidInput, NotAvailable
from harness.orders import WorkOrder
from harness.plan import Plan, make_plan
from harness.random_weights import RECIPE_FILE, read_recipe, recipe_hash
from harness.records import Event, Job
from harness.suite import Model, Sampling
from harness.suite_file import load_suite
from tests.orders import Inbox, make_order
from tests.tiny_models import make_tokenizer

PROJECT = Path(__file__).parents[1]
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 6400,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "attention_bias": True,
    "initializer_range": 0.05,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SUITE = """\
name: speed
models:
  base: {path: tiny, weights: random, max_seq_length: 128, prompt_format: alpaca_ko}
  tuned: {like: base, adapter: {trained_by: lora}, compare_to: base}
  other: {like: base, weights_seed: 1}
training:
  lora:
    model: base
    data: {path: rows.jsonl}
    trainer: {max_steps: 3, optim: adamw_torch, learning_rate: 0.01}
performance:
  throughput: {models: [base, tuned, other], batch_sizes: [1, 2], prompt_tokens: 8, new_tokens: 4, repeats: 3}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    write_config(tmp_path / "tiny")
    row = {"instruction": "질문", "input": "", "output": "답"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return tmp_path / "suite.yaml"


def write_config(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}), encoding="utf-8")
    return folder


def weights_order(source: Path, folder: Path, seed: int = 3407) -> WorkOrder:
    model = Model(path="tiny", weights="random", weights_seed=seed)
    return make_order(source, kind="make_weights", model=model, parameters={"made_on": "cpu"}).model_copy(
        update={"weights_folder": str(folder)}
    )


def make(source: Path, folder: Path, seed: int = 3407) -> list[Event]:
    from harness.workloads.make_weights import make_weights

    inbox = Inbox()
    make_weights(weights_order(source, folder, seed), inbox)
    return [record for record in inbox.records if isinstance(record, Event)]


def test_the_shipped_configuration_is_llama_3_1_8b() -> None:
    from harness.workloads.make_weights import meta_model

    model = meta_model(PROJECT / "suites/configs/llama31_8b")
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_030_261_248
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.bfloat16"}
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.config.rope_parameters["rope_type"] == "llama3"
    assert model.config.rope_parameters["rope_theta"] == 500_000


def test_weights_come_from_the_seed_and_are_initialised_as_models_are(tmp_path: Path) -> None:
    source = write_config(tmp_path / "tiny")
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    make(source, first)
    make(source, again)
    make(source, other, seed=1)
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()
    tensors = load_file(first / "model.safetensors")
    assert "lm_head.weight" not in tensors  # tied to the embeddings
    assert (tensors["model.norm.weight"] == 1).all()
    assert (tensors["model.layers.0.self_attn.q_proj.bias"] == 0).all()
    embeddings = tensors["model.embed_tokens.weight"].float()
    assert embeddings.std().item() == pytest.approx(0.05, rel=0.01)
    assert abs(embeddings.mean().item()) < 0.001


def test_shards_are_what_transformers_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    from harness.workloads import make_weights

    monkeypatch.setattr(make_weights, "SHARD_SIZE", "300KB")
    folder = tmp_path / "made"
    make(write_config(tmp_path / "tiny", tie_word_embeddings=False), folder)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    stored = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    loaded = model.state_dict()
    assert set(stored) == set(loaded)
    assert all((stored[name] == loaded[name]).all() for name in stored)


def test_the_backend_says_that_the_weights_are_random(tmp_path: Path) -> None:
    from harness.backends import open_backend

    folder = tmp_path / "made"
    make(write_config(tmp_path / "tiny"), folder)
    backend = open_backend(make_order(folder, kind="throughput", sampling=Sampling(max_new_tokens=4)))
    assert backend.describe().weights == "random"


def test_a_tokenizer_beside_the_configuration_is_used(tmp_path: Path) -> None:
    source = write_config(tmp_path / "tiny")
    events = make(source, tmp_path / "without")
    assert [event.code for event in events] == ["random_weights", "stand_in_tokenizer"]
    assert all(
        str(event.data["model"]) in event.message for event in events
    )  # what is told in the same words is told once
    make_tokenizer().save_pretrained(source)
    events = make(source, tmp_path / "with")
    assert [event.code for event in events] == ["random_weights"]
    assert (tmp_path / "with" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    lengths = json.loads((tmp_path / "without" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert lengths["model_max_length"] == CONFIG["max_position_embeddings"]


def test_a_vocabulary_too_small_for_the_stand_in_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"6,400 tokens of tiny-ko's.* more than this model's 400"):
        make(write_config(tmp_path / "tiny", vocab_size=400), tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_weights_are_made_once_and_again_if_damaged(tmp_path: Path) -> None:
    source, folder = write_config(tmp_path / "tiny"), tmp_path / "made"
    assert "were made" in make(source, folder)[0].message
    assert "were found made" in make(source, folder)[0].message
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    assert read_recipe(folder) is None
    assert "were made" in make(source, folder)[0].message
    assert (folder / "model.safetensors").read_bytes() == whole


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_config(tmp_path / "tiny")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 10**9))
    with pytest.raises(NotAvailable, match=r"made: the random weights need 0\.0 GB on disk .*1\.0 GB are free"):
        make(source, tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["tiny"]


def test_what_is_no_causal_language_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"tiny: no model can be made from its configuration"):
        make(write_config(tmp_path / "tiny", model_type="no_such_model"), tmp_path / "made")


def test_weights_in_the_folder_do_not_count(tmp_path: Path) -> None:
    source = write_config(tmp_path / "tiny")
    before = recipe_hash(str(source), None, 1, "cpu")
    (source / "model.safetensors").write_bytes(b"weights")
    (source / "README.md").write_text("about", encoding="utf-8")
    assert recipe_hash(str(source), None, 1, "cpu") == before
    assert recipe_hash(str(source), None, 2, "cpu") != before
    assert recipe_hash(str(source), None, 1, "cuda") != before
    write_config(source, hidden_size=32)
    assert recipe_hash(str(source), None, 1, "cpu") != before


def plan_of(suite: Path) -> Plan:
    return make_plan(load_suite(suite), (), describe_environment())


def test_models_with_the_same_recipe_share_one_job_that_all_others_need(suite: Path) -> None:
    jobs = plan_of(suite).jobs
    made = [job for job in jobs if job.kind == "make_weights"]
    assert [job.model for job in made] == ["base", "other"]
    assert list(jobs[:2]) == made

    def needs(kind: str, model: str) -> set[str]:
        return {need for job in jobs if job.kind == kind and job.model == model for need in job.needs}

    training = next(job for job in jobs if job.kind == "train")
    assert needs("train", "base") == {made[0].id}
    assert needs("throughput", "base") == {made[0].id}
    assert needs("throughput", "tuned") == {made[0].id, training.id}
    assert needs("throughput", "other") == {made[1].id}
    assert not [job for job in jobs if job.kind == "generate"]


def test_training_alone_makes_the_weights_it_needs(suite: Path) -> None:
    jobs: tuple[Job, ...] = plan_of(suite).training_only().jobs
    assert [(job.kind, job.model) for job in jobs] == [("make_weights", "base"), ("train", "base")]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("name: speed\n", "name: speed\nlm_eval: {tasks: [kobest_boolq]}\n", "suite that reports quality (lm_eval)"),
        ("weights_seed: 1", "weights: file, weights_seed: 1", "only a model with weights: random has a seed"),
        ("weights_seed: 1", "weights: fiel", "must be 'file' or 'random'"),
        (SUITE[SUITE.index("training:") :], "", "the suite asks for nothing"),
    ],
)
def test_faults_of_such_a_suite(suite: Path, old: str, new: str, fault: str) -> None:
    changed = SUITE.replace(old, new)
    if "asks for nothing" in fault:
        changed = changed.replace("  tuned: {like: base, adapter: {trained_by: lora}, compare_to: base}\n", "")
    suite.write_text(changed, encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        load_suite(suite)
    assert fault in str(caught.value)
    assert len(caught.value.faults) == 1


def test_a_suite_with_prompts_refuses_random_weights_by_one_sentence(suite: Path) -> None:
    prompt = {"id": "a", "text": "질문", "category": "c", "expected": "comply", "pair_id": None}
    rows = json.dumps({**prompt, "source": "test", "licence": "Apache-2.0"})
    (suite.parent / "prompts.jsonl").write_text(rows + "\n", encoding="utf-8")
    text = SUITE.replace("models:\n", "prompts: [prompts.jsonl]\nmodels:\n").replace("128", "2048")
    suite.write_text(text, encoding="utf-8")
    done = harness("validate", str(suite))
    assert done.returncode == 2
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "weights: random" in line)
    assert f"suite.yaml:{line}: models.base.weights: random weights answer nothing of sense" in done.stderr
    assert done.stderr.count("suite.yaml:") == 1


def harness(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "harness", *arguments], capture_output=True, text=True, cwd=PROJECT)


def test_a_run_that_measures_performance_alone_ends_in_a_marked_page(suite: Path) -> None:
    results = suite.parent / "results"
    done = harness("run", str(suite), "--results", str(results))
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip())
    html = page.read_text(encoding="utf-8")
    assert "무작위 가중치입니다: base, tuned, other." in html
    assert "Random weights: base, tuned, other." in html
    assert "writes up to" in html and "No prompts were asked" not in html
    assert 'id="rates"' not in html and 'id="answers"' not in html and 'href="#answers"' not in html
    plots = html.count('class="plot"')
    assert plots > 3
    assert html.count(">random weights</text>") == html.count(">무작위 가중치</text>") == plots
    captions = html.count("</figcaption>")
    assert captions == plots
    assert html.count("</span></span></figcaption>") == captions
    harness("report", str(page.parent))
    assert page.read_text(encoding="utf-8") == html
    assert "random weights" in (results / "index.html").read_text(encoding="utf-8")
    made = sorted((results / "random-weights").glob("tiny-*"))
    assert len(made) == 2 and all((folder / RECIPE_FILE).is_file() for folder in made)
    comparison = suite.parent / "comparison.html"
    assert harness("compare", str(page.parent), str(page.parent), "--output", str(comparison)).returncode == 0
    compared = comparison.read_text(encoding="utf-8")
    assert "random weights" in compared and 'id="rates"' not in compared
