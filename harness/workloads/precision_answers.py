"""Answers the same prompts in one precision, so that changes of answers and verdicts from precision alone show.

Greedy, in the same batches for every precision: padding is part of the arithmetic, and must not differ. The reference
answers twice; what differs between its two times is not precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.backends import Answer, open_backend
from harness.orders import Message, Progress, Records, WorkOrder
from harness.records import PrecisionAnswer
from harness.workloads.measurements import Series, memory_is_a_result


def answer_in_precision(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Answer the job's batches `times` over. Random weights are left out with a reason: they say nothing.

    NotAvailable where the precision does not fit into memory.
    """
    with memory_is_a_result(order):
        _answer(order, send)


def _answer(order: WorkOrder, send: Callable[[Message], None]) -> None:
    job = order.job
    backend = open_backend(order)
    loaded = backend.describe()
    send(Records(records=(loaded,)))
    if loaded.weights == "random":
        message = "Flips of answers were left out: the weights are random, so its answers mean nothing."
        send(Records(records=(Series(order, {}).event("flips_left_out", message, {}),)))
        return
    # After the backend: unsloth must be imported before transformers.
    from harness.backends.hf import load_tokenizer

    tokenizer = load_tokenizer(order.model, order.model_place)
    greedy = order.sampling.model_copy(update={"temperature": 0.0, "top_p": 1.0, "repeats": 1})
    times = int(job.parameters["times"] or 1)
    total, done = times * sum(map(len, job.batches)), 0
    for repeat in range(times):
        for batch in job.batches:
            answers = backend.answer([order.prompts[one] for one in batch], greedy, greedy.seed, None)
            send(Records(records=_records(order, repeat, batch, answers, tokenizer)))
            done += len(batch)
            send(Progress(done=done, total=total, unit="answers"))


def _records(
    order: WorkOrder, repeat: int, batch: Sequence[str], answers: Sequence[Answer], tokenizer: Any
) -> tuple[PrecisionAnswer, ...]:
    return tuple(
        PrecisionAnswer(
            job_id=order.job.id,
            model=order.job.model,
            prompt_id=prompt_id,
            repeat=repeat,
            dtype=order.model.dtype,
            quantization=order.model.quantization,
            text=answer.text,
            tokens=tuple(tokenizer(answer.text, add_special_tokens=False)["input_ids"]),
            finish_reason=answer.finish_reason,
            error=answer.error,
        )
        for prompt_id, answer in zip(batch, answers, strict=True)
    )
