"""What one way of answering does with text, as one JSON object on the last line of stdout; `test_text.py` judges it.

    python -m tests.gpu.text_checks WAY ADAPTERS_FOLDER GROUP

A WAY is a backend (hf, unsloth) or an engine (fast, vllm). Each check stands alone: one that fails leaves its
traceback, one that this way has not says so, the others go on.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "harness" / "tiny_ko" / "model"
ROWS = ROOT / "suites" / "data" / "safe_conversation_ko.jsonl"
PROMPT_FILES = ("prompts/general_ko.jsonl", "prompts/harmful_ko.jsonl")
PROMPTS_PER_FILE = 6
ENGINES = ("fast", "vllm")
SAMPLING = {"max_new_tokens": 48, "vllm": {"gpu_memory_share": 0.15}}
"""vLLM would else want nearly all memory, some of which the check before may still hold."""


class Checks:
    """The checks of one way of answering."""

    def __init__(self, way: str, adapters: Path) -> None:
        self.engine = way if way in ENGINES else None
        self.backend = "hf" if self.engine else way
        self.adapters = adapters
        self.prompts = [
            json.loads(line)["text"]
            for file in PROMPT_FILES
            for line in (ROOT / file).read_text(encoding="utf-8").splitlines()[:PROMPTS_PER_FILE]
        ]

    def load(self, dtype: str = "bfloat16", quantization: str = "none", **order: Any) -> Any:
        """Load the demonstration model as a generation job would."""
        from harness.backends import open_backend
        from harness.engine import open_engine
        from harness.suite import Model, Sampling
        from tests.orders import make_order

        keys = {"path": str(MODEL), "backend": self.backend, "dtype": dtype, "quantization": quantization}
        model = Model.model_validate({**keys, "prompt_format": "alpaca_ko", "max_seq_length": 512})
        sampling = Sampling.model_validate(SAMPLING)
        if self.engine:
            order["parameters"] = {"engine": self.engine}
            return open_engine(make_order(MODEL, model=model, sampling=sampling, **order))
        return open_backend(make_order(MODEL, model=model, sampling=sampling, **order))

    def answers(self, loaded: Any, prompts: list[str], on_text: Callable[[str], None] | None = None) -> list[str]:
        """Answer greedily."""
        from harness.engine import Request
        from harness.suite import Sampling

        sampling = Sampling.model_validate(SAMPLING)
        if self.engine:
            found = dict(loaded.answers([Request(prompt) for prompt in prompts], sampling))
            return [found[number].text for number in range(len(prompts))]
        return [one.text for one in loaded.answer(prompts, sampling, 0, on_text)]

    def batched(self, dtype: str) -> dict[str, Any]:
        """Ask all at once and one by one."""
        loaded = self.load(dtype)
        alone = [self.answers(loaded, [prompt])[0] for prompt in self.prompts]
        return {"batched": self.answers(loaded, self.prompts), "alone": alone}

    def padding(self) -> dict[str, Any]:
        """Run the harness's own self-test."""
        from harness.errors import HarnessError

        if self.engine:
            return {"skipped": "engines do not pad"}
        loaded = self.load()
        try:
            described = loaded.describe()
        except HarnessError as error:
            return {"refused": error.message}
        return {"difference": described.padding_max_logit_difference, "tolerance": described.padding_tolerance}

    def streaming(self) -> dict[str, Any]:
        """Take one answer in pieces."""
        if self.engine:
            return {"skipped": "engines hand over whole answers"}
        pieces: list[str] = []
        text = self.answers(self.load(), self.prompts[:1], pieces.append)[0]
        return {"pieces": pieces, "text": text}

    def train(
        self, name: str, steps: int, dtype: str = "bfloat16", lora: dict[str, Any] | None = None, **trainer: Any
    ) -> dict[str, Any]:
        """Train on the demonstration rows and return what came of it."""
        if self.engine:
            return {"skipped": "engines do not train"}
        from harness.errors import HarnessError
        from harness.records import TrainingStep
        from harness.suite import Lora, Model, Trainer, Training, TrainingData
        from harness.workloads.train_lora import TrainingWork, train_lora

        records: list[Any] = []
        keys = {"max_steps": steps, "learning_rate": 1e-3, "warmup_steps": 1, "optim": "adamw_torch", **trainer}
        work = TrainingWork(
            job_id=name,
            name=name,
            training=Training(
                model="base",
                data=TrainingData(path=str(ROWS), limit=128),
                max_seq_length=256,
                load_in_4bit=bool(lora and "loftq_config" in lora),
                lora=Lora.model_validate({"lora_alpha": 32, **(lora or {})}),
                trainer=Trainer.model_validate(keys),
            ),
            model=Model.model_validate({"path": str(MODEL), "backend": self.backend, "dtype": dtype}),
            model_place=str(MODEL),
            data_place=str(ROWS),
            adapter_folder=self.adapters / f"{self.backend}-{name}",
        )
        try:
            result = train_lora(work, records.append, lambda done, total: None)
        except HarnessError as error:
            if name == "packed":
                return {"refused": error.message}
            raise
        losses = [one.loss for one in records if isinstance(one, TrainingStep)]
        kept = {"steps": result.steps, "non_finite_steps": result.non_finite_steps, "settings": result.settings}
        return {**kept, "losses": losses}

    def training(self) -> dict[str, Any]:
        """Train 20 steps, then put the adapter on as a generation job does, which proves that it changes logits."""
        found = self.train("plain", 20)
        if "skipped" in found:
            return found
        loaded = self.load(adapter=self.adapters / f"{self.backend}-plain").describe()
        return {**found, "adapter_max_logit_change": loaded.adapter_max_logit_change}

    def float16(self) -> dict[str, Any]:
        """Train a little in float16."""
        return self.train("half", 6, "float16")

    def packing(self) -> dict[str, Any]:
        """Train a little on packed rows."""
        return self.train("packed", 3, packing=True)

    def lora(self, **keys: Any) -> dict[str, Any]:
        """Train two steps with other LoRA settings."""
        name = "-".join(f"{key}-{value}" for key, value in keys.items() if key != "loftq_config")
        return self.train(f"lora-{name}", 2, lora=keys)

    def merged(self, dtype: str) -> dict[str, Any]:
        """Compare logits with the adapter attached, merged, and without."""
        from harness.backends.proofs import next_token_logits

        if self.engine:
            return {"skipped": "engines do not show logits"}
        adapter = self.adapters / f"{self.backend}-plain"
        attached = self.load(dtype, adapter=adapter)
        probe = attached.encode(self.prompts)
        kept = next_token_logits(attached.model, probe)
        merged = next_token_logits(self.load(dtype, adapter=adapter, adapter_mode="merged").model, probe)
        base = next_token_logits(self.load(dtype).model, probe)
        return {
            "difference": float((kept - merged).abs().max()),
            "change": float((kept - base).abs().max()),
            "largest": float(kept.abs().max()),
        }

    def four_bits(self) -> dict[str, Any]:
        """Load in 4 bits and answer."""
        if self.engine:
            return {"skipped": "engines are not asked to quantize here"}
        loaded = self.load(quantization="4bit")
        described = loaded.describe()
        dtypes = list(described.parameter_dtypes)
        return {
            "answers": self.answers(loaded, self.prompts[:4]),
            "parameter_dtypes": dtypes,
            "quantization": described.quantization,
        }

    def for_inference(self) -> dict[str, Any]:
        """Read unsloth's own flag on every part of a loaded, adapted model."""
        if self.backend != "unsloth":
            return {"skipped": "only unsloth has this"}
        part = self.load(adapter=self.adapters / "unsloth-plain").model
        flags = [bool(getattr(part, "_flag_for_generation", False))]
        while hasattr(part, "model"):
            part = part.model
            flags.append(bool(getattr(part, "_flag_for_generation", False)))
        return {"flags": flags}

    def group(self, name: str) -> dict[str, dict[str, Any]]:
        """Make the checks of a group; training comes before what needs its adapter."""
        float32: dict[str, Callable[[], dict[str, Any]]] = {"batched_float32": lambda: self.batched("float32")}
        bfloat16: dict[str, Callable[[], dict[str, Any]]] = {"batched_bfloat16": lambda: self.batched("bfloat16")}
        groups: dict[str, dict[str, Callable[[], dict[str, Any]]]] = {
            "answering_float32": float32,
            "answering_bfloat16": bfloat16,
            "answering": {
                **float32,
                **bfloat16,
                "padding": self.padding,
                "streaming": self.streaming,
                "four_bits": self.four_bits,
                "float16": self.float16,
            },
            "training": {
                "training": self.training,
                "merged_float32": lambda: self.merged("float32"),
                "merged_bfloat16": lambda: self.merged("bfloat16"),
                "for_inference": self.for_inference,
                "packing": self.packing,
            },
            "lora": {
                "checkpointing": lambda: self.lora(use_gradient_checkpointing=True),
                "r8": lambda: self.lora(r=8),
                "r128_rslora": lambda: self.lora(r=128, use_rslora=True),
                "loftq": lambda: self.lora(r=16, loftq_config={"loftq_bits": 4, "loftq_iter": 1}),
            },
        }
        return {check: self.attempt(check, make) for check, make in groups[name].items()}

    def attempt(self, name: str, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Make one check; what goes wrong in it is its result."""
        from harness.engine import EngineUnsuited
        from harness.errors import NotAvailable

        try:
            return check()
        except EngineUnsuited as reason:
            return {"skipped": str(reason)}
        except NotAvailable as error:
            if "4bit" in error.message and self.backend == "hf" and name == "four_bits":
                return {"skipped": error.message}  # no bitsandbytes here
            return {"fault": error.message}
        except Exception:
            return {"fault": traceback.format_exc()[-3000:]}


def main() -> None:
    """Make the checks named on the command line."""
    words = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print
    words.write(json.dumps(Checks(sys.argv[1], Path(sys.argv[2])).group(sys.argv[3]), ensure_ascii=False) + "\n")
    words.flush()
    os._exit(0)  # some libraries' threads outlive the work


if __name__ == "__main__":
    main()
