"""Answers a suite's prompts, batch by batch; each batch is sent off whole, so that a run resumes on whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.backends import Answer, Backend, OnText, OutOfMemory, open_backend
from harness.orders import Message, Progress, Records, Streamed, WorkOrder
from harness.records import Event, Generation

SEED_STRIDE = 100_003
"""Distance between the seeds of repeats: larger than any number of batches, so that no two batches share a seed."""


def generate(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Answer every batch that is not finished yet."""
    job = order.job
    backend = open_backend(order)
    send(Records(records=(backend.describe(),)))
    total = sum(len(batch) for batch in job.batches)
    done = sum(len(job.batches[number]) for number in order.finished_batches)
    send(Progress(done=done, total=total, unit="answers"))
    answerer = _Answerer(backend, order, send)
    for number, batch in enumerate(job.batches):
        if number in order.finished_batches:
            continue
        send(Records(records=tuple(answerer.answer(number, batch))))
        done += len(batch)
        send(Progress(done=done, total=total, unit="answers"))


class _Answerer:
    """Answers batches, in smaller pieces once memory has run out."""

    def __init__(self, backend: Backend, order: WorkOrder, send: Callable[[Message], None]) -> None:
        self.backend = backend
        self.order = order
        self.send = send
        self.largest_piece = max((len(batch) for batch in order.job.batches), default=1)

    def answer(self, number: int, batch: Sequence[str]) -> list[Generation]:
        generations: list[Generation] = []
        while len(generations) < len(batch):
            piece = batch[len(generations) : len(generations) + self.largest_piece]
            try:
                answers = self._answer_piece(number, piece)
            except OutOfMemory as error:
                self._halve(len(piece), str(error))
                continue
            generations += [
                self._record(number, prompt_id, answer) for prompt_id, answer in zip(piece, answers, strict=True)
            ]
        return generations

    def _answer_piece(self, number: int, piece: Sequence[str]) -> list[Answer]:
        seed = self.order.sampling.seed + SEED_STRIDE * self.order.job.repeat + number
        on_text = self._streamer(piece[0]) if self.order.stream and len(piece) == 1 else None
        prompts = [self.order.prompts[prompt_id] for prompt_id in piece]
        answers = self.backend.answer(prompts, self.order.sampling, seed, on_text)
        if self.order.stream and on_text is None:
            for prompt_id, answer in zip(piece, answers, strict=True):
                self.send(Streamed(prompt_id=prompt_id, text=answer.text, end=True))
        return answers

    def _streamer(self, prompt_id: str) -> OnText:
        return lambda text: self.send(Streamed(prompt_id=prompt_id, text=text, end=text == ""))

    def _halve(self, size: int, reason: str) -> None:
        if size == 1:
            raise MemoryError(f"a single prompt does not fit into memory: {reason}")
        self.largest_piece = size // 2
        message = f"A batch of {size} did not fit into memory; going on with {self.largest_piece} at a time."
        data = {"from": size, "to": self.largest_piece}
        event = Event(job_id=self.order.job.id, level="warning", code="batch_halved", message=message, data=data)
        self.send(Records(records=(event,)))

    def _record(self, number: int, prompt_id: str, answer: Answer) -> Generation:
        return Generation(
            job_id=self.order.job.id,
            model=self.order.job.model,
            prompt_id=prompt_id,
            repeat=self.order.job.repeat,
            batch=number,
            rendered_prompt=answer.rendered_prompt,
            text=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            new_tokens=answer.new_tokens,
            error=answer.error,
        )
