"""A transformers model with its tokenizer and adapter: answering, timing, and saying what it really is.

Shared by the hf and the unsloth backend, which differ in how they load.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import GenerationConfig, TextStreamer

from harness.backends import Answer, OnText, OutOfMemory, PassTimes
from harness.backends.proofs import (
    check_compute_dtype,
    check_padding,
    check_single_bos,
    next_token_logits,
    prove_adapter,
)
from harness.backends.texts import Texts
from harness.errors import HarnessError, reason_of
from harness.orders import Partner, WorkOrder
from harness.prompt_formats import adds_special_tokens
from harness.random_weights import weights_of
from harness.records import LoadedModel
from harness.suite import Sampling

PROBE_PROMPTS = (
    "안녕하세요?",
    "물은 몇 도에서 끓나요?",
    "오늘은 날씨가 좋아서 친구와 함께 공원에 가려고 하는데 무엇을 챙겨 가면 좋을지 알려 주세요.",
)


class TransformersModel:
    """One loaded model on one device, the adapter put on as the suite says."""

    def __init__(self, order: WorkOrder, model: Any, tokenizer: Any, device: str) -> None:
        self.order = order
        self.tokenizer = tokenizer
        self.device = device
        self.end_tokens = _end_tokens(model, tokenizer)
        self.texts = Texts(order.model, tokenizer, self.end_tokens)
        # The model's own generation settings (temperature, penalties) would change answers behind the suite's back.
        model.generation_config = GenerationConfig(pad_token_id=tokenizer.pad_token_id)
        self.demonstration = bool(getattr(model.config, "demonstration", False))
        self.model = model.eval()
        own = Partner(
            name=order.job.model, model=order.model, adapter_place=order.adapter_place, adapter_hash=order.adapter_hash
        )
        self.variants = (own, *order.partners)
        """The order's models: its own, then those that share its weights."""
        self.proofs: dict[str, tuple[int, float]] = {}
        """Model -> number of LoRA B matrices that are not zero, largest logit change."""
        self._put_adapters_on()

    def _put_adapters_on(self) -> None:
        from peft import PeftModel

        probe = self.encode(PROBE_PROMPTS[:1])
        adapted = [variant for variant in self.variants if variant.adapter_place]
        if not adapted:
            return
        before = next_token_logits(self.model, probe)
        for variant in adapted:
            place, adapter = variant.adapter_place or "", variant.model.adapter
            how = {"adapter_name": variant.name, "revision": adapter.revision if adapter else None}
            with adapter_errors_named(place):
                if isinstance(self.model, PeftModel):
                    self.model.load_adapter(place, use_safetensors=True, **how)
                else:
                    self.model = PeftModel.from_pretrained(self.model, place, use_safetensors=True, **how)
            self.model.eval().set_adapter(variant.name)
            self.proofs[variant.name] = prove_adapter(self.model, variant.name, before, probe, place)
            if adapter is not None and adapter.mode == "merged":
                self.model = self.model.merge_and_unload()

    @contextlib.contextmanager
    def as_variant(self, number: int) -> Iterator[None]:
        """Be one of `variants` for a while, where there are several."""
        if len(self.variants) == 1:
            yield
        elif self.variants[number].adapter_place:
            self.model.set_adapter(self.variants[number].name)
            yield
        else:
            with self.model.disable_adapter():
                yield

    def encode(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Tokenize a batch: `input_ids` and `attention_mask`, each (batch, longest), padded on the left."""
        texts = [self.texts.render(prompt) for prompt in prompts]
        special = adds_special_tokens(texts[0], self.tokenizer)
        encoded = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=special)
        return {name: encoded[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def answer(self, prompts: Sequence[str], sampling: Sampling, seed: int, on_text: OnText | None) -> list[Answer]:
        """Answer a batch; see `Backend.answer`. A prompt too long for the model fails alone."""
        encoded = self.encode(prompts)
        lengths = encoded["attention_mask"].sum(dim=1).tolist()
        room = self.order.model.max_seq_length - sampling.max_new_tokens
        fits = [length <= room for length in lengths]
        if not all(fits):
            fitting = [prompt for prompt, fit in zip(prompts, fits, strict=True) if fit]
            answers = iter(self.answer(fitting, sampling, seed, on_text) if fitting else [])
            return [
                next(answers) if fit else self.texts.too_long(prompt, length, room)
                for prompt, length, fit in zip(prompts, lengths, fits, strict=True)
            ]
        new_tokens = self._generate(encoded, sampling, seed, on_text)
        return [
            self.texts.as_answer(prompt, tokens, length)
            for prompt, tokens, length in zip(prompts, new_tokens, lengths, strict=True)
        ]

    def _generate(
        self, encoded: dict[str, torch.Tensor], sampling: Sampling, seed: int, on_text: OnText | None
    ) -> list[list[int]]:
        """Return each row's new tokens, padded behind its end token."""
        torch.manual_seed(seed)
        with out_of_memory_named(), torch.inference_mode():
            sequences = self.model.generate(
                **encoded,
                **_decoding(sampling),
                eos_token_id=self.end_tokens,
                streamer=_Pieces(self.tokenizer, on_text) if on_text else None,
            )
        new_tokens: list[list[int]] = sequences[:, encoded["input_ids"].shape[1] :].tolist()
        return new_tokens

    def time_pass(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> PassTimes:
        """Generate greedily from random tokens, without an end token, reading the clock at each token."""
        generator = torch.Generator().manual_seed(0)
        vocabulary = self.model.get_input_embeddings().num_embeddings
        ids = torch.randint(0, vocabulary, (batch_size, prompt_tokens), generator=generator).to(self.device)
        clock = _Clock()
        with out_of_memory_named(), torch.inference_mode():
            if self.device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                do_sample=False,
                streamer=clock,
            )
        return PassTimes(start, tuple(clock.readings))

    def describe(self, number: int = 0) -> LoadedModel:
        """Read one of the variants as it is. Raises where precision, padding or BOS are not what they should be."""
        order, config, variant = self.order, self.model.config, self.variants[number]
        nonzero_b, logit_change = self.proofs.get(variant.name, (None, None))
        compute_dtype = check_compute_dtype(self.model, self.encode(PROBE_PROMPTS[:1]), order.model.dtype)
        padding = bos = None
        if order.job.kind == "generate":
            bos = check_single_bos(self.encode(PROBE_PROMPTS), self.tokenizer)
            padding = check_padding(self, PROBE_PROMPTS) if max(map(len, order.job.batches)) > 1 else None
        dtypes: Counter[str] = Counter()
        for name, parameter in self.model.named_parameters():
            if ".lora_" in name and len(self.variants) > 1 and f".{variant.name}." not in name:
                continue  # of another variant
            dtypes[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
        template = getattr(self.tokenizer, "chat_template", None)
        return LoadedModel(
            job_id=order.job.id,
            model=variant.name,
            backend=order.model.backend,
            path=order.model.path,
            content_hash=order.model_hash,
            architecture=(config.architectures or [type(self.model).__name__])[0],
            parameter_count=sum(dtypes.values()),
            parameter_dtypes=dict(dtypes),
            requested_dtype=order.model.dtype,
            compute_dtype=compute_dtype,
            quantization=order.model.quantization,
            attention=str(config._attn_implementation),
            device=torch.cuda.get_device_name() if self.device == "cuda" else "cpu",
            weights=weights_of(config),
            demonstration=self.demonstration,
            adapter_hash=variant.adapter_hash,
            adapter_mode=variant.model.adapter.mode if variant.model.adapter else None,
            adapter_nonzero_b=nonzero_b,
            adapter_max_logit_change=logit_change,
            tokenizer_hash=_sha256(self.tokenizer.backend_tokenizer.to_str()),
            chat_template_hash=_sha256(template) if isinstance(template, str) else None,
            bos_count=bos,
            padding_max_logit_difference=padding.difference if padding else None,
            padding_tolerance=padding.tolerance if padding else None,
        )


def prepare_tokenizer(tokenizer: Any) -> Any:
    """Pad on the left, with the end token where there is no pad token."""
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


class _Clock:
    """Reads the clock when generate hands over each token, which on a GPU it does after waiting for it."""

    def __init__(self) -> None:
        self.readings: list[float] = []
        self._prompt_seen = False

    def put(self, tokens: torch.Tensor) -> None:
        if self._prompt_seen:
            self.readings.append(time.perf_counter())
        self._prompt_seen = True

    def end(self) -> None:
        """Nothing is left to do after the last token."""


class _Pieces(TextStreamer):  # type: ignore[misc]
    """Hands on an answer's text as soon as whole words of it are known."""

    def __init__(self, tokenizer: Any, on_text: OnText) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self._on_text(text)
        if stream_end:
            self._on_text("")


def _decoding(sampling: Sampling) -> dict[str, Any]:
    if sampling.temperature == 0:
        return {"max_new_tokens": sampling.max_new_tokens, "do_sample": False}
    return {
        "max_new_tokens": sampling.max_new_tokens,
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
    }


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Collect every end-of-sequence token that model or tokenizer names."""
    named = [model.generation_config.eos_token_id, tokenizer.eos_token_id]
    tokens = {token for one in named if one is not None for token in (one if isinstance(one, list) else [one])}
    return sorted(tokens)


@contextlib.contextmanager
def adapter_errors_named(place: str) -> Iterator[None]:
    """Raise HarnessError for what peft says of an adapter that is not whole, or not made for this model."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        sentence = f"{place}: the adapter could not be put on the model: {reason_of(error)}"
        raise HarnessError(sentence, "Are its files whole, and was it trained on this base model?") from error


@contextlib.contextmanager
def out_of_memory_named() -> Iterator[None]:
    """Raise OutOfMemory for what CUDA and the CPU allocator each say in their own way."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(str(error)) from error


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
