"""Work orders for tests, with one prompt a letter."""

from __future__ import annotations

from pathlib import Path

from harness.orders import Message, Records, WorkOrder
from harness.records import Event, Job, JobKind, JobRecord, Scalar
from harness.report.events import event_text
from harness.suite import Adapter, Model, Sampling

PROMPTS = {"a": "하늘은 왜 파란가요?", "b": "안녕", "c": "물은 몇 도에서 끓는지 알려 주세요. 그리고 얼음은 왜 뜨나요?"}


def make_order(
    place: Path,
    *,
    kind: JobKind = "generate",
    model: Model | None = None,
    sampling: Sampling | None = None,
    batches: tuple[tuple[str, ...], ...] = (("c", "a"), ("b",)),
    adapter: Path | None = None,
    adapter_mode: str = "attached",
    parameters: dict[str, Scalar] | None = None,
    stream: bool = False,
) -> WorkOrder:
    model = model or Model(path="model", prompt_format="alpaca_ko")
    if adapter:
        chosen = Adapter.model_validate({"path": "adapter", "mode": adapter_mode})
        model = model.model_copy(update={"adapter": chosen})
    return WorkOrder(
        job=Job(id=f"{kind}-base-0", kind=kind, model="base", batches=batches, parameters=parameters or {}),
        model=model,
        model_place=str(place),
        model_hash="hash",
        adapter_place=str(adapter) if adapter else None,
        sampling=sampling or Sampling(max_new_tokens=12),
        prompts=PROMPTS,
        stream=stream,
        log_file="unused.log",
    )


class Inbox:
    """Collects a job's messages. Every event must have data enough for its Korean sentence on the page."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        for record in message.records if isinstance(message, Records) else ():
            assert not isinstance(record, Event) or 'class="ko" lang="ko" title=' in event_text(record), record

    @property
    def records(self) -> list[JobRecord]:
        return [record for message in self.messages if isinstance(message, Records) for record in message.records]
