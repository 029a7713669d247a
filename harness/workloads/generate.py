"""Answers a suite's prompts, batch by batch; each batch is sent off whole, so that a run resumes on whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from harness.backends import Answer, Backend, OnText, OutOfMemory, open_backend
from harness.orders import Message, Progress, Records, Streamed, WorkOrder
from harness.records import REQUESTS_FAILED, Event, Generation, LoadedModel

if TYPE_CHECKING:
    from harness.backends.transformers_model import TransformersModel

SEED_STRIDE = 100_003
"""Distance between the seeds of repeats: larger than any number of batches, so that no two batches share a seed."""


def generate(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Answer every batch that is not finished yet."""
    piecewise = order.stream and max(map(len, order.job.batches)) == 1  # only the plain path streams within an answer
    if order.job.parameters.get("engine", "plain") != "plain" and not piecewise:
        from harness.workloads.generate_at_once import generate_at_once

        if generate_at_once(order, send):
            return
    job = order.job
    backend = open_backend(order)
    send(Records(records=describe_all(backend, order)))
    total = sum(len(batch) for batch in job.batches) * len(job.models)
    done = sum(len(job.batches[number]) for number in order.finished_batches) * len(job.models)
    send(Progress(done=done, total=total, unit="answers"))
    answerer, failed = _Answerer(backend, order, send), 0
    for number, batch in enumerate(job.batches):
        if number in order.finished_batches:
            continue
        generations = answerer.answer_for_all(number, batch)
        failed += sum(generation.may_pass for generation in generations)
        send(Records(records=tuple(generations)))
        done += len(batch) * len(job.models)
        send(Progress(done=done, total=total, unit="answers"))
    if failed:
        message = f"{failed} requests of {job.model} failed after all attempts; the same command asks for them again."
        data = {"model": job.model, "failed": failed}
        event = Event(job_id=job.id, level="warning", code=REQUESTS_FAILED, message=message, data=data)
        send(Records(records=(event,)))


def describe_all(backend: Backend, order: WorkOrder) -> tuple[LoadedModel, ...]:
    """Describe every model that the order answers for."""
    if not order.partners:
        return (backend.describe(),)
    shared = cast("TransformersModel", backend)
    described = []
    for variant in range(len(order.job.models)):
        with shared.as_variant(variant):
            described.append(shared.describe(variant))
    return tuple(described)


def as_record(order: WorkOrder, model: str, batch: int, prompt_id: str, answer: Answer) -> Generation:
    """Make the record of an answer."""
    return Generation(
        job_id=order.job.id,
        model=model,
        prompt_id=prompt_id,
        repeat=order.job.repeat,
        batch=batch,
        rendered_prompt=answer.rendered_prompt,
        text=answer.text,
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        new_tokens=answer.new_tokens,
        error=answer.error,
        may_pass=answer.may_pass,
    )


class _Answerer:
    """Answers batches, in smaller pieces once memory has run out."""

    def __init__(self, backend: Backend, order: WorkOrder, send: Callable[[Message], None]) -> None:
        self.backend = backend
        self.order = order
        self.send = send
        self.largest_piece = max((len(batch) for batch in order.job.batches), default=1)

    def answer_for_all(self, number: int, batch: Sequence[str]) -> list[Generation]:
        """Answer a batch with each of the order's models."""
        if not self.order.partners:
            return self.answer(number, batch, self.order.job.model)
        shared = cast("TransformersModel", self.backend)
        generations: list[Generation] = []
        for variant, model in enumerate(self.order.job.models):
            with shared.as_variant(variant):
                generations += self.answer(number, batch, model)
        return generations

    def answer(self, number: int, batch: Sequence[str], model: str) -> list[Generation]:
        """Answer a batch with the model as it is now."""
        generations: list[Generation] = []
        while len(generations) < len(batch):
            piece = batch[len(generations) : len(generations) + self.largest_piece]
            try:
                answers = self._answer_piece(number, piece, model)
            except OutOfMemory as error:
                self._halve(len(piece), str(error))
                continue
            generations += [
                as_record(self.order, model, number, prompt_id, answer)
                for prompt_id, answer in zip(piece, answers, strict=True)
            ]
        return generations

    def _answer_piece(self, number: int, piece: Sequence[str], model: str) -> list[Answer]:
        seed = self.order.sampling.seed + SEED_STRIDE * self.order.job.repeat + number
        on_text = self._streamer(model, piece[0]) if self.order.stream and len(piece) == 1 else None
        prompts = [self.order.prompts[prompt_id] for prompt_id in piece]
        answers = self.backend.answer(prompts, self.order.sampling, seed, on_text)
        if self.order.stream and on_text is None:
            for prompt_id, answer in zip(piece, answers, strict=True):
                self.send(Streamed(model=model, prompt_id=prompt_id, text=answer.text, end=True))
        return answers

    def _streamer(self, model: str, prompt_id: str) -> OnText:
        return lambda text: self.send(Streamed(model=model, prompt_id=prompt_id, text=text, end=text == ""))

    def _halve(self, size: int, reason: str) -> None:
        if size == 1:
            raise MemoryError(f"a single prompt does not fit into memory: {reason}")
        self.largest_piece = size // 2
        message = f"A batch of {size} did not fit into memory; going on with {self.largest_piece} at a time."
        data = {"from": size, "to": self.largest_piece}
        event = Event(job_id=self.order.job.id, level="warning", code="batch_halved", message=message, data=data)
        self.send(Records(records=(event,)))
