"""Training on a real (tiny, random) Llama: what it learns, counts, costs, refuses and leaves behind."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.adapter_cache import ADAPTER_FILES, CachedAdapter, lookup
from harness.errors import HarnessError, NotAvailable, PrecisionMismatch
from harness.records import Event, JobRecord, Measurement, TrainingResult, TrainingStep
from harness.report.events import event_text
from harness.suite import Lora, Model, Trainer, Training, TrainingData
from harness.workloads.train_lora import TrainingWork, train_lora
from tests.tiny_models import make_tiny_llama

ROWS = [
    {
        "instruction": f"{number}번 질문에 답해 줘.",
        "input": "",
        "output": "죄송하지만 도와드릴 수 없습니다." * (1 + number % 3),
    }
    for number in range(12)
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only lose by sharing the work, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", ROWS)


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


@dataclass
class Trained:
    """One training with all it said."""

    work: TrainingWork
    records: list[JobRecord] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)

    def run(self) -> Trained:
        self.result = train_lora(
            self.work, self.records.append, lambda done, total: self.progress.append((done, total))
        )
        return self

    @property
    def steps(self) -> list[TrainingStep]:
        return [record for record in self.records if isinstance(record, TrainingStep)]

    @property
    def losses(self) -> list[float]:
        return [step.loss for step in self.steps]

    @property
    def events(self) -> dict[str, Event]:
        return {record.code: record for record in self.records if isinstance(record, Event)}

    def adapter_bytes(self) -> list[bytes]:
        return [(self.work.adapter_folder / name).read_bytes() for name in ADAPTER_FILES]


@dataclass
class Maker:
    """Makes trainings that differ from a plain one in some keys."""

    llama: Path
    rows_file: Path
    folder: Path
    number: int = 0

    def __call__(
        self,
        *,
        model: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        lora: dict[str, Any] | None = None,
        trainer: dict[str, Any] | None = None,
        place: Path | None = None,
        rows: list[dict[str, str]] | None = None,
        **keys: Any,
    ) -> Trained:
        self.number += 1
        file = self.rows_file
        if rows is not None:
            file = write_rows(self.folder / f"rows-{self.number}.jsonl", rows)
        training = Training(
            model="base",
            data=TrainingData(path="rows.jsonl", **(data or {})),
            lora=Lora(**{"r": 4, **(lora or {})}),
            trainer=Trainer(**{"max_steps": 2, "warmup_steps": 0, "optim": "adamw_torch", **(trainer or {})}),
            **{"max_seq_length": 256, **keys},
        )
        work = TrainingWork(
            job_id="train-safety-0",
            name="safety",
            training=training,
            model=Model(path="model", **(model or {})),
            model_place=str(place or self.llama),
            data_place=str(file),
            adapter_folder=self.folder / "adapters" / f"safety-{self.number}",
        )
        return Trained(work)


@pytest.fixture
def make(llama: Path, rows_file: Path, tmp_path: Path) -> Maker:
    return Maker(llama, rows_file, tmp_path)


@pytest.fixture(scope="module")
def two_epochs(llama: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    make = Maker(llama, rows_file, tmp_path_factory.mktemp("two_epochs"))
    settings = {"max_steps": None, "num_train_epochs": 2, "per_device_train_batch_size": 4, "learning_rate": 3e-2}
    return make(trainer={**settings, "gradient_accumulation_steps": 1}).run()


def tokens_of(rows: list[dict[str, str]], place: Path) -> list[list[int]]:
    """Tokenize by hand: prompt and answer in the Korean Alpaca form, and one end token."""
    from transformers import AutoTokenizer

    from harness.prompt_formats import render

    tokenizer = AutoTokenizer.from_pretrained(place)
    texts = [render("alpaca_ko", row["instruction"]) + row["output"] for row in rows]
    return [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]


def test_it_learns_and_counts_what_it_did(two_epochs: Trained, llama: Path) -> None:
    result = two_epochs.result
    assert (result.rows, result.steps, result.epochs) == (12, 6, 2.0)
    assert result.tokens == 2 * sum(map(len, tokens_of(ROWS, llama)))
    assert result.tokens_per_second == pytest.approx(result.tokens / result.seconds)
    assert two_epochs.losses[-1] < two_epochs.losses[0] - 0.05
    assert result.final_loss == two_epochs.losses[-1]
    assert result.non_finite_steps == 0
    # Each of 2 layers: q and o 32x32, k and v 32x16, gate and up 32x64, down 64x32; A and B of rank 4.
    assert result.trainable_parameters == 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))


def test_progress_and_records_come_live_and_in_order(two_epochs: Trained) -> None:
    assert two_epochs.progress == [(done, 6) for done in range(7)]
    assert [step.step for step in two_epochs.steps] == [1, 2, 3, 4, 5, 6]
    assert [step.epoch for step in two_epochs.steps] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    # Linear from the peak to zero without warm-up.
    assert [step.learning_rate for step in two_epochs.steps] == pytest.approx([3e-2 * (6 - n) / 6 for n in range(6)])
    assert two_epochs.records[-1] == two_epochs.result


def test_time_and_memory_are_measured(two_epochs: Trained) -> None:
    result = two_epochs.result
    measured = {record.name: record for record in two_epochs.records if isinstance(record, Measurement)}
    steps = measured["adapter_training_step_seconds"].values
    assert len(steps) == 6
    assert 0 < sum(steps) <= result.seconds
    assert "process RSS" in result.memory_method
    assert 0 < result.memory_before_bytes <= result.memory_peak_bytes < result.device_memory_bytes
    assert result.memory_training_bytes == result.memory_peak_bytes - result.memory_before_bytes
    assert measured["adapter_training_peak_process_rss_bytes"].values == (float(result.memory_peak_bytes),)


def test_the_entry_is_whole_and_holds_the_cost(two_epochs: Trained) -> None:
    folder = two_epochs.work.adapter_folder
    assert {file.name for file in folder.iterdir()} == {*ADAPTER_FILES, "training.json"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    found = lookup(folder)
    assert isinstance(found, CachedAdapter)
    assert list(found.records) == two_epochs.records
    assert found.result == two_epochs.result


def test_the_saved_adapter_lowers_the_loss_of_its_rows(two_epochs: Trained, llama: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.tensor(tokens_of(ROWS[:1], llama))
    base = AutoModelForCausalLM.from_pretrained(llama)
    with torch.no_grad():
        before = float(base(input_ids=ids, labels=ids).loss)
        tuned = PeftModel.from_pretrained(base, two_epochs.work.adapter_folder)
        after = float(tuned(input_ids=ids, labels=ids).loss)
    assert after < before - 0.05


@pytest.mark.parametrize("loss_on", ["everything", "answer"])
def test_the_first_loss_is_the_mean_over_all_tokens_of_the_step(make: Maker, llama: Path, loss_on: str) -> None:
    """LoRA starts as no change, so the first step's loss is the base's own, over all its batches at once."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.prompt_formats import render

    tokenizer = AutoTokenizer.from_pretrained(llama)
    base = AutoModelForCausalLM.from_pretrained(llama).eval()
    total, count = 0.0, 0
    for row, ids in zip(ROWS, tokens_of(ROWS, llama), strict=True):
        prompt = len(tokenizer(render("alpaca_ko", row["instruction"]))["input_ids"]) if loss_on == "answer" else 1
        with torch.no_grad():
            logits = base(input_ids=torch.tensor([ids])).logits[0, prompt - 1 : -1]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[prompt:]), reduction="none")
        total, count = total + float(losses.sum()), count + len(losses)
    trainer = {"max_steps": 1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}
    trained = make(trainer=trainer, data={"loss_on": loss_on}).run()
    assert trained.losses == [pytest.approx(total / count, rel=1e-5)]
    assert trained.result.epochs == 1.0


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(make: Maker) -> None:
    one, two = make(lora={"lora_dropout": 0.1}).run(), make(lora={"lora_dropout": 0.1}).run()
    assert one.adapter_bytes() == two.adapter_bytes()
    assert one.losses == two.losses
    assert one.result.adapter_hash == two.result.adapter_hash
    other_order = make(lora={"lora_dropout": 0.1}, trainer={"seed": 1}).run()
    other_start = make(lora={"lora_dropout": 0.1, "random_state": 1}).run()
    hashes = {one.result.adapter_hash, other_order.result.adapter_hash, other_start.result.adapter_hash}
    assert len(hashes) == 3


def test_part_of_an_epoch_is_told_as_such(make: Maker) -> None:
    trained = make(trainer={"max_steps": 1, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}).run()
    assert trained.result.epochs == 0.5


def test_a_sparse_loss_curve_still_counts_every_step(make: Maker) -> None:
    trained = make(trainer={"max_steps": 5, "logging_steps": 2}).run()
    assert [step.step for step in trained.steps] == [2, 4]
    assert len(trained.progress) == 6
    assert trained.result.final_loss == trained.losses[-1]


CAPTURED = {
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 2,
    "warmup_steps": 1,
    "max_steps": 2,
    "learning_rate": 3e-4,
    "bf16": True,
    "logging_steps": 2,
    "optim": "adamw_torch_fused",
    "weight_decay": 0.07,
    "lr_scheduler_type": "cosine",
    "seed": 11,
    "packing": True,
    "dataset_num_proc": 2,
    "output_dir": "work",
}
CAPTURED_LORA = {
    "r": 8,
    "target_modules": ("q_proj", "down_proj"),
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "bias": "all",
    "use_rslora": True,
    "use_gradient_checkpointing": True,
    "random_state": 5,
}


def test_every_key_reaches_trl_and_peft(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    import peft
    import trl

    from harness.workloads import fitting, lora_model

    made: dict[str, Any] = {}

    def keep(name: str, factory: Any) -> Any:
        def construct(**arguments: Any) -> Any:
            made[name] = factory(**arguments)
            return made[name]

        return construct

    monkeypatch.setattr(fitting, "SFTConfig", keep("trainer", trl.SFTConfig))
    monkeypatch.setattr(lora_model, "LoraConfig", keep("lora", peft.LoraConfig))
    trained = make(trainer=CAPTURED, lora=CAPTURED_LORA, max_seq_length=128).run()
    config, lora = made["trainer"], made["lora"]
    apart = {"num_train_epochs", "fp16"}  # each is another key's opposite
    assert set(CAPTURED) == set(Trainer.model_fields) - apart, "a new key needs a value here"
    for key in set(CAPTURED) - {"output_dir"}:
        assert getattr(config, key) == CAPTURED[key], key
    assert Path(config.output_dir).name == "work"
    assert Path(config.output_dir).parent.parent == trained.work.adapter_folder.parent
    assert config.max_length == 128
    assert config.gradient_checkpointing is True
    assert config.fp16 is False
    assert set(CAPTURED_LORA) == set(Lora.model_fields) - {"loftq_config"}, "a new key needs a value here"
    for key in ("r", "lora_alpha", "lora_dropout", "bias", "use_rslora"):
        assert getattr(lora, key) == CAPTURED_LORA[key], key
    assert lora.target_modules == {"q_proj", "down_proj"}
    saved = json.loads((trained.work.adapter_folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (saved["r"], saved["use_rslora"], saved["target_modules"]) == (8, True, ["down_proj", "q_proj"])
    recorded = trained.result.settings
    assert {key: recorded[key] for key in CAPTURED} == CAPTURED
    assert recorded["target_modules"] == ["q_proj", "down_proj"]


def test_epochs_reach_the_trainer(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"max_steps": None, "num_train_epochs": 0.5, "per_device_train_batch_size": 2}
    trained = make(trainer={**settings, "gradient_accumulation_steps": 1}).run()
    assert (trained.result.steps, trained.result.epochs) == (3, 0.5)


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adafactor", "sgd"])
def test_every_optimizer_of_torch_and_transformers_trains(make: Maker, optim: str) -> None:
    trained = make(trainer={"optim": optim, "learning_rate": 1e-2}).run()
    assert trained.result.settings["lora_b_nonzero"] == 14


@pytest.mark.parametrize(
    "schedule", ["cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"]
)
def test_every_schedule_warms_up_and_stays_below_the_peak(make: Maker, schedule: str) -> None:
    settings = {"lr_scheduler_type": schedule, "warmup_steps": 2, "max_steps": 4, "learning_rate": 1e-3}
    rates = [step.learning_rate for step in make(trainer=settings).run().steps]
    assert rates[0] == (1e-3 if schedule == "constant" else 0)
    assert max(rates) == rates[2] == pytest.approx(1e-3)


def test_an_eight_bit_optimizer_is_replaced_on_a_cpu_and_that_is_said(make: Maker) -> None:
    plain, replaced = make().run(), make(trainer={"optim": "adamw_8bit"}).run()
    assert "adamw_torch in place of adamw_8bit" in replaced.result.substitutions["optim"]
    assert "adamw_torch in place" in replaced.events["setting_substituted"].message
    assert "adamw_8bit → adamw_torch (앞의" in event_text(replaced.events["setting_substituted"])
    assert replaced.result.settings["optim"] == "adamw_torch"
    assert replaced.adapter_bytes() == plain.adapter_bytes()
    assert plain.result.substitutions == {}


def test_bfloat16_is_what_it_computes_in_over_float32_lora_weights(make: Maker) -> None:
    from safetensors.torch import load_file

    trained = make(model={"dtype": "bfloat16"}).run()
    assert (trained.result.settings["dtype"], trained.result.settings["bf16"]) == ("bfloat16", True)
    weights = load_file(trained.work.adapter_folder / ADAPTER_FILES[1])
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_another_precision_than_asked_for_stops_the_training(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.workloads import fitting

    whole: Any = fitting.fit

    def fit_in_float32(*arguments: Any) -> Any:
        without_autocast = {**arguments[4], "bf16": False}
        return whole(*arguments[:4], without_autocast, *arguments[5:])

    monkeypatch.setattr(fitting, "fit", fit_in_float32)
    trained = make(trainer={"bf16": True})
    with pytest.raises(PrecisionMismatch, match="asked for in bfloat16, but it computes in float32"):
        trained.run()
    assert not list(trained.work.adapter_folder.parent.iterdir())


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"model": {"dtype": "float16"}}, "fp16"),
        ({"trainer": {"fp16": True}}, "fp16"),
        ({"load_in_4bit": True}, "load_in_4bit"),
        ({"model": {"quantization": "8bit"}}, "8bit"),
        ({"backend": "unsloth"}, "unsloth"),
        ({"model": {"device": "cuda"}}, "device: cuda"),
        ({"lora": {"use_gradient_checkpointing": "unsloth"}}, "use_gradient_checkpointing"),
        ({"lora": {"loftq_config": {"loftq_bits": 4, "loftq_iter": 1}}}, "loftq_config"),
        ({"lora": {"target_modules": ("q_proj", "lm_head")}}, "lm_head"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="these are the limits of a machine without a GPU")
def test_what_this_machine_cannot_honour_is_one_sentence(make: Maker, keys: dict[str, Any], part: str) -> None:
    trained = make(**keys)
    with pytest.raises(NotAvailable) as caught:
        trained.run()
    assert part in caught.value.message
    assert "\n" not in caught.value.message
    assert not list(trained.work.adapter_folder.parent.iterdir())


def test_a_layer_that_is_not_there_is_named(make: Maker) -> None:
    with pytest.raises(HarnessError, match="no linear layer of this model is called 'qproj'") as caught:
        make(lora={"target_modules": ("v_proj", "qproj")}).run()
    assert caught.value.hint == "Did you mean 'q_proj'?"


def test_an_untrained_adapter_is_not_kept(make: Maker) -> None:
    trained = make(trainer={"learning_rate": 1e-300})
    with pytest.raises(HarnessError, match="every LoRA B matrix is still zero"):
        trained.run()
    assert not list(trained.work.adapter_folder.parent.iterdir())


def test_a_diverged_training_shows_its_losses_and_is_not_kept(make: Maker) -> None:
    trained = make(trainer={"learning_rate": 1e30, "max_steps": 4})
    with pytest.raises(HarnessError, match="diverged: .* LoRA matrices"):
        trained.run()
    assert not math.isfinite(trained.losses[-1]), "a loss that is no number is shown as such"
    assert len(trained.steps) == 4


def test_losses_that_are_not_finite_are_counted(llama: Path, rows_file: Path, tmp_path: Path) -> None:
    from harness.workloads.fitting import _Watch

    class Trainer:
        finite = torch.tensor(True)
        tokens = 0
        accelerator = type("Accelerator", (), {"optimizer_step_was_skipped": False})

    watch = _Watch("job", "cpu", lambda step: None, lambda done, total: None)
    watch.trainer = Trainer()
    state = type("State", (), {"global_step": 1, "max_steps": 4})
    watch.on_train_begin(None, state, None, model=torch.nn.Linear(1, 1))
    for finite, skipped in ((True, False), (False, False), (True, True), (True, False)):
        watch.trainer.tokens += 7
        watch.trainer.finite = torch.tensor(finite)
        watch.trainer.accelerator.optimizer_step_was_skipped = skipped
        watch.on_step_end(None, state, None)
    assert watch.non_finite_steps == 2
    assert watch.skipped_steps == 1, "the loss scaler's share of them"
    assert len(watch.step_seconds) == 4
    assert watch.step_tokens == [7, 7, 7, 7]


def test_positions_are_stretched_only_for_rows_beyond_the_window(make: Maker, tmp_path: Path) -> None:
    longest = max(map(len, tokens_of(ROWS, make.llama)))
    assert longest > 64, "the rows of this test must reach beyond the window"
    needed = make(place=make_tiny_llama(tmp_path / "shorter", max_position_embeddings=64)).run()
    assert needed.result.settings["rope_scaling_factor"] == 256 / 64
    assert "RoPE was scaled by 4" in needed.events["rope_scaled"].message
    assert "RoPE를 4배로" in event_text(needed.events["rope_scaled"])
    within = make_tiny_llama(tmp_path / "within", max_position_embeddings=longest)
    plain = make(place=within).run()
    assert plain.result.settings["rope_scaling_factor"] is None
    assert "rope_scaled" not in plain.events
    cut = make(place=within, max_seq_length=64).run()
    assert cut.result.settings["rope_scaling_factor"] is None
    assert cut.result.rows_truncated == 12
    assert cut.result.tokens <= 16 * 64
    assert "12 rows are longer than 64 tokens" in cut.events["rows_truncated"].message
    assert "64토큰보다 긴 학습 행 12개를" in event_text(cut.events["rows_truncated"])


def test_stretched_positions_are_those_of_a_model_configured_so(llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    from harness.backends.rope import scale_rope

    ids = torch.arange(3, 40)[None]
    theta = AutoModelForCausalLM.from_pretrained(llama).config.rope_parameters["rope_theta"]
    parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": theta}
    configured = AutoModelForCausalLM.from_pretrained(llama, rope_parameters=parameters)
    plain = AutoModelForCausalLM.from_pretrained(llama)
    with torch.no_grad():
        before, expected = plain(ids).logits, configured(ids).logits
        scale_rope(plain, 2.0)
        after = plain(ids).logits
    assert torch.equal(after, expected)
    assert not torch.allclose(before, after)
    assert plain.config.max_position_embeddings == 1024
    with pytest.raises(NotAvailable, match="not of the kind that can be scaled"):
        scale_rope(plain, 2.0)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_are_all_seen_once_and_apart(make: Maker, llama: Path, attention: str) -> None:
    settings = {"max_steps": None, "num_train_epochs": 1, "per_device_train_batch_size": 1, "packing": True}
    packed = make(model={"attention": attention}, trainer={**settings, "gradient_accumulation_steps": 100}).run()
    alone = make(trainer={**settings, "packing": False, "gradient_accumulation_steps": 12}).run()
    assert packed.result.tokens == alone.result.tokens == sum(map(len, tokens_of(ROWS, llama)))
    # Rows that saw each other would have other losses; the adapters are equal up to the order of summing.
    assert packed.losses == pytest.approx(alone.losses, rel=1e-4)


def test_packing_is_refused_where_rows_see_each_other(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import masking_utils

    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda position_ids: None)
    with pytest.raises(NotAvailable, match="packing: with attention 'sdpa' a packed row sees the rows before it"):
        make(trainer={"packing": True}).run()


def test_recomputing_activations_changes_nothing_but_memory(make: Maker) -> None:
    plain, recomputed = make().run(), make(lora={"use_gradient_checkpointing": True}).run()
    assert recomputed.losses == pytest.approx(plain.losses, rel=1e-5)


def test_nothing_is_printed_and_nothing_written_elsewhere(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets
    import transformers

    monkeypatch.chdir(tmp_path)
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    before = sorted(cache.rglob("*")) if cache.exists() else []
    levels = transformers.utils.logging.get_verbosity()
    trained = make(trainer={"dataset_num_proc": 2}).run()
    assert "".join(capfd.readouterr()) == ""
    assert transformers.utils.logging.get_verbosity() == levels
    assert {path.name for path in tmp_path.iterdir()} == {trained.work.adapter_folder.parent.name}
    assert (sorted(cache.rglob("*")) if cache.exists() else []) == before


def test_running_out_of_memory_says_what_needs_less(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import SFTTrainer

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nDetails")

    monkeypatch.setattr(SFTTrainer, "training_step", fail)
    with pytest.raises(HarnessError, match="ran out of memory: CUDA out of memory. Tried.*GiB.$") as caught:
        make().run()
    assert "per_device_train_batch_size" in str(caught.value.hint)


def test_a_full_disk_is_one_sentence(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel
    from safetensors import SafetensorError

    from harness.errors import StoreError

    def fail(*_: Any, **__: Any) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(PeftModel, "save_pretrained", fail)
    trained = make()
    with pytest.raises(StoreError, match="could not be written: No space left"):
        trained.run()
    assert not list(trained.work.adapter_folder.parent.iterdir())


def test_a_second_training_replaces_the_entry(make: Maker) -> None:
    first = make().run()
    second = Trained(replace(first.work, model_place=first.work.model_place)).run()
    assert second.result.adapter_hash == first.result.adapter_hash
    found = lookup(first.work.adapter_folder)
    assert isinstance(found, CachedAdapter)
    assert isinstance(found.result, TrainingResult)
