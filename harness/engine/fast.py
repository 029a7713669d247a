"""The fast engine for transformers models: rows refilled as answers end, steps replayed as CUDA graphs.

On a CPU the same code runs without graphs; what it gains there is that no row waits for the slowest of its batch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from harness.backends import Answer, OutOfMemory, PassTimes
from harness.backends.hf import load as load_model
from harness.backends.proofs import next_token_logits
from harness.backends.transformers_model import PROBE_PROMPTS, TransformersModel, out_of_memory_named
from harness.engine import EngineUnsuited, Request
from harness.engine.fusing import fuse_norms
from harness.engine.joint_linear import RowPlan, Span, join_linears
from harness.engine.serving import Row, Waiter, Waiting, serve
from harness.engine.slots import BLOCK, SlotCache, use_slot_attention
from harness.engine.stepper import Stepper
from harness.orders import WorkOrder
from harness.records import LoadedModel
from harness.suite import Sampling

LOGIT_TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2, "float16": 5e-3}
TIMES_ROUNDING = 3
"""A row's logits may be off the plain path's by this share of their norm, or by so many times what they differ within
the plain path itself, alone against in a batch: rounding grows with depth and is large for random weights. A row that
reads another's keys, or the wrong adapter, is off by about its whole norm."""
AUTO_SLOTS = 256
"""Rows held at once where the suite leaves the batch size open and memory allows (docs/engines.md)."""
SHARE_OF_FREE_MEMORY = 0.8


def load(order: WorkOrder) -> FastEngine:
    """Load the order's models. EngineUnsuited names what they have that this engine does not do."""
    if order.model.quantization != "none":
        raise EngineUnsuited(f"its weights are quantized ({order.model.quantization})")
    return FastEngine(load_model(order))


class FastEngine:
    """See `harness.engine.Engine`."""

    def __init__(self, loaded: TransformersModel) -> None:
        self.loaded = loaded
        self.device = loaded.device
        self._warmup = 0.0
        self._timing: tuple[tuple[int, int, int], Stepper] | None = None
        alone, together = [], []
        records = []
        for number in range(len(loaded.variants)):
            with loaded.as_variant(number):
                records.append(loaded.describe(number).model_copy(update={"engine": "fast"}))
                alone += [next_token_logits(loaded.model, loaded.encode([one])) for one in PROBE_PROMPTS]
                together.append(next_token_logits(loaded.model, loaded.encode(PROBE_PROMPTS)))
        from peft import PeftModel

        self._described = tuple(records)
        self.rows = RowPlan({})
        self.model = loaded.model.get_base_model() if isinstance(loaded.model, PeftModel) else loaded.model
        join_linears(self.model, self.rows)
        fuse_norms(self.model)
        try:
            self._prove(torch.cat(alone), torch.cat(together))
        except (AttributeError, NotImplementedError, TypeError, RuntimeError) as error:
            raise EngineUnsuited(f"{type(error).__name__}: {error}") from error

    def describe(self) -> tuple[LoadedModel, ...]:
        """Return what the plain path says of each model, and that this engine runs them."""
        return self._described

    def warmup_seconds(self) -> float:
        """Return the seconds spent on compiling and recording."""
        return self._warmup

    def _prove(self, alone: torch.Tensor, together: torch.Tensor) -> None:
        """Compare first-token logits, (variants * prompts, vocabulary), with the plain path's. EngineUnsuited if off.

        The plain path's own distance between a prompt alone and in a batch is the yardstick of what rounding does.
        """
        variants = len(self.loaded.variants)
        prompts = self.loaded.texts.token_ids(PROBE_PROMPTS) * variants
        each = len(PROBE_PROMPTS)
        spans = {number: (number * each, (number + 1) * each) for number in range(variants)}
        stepper = self._stepper(len(prompts), max(map(len, prompts)) + 1, spans, Sampling(max_new_tokens=1))
        with torch.inference_mode():
            stepper.read_prompts(range(len(prompts)), prompts)
            stepper.step(max(map(len, prompts)))
        self._warmup += stepper.warmup_seconds
        self.logit_distance = _distance(stepper.logits, alone)
        self.rounding = _distance(together, alone)
        allowed = max(LOGIT_TOLERANCE[self.loaded.order.model.dtype], TIMES_ROUNDING * self.rounding)
        if not self.logit_distance <= allowed:
            raise EngineUnsuited(
                f"its logits are {self.logit_distance:.2g} off the plain path's (allowed {allowed:.2g})"
            )

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer]]:
        """Answer all requests; see `harness.engine.Engine`. A prompt too long for the model fails alone.

        Where memory runs out, the rest goes on with half the rows. OutOfMemory if one row a model is too many.
        """
        texts = self.loaded.texts
        room = self.loaded.order.model.max_seq_length - sampling.max_new_tokens
        left: dict[int, list[int]] = {}
        for index, tokens in enumerate(texts.token_ids([request.prompt for request in requests])):
            if len(tokens) > room:
                yield index, texts.too_long(requests[index].prompt, len(tokens), room)
            else:
                left[index] = tokens
        rows = AUTO_SLOTS if sampling.batch_size == "auto" else sampling.batch_size
        while left:
            waiting: Waiting = {}
            for index, tokens in left.items():
                request = requests[index]
                waiting.setdefault(request.variant, deque()).append(Waiter(index, tokens, request.draw))
            each = self._rows_for_each(waiting, rows, sampling)
            try:
                with out_of_memory_named():
                    for row, written in self._serve(waiting, each, sampling):
                        del left[row.index]
                        yield row.index, texts.as_answer(requests[row.index].prompt, written, row.prompt_tokens)
            except OutOfMemory:
                if each == 1:
                    raise
                rows = each * len(waiting) // 2

    def _serve(self, waiting: Waiting, each: int, sampling: Sampling) -> Iterator[tuple[Row, list[int]]]:
        spans = {variant: (place * each, (place + 1) * each) for place, variant in enumerate(sorted(waiting))}
        stepper = self._stepper(each * len(waiting), _longest(waiting, sampling), spans, sampling)
        yield from serve(stepper, waiting, {variant: range(*span) for variant, span in spans.items()})
        self._warmup += stepper.warmup_seconds

    def _rows_for_each(self, waiting: Waiting, rows: int, sampling: Sampling) -> int:
        """Return how many rows each model gets: no more than asked for, than it has prompts, than memory holds."""
        each = max(1, min(rows // len(waiting), max(map(len, waiting.values()))))
        if self.device == "cuda":
            free = torch.cuda.mem_get_info()[0] * SHARE_OF_FREE_MEMORY
            fitting = int(free / self._bytes_of_a_slot(_longest(waiting, sampling)))
            each = max(1, min(each, fitting // len(waiting)))
        return each

    def _bytes_of_a_slot(self, longest: int) -> int:
        probe = SlotCache(self.model.config, 1, BLOCK, self.model.dtype, self.device)
        per_block = sum(one.nbytes for one in (*probe.keys, *probe.values))
        return per_block * -(-longest // BLOCK)

    def _stepper(
        self, slots: int, longest: int, spans: dict[int, Span], sampling: Sampling, *, to_the_end: bool = False
    ) -> Stepper:
        """Make a cache and its steps; `to_the_end` ignores the end token."""
        length = -(-longest // BLOCK) * BLOCK
        cache = SlotCache(self.model.config, slots, length, self.model.dtype, self.device)
        use_slot_attention(self.model, cache)
        variants = self.loaded.variants
        named = {variants[number].name: span for number, span in spans.items() if variants[number].adapter_place}
        end_tokens = () if to_the_end else self.loaded.end_tokens
        return Stepper(self.model, cache, self.rows, named, sampling, end_tokens)

    def time_pass(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> PassTimes:
        """Time one pass of the order's own model; see `Backend.time_pass`. The first of its lengths also records."""
        lengths = (batch_size, prompt_tokens, new_tokens)
        if self._timing is None or self._timing[0] != lengths:
            self._timing = None  # its memory goes before the next one takes its own
            sampling = Sampling(max_new_tokens=new_tokens)
            stepper = self._stepper(
                batch_size, prompt_tokens + new_tokens, {0: (0, batch_size)}, sampling, to_the_end=True
            )
            self._timing = (lengths, stepper)
        stepper = self._timing[1]
        generator = torch.Generator().manual_seed(0)
        vocabulary = self.model.get_input_embeddings().num_embeddings
        prompts = torch.randint(0, vocabulary, (batch_size, prompt_tokens), generator=generator).tolist()
        times = _timed(stepper, prompts, new_tokens)
        self._warmup = stepper.warmup_seconds
        return times


def _longest(waiting: Waiting, sampling: Sampling) -> int:
    return max(len(one.tokens) for queue in waiting.values() for one in queue) + sampling.max_new_tokens


def _distance(some: torch.Tensor, others: torch.Tensor) -> float:
    """Return the largest distance of a row from its other, as a share of the other's norm."""
    return float(((some - others).norm(dim=-1) / others.norm(dim=-1)).max())


def _timed(stepper: Stepper, prompts: list[list[int]], new_tokens: int) -> PassTimes:
    """Read all prompts and make `new_tokens` steps, with a clock mark after each that makes nobody wait."""
    width = len(prompts[0])
    marks: list[Any] = []
    on_gpu = stepper.device.type == "cuda"

    def mark() -> None:
        if on_gpu:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            marks.append(event)
        else:
            marks.append(time.perf_counter())

    with torch.inference_mode():
        if on_gpu:
            torch.cuda.synchronize()
        mark()
        stepper.read_prompts(range(len(prompts)), prompts)
        for number in range(new_tokens):
            stepper.step(width + number)
            mark()
    if not on_gpu:
        return PassTimes(marks[0], tuple(marks[1:]))
    torch.cuda.synchronize()
    return PassTimes(0.0, tuple(marks[0].elapsed_time(event) / 1000 for event in marks[1:]))
