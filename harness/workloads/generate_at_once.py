"""Answers all of a job's prompts with an engine; a batch is sent off as soon as the last of its answers has come."""

from __future__ import annotations

from collections.abc import Callable

from harness.engine import Engine, EngineUnsuited, Request, open_engine
from harness.orders import Message, Progress, Records, Streamed, WorkOrder
from harness.records import Event, Generation
from harness.workloads.generate import SEED_STRIDE, as_record

Send = Callable[[Message], None]


def generate_at_once(order: WorkOrder, send: Send) -> bool:
    """Answer every batch that is not finished yet. False if the engine cannot run the model, which is then said."""
    try:
        engine = open_engine(order)
    except EngineUnsuited as reason:
        name = order.job.parameters["engine"]
        message = f"The {name} engine does not run {order.job.model}: {reason}. It is run by the plain path."
        why = {"engine": name, "model": order.job.model, "reason": str(reason)}
        event = Event(job_id=order.job.id, level="warning", code="engine_unsuited", message=message, data=why)
        send(Records(records=(event,)))
        return False
    send(Records(records=engine.describe()))
    answer_all(engine, order, send)
    seconds = engine.warmup_seconds()
    message = f"Compiling, recording or starting took {seconds:.1f} s of this job, apart from answering."
    data = {"seconds": seconds}
    event = Event(job_id=order.job.id, level="info", code="engine_warmup", message=message, data=data)
    send(Records(records=(event,)))
    return True


def answer_all(engine: Engine, order: WorkOrder, send: Send) -> None:
    """Answer with the engine and send off each batch as it is whole."""
    job = order.job
    wanted = [
        (number, prompt_id, variant)
        for number, batch in enumerate(job.batches)
        if number not in order.finished_batches
        for prompt_id in batch
        for variant in range(len(job.models))
    ]
    seed = order.sampling.seed + SEED_STRIDE * job.repeat
    place = {prompt_id: number for number, prompt_id in enumerate(one for batch in job.batches for one in batch)}
    requests = [
        Request(order.prompts[prompt_id], variant, draw=seed + place[prompt_id]) for _, prompt_id, variant in wanted
    ]
    total = sum(map(len, job.batches)) * len(job.models)
    done = total - len(wanted)
    send(Progress(done=done, total=total, unit="answers"))
    collected: dict[int, dict[int, Generation]] = {}
    for index, answer in engine.answers(requests, order.sampling):
        number, prompt_id, variant = wanted[index]
        own = collected.setdefault(number, {})
        done += 1
        own[index] = as_record(order, job.models[variant], number, prompt_id, answer)
        if order.stream:
            send(Streamed(model=job.models[variant], prompt_id=prompt_id, text=answer.text, end=True))
        if len(own) == len(job.batches[number]) * len(job.models):
            del collected[number]
            send(Records(records=tuple(own[one] for one in sorted(own))))  # in the batch's order, not as they ended
        send(Progress(done=done, total=total, unit="answers"))
