"""A model behind an OpenAI-compatible server, asked by the name the server knows. Imports no torch.

All prompts of a batch are in flight at once, up to the server's `concurrency`. A request that fails is tried again
with growing waits; one that stays failed is an answer with `error` set, and a server that answers nothing any more
ends the job. What a server cannot tell about the model is said to be unknown.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import JsonValue

from harness.backends import Answer, OnText, PassTimes
from harness.errors import NotAvailable
from harness.openai_http import Completion, CompletionClient, RequestFailed
from harness.orders import Served, WorkOrder
from harness.prompt_formats import render
from harness.random_weights import MARK
from harness.records import FinishReason, LoadedModel
from harness.suite import Sampling

UNKNOWN = "unknown (served)"
LOST_AFTER_FAILURES = 3
"""So many requests in a row without a usable reply, each tried `attempts` times, end the job."""
REFUSED = frozenset({401, 403, 404})
"""Statuses that say something about the key or the model's name, and so about every request."""
PROBE = "안녕하세요?"
Result = TypeVar("Result")


class ServedModel:
    """Answers by asking a server. Backend and, through `ask_all`, what the throughput job measures with."""

    def __init__(self, order: WorkOrder, served: Served, *, first_wait_seconds: float = 1.0) -> None:
        """Nothing is asked yet. `first_wait_seconds` is the scale of the first wait before another try."""
        self.order = order
        self.served = served
        self._first_wait_seconds = first_wait_seconds
        self._failures_in_a_row = 0

    def prove(self) -> None:
        """Ask for one token. NotAvailable where the server cannot be reached or does not answer for this model."""
        limits = self.served.settings
        body = self.request(PROBE, Sampling(max_new_tokens=1), seed=0)
        try:
            # The first request for a model may have to load it.
            self.ask_all([body], timeout_seconds=max(limits.start_timeout_seconds, limits.timeout_seconds))
        except RequestFailed as error:
            raise NotAvailable(
                f"{self._who} does not answer ({error.sentence()}).",
                f"See whether it runs, knows the model '{self.served.name}', and takes the keys of the request.",
            ) from error

    def describe(self) -> LoadedModel:
        """Say what is known of the model: of one the harness serves, what it asked for; of another, its name."""
        order, settings, model = self.order, self.served.settings, self.order.model
        config = _read_config(order.model_place)
        return LoadedModel(
            job_id=order.job.id,
            model=order.job.model,
            backend=model.backend,
            path=model.path or self.served.name,
            content_hash=order.model_hash,
            architecture=str((config.get("architectures") or [UNKNOWN])[0]),
            parameter_count=0,
            parameter_dtypes={},
            requested_dtype=model.dtype if settings.is_child else UNKNOWN,
            compute_dtype=UNKNOWN,
            quantization=model.quantization if settings.is_child else UNKNOWN,
            attention=UNKNOWN,
            device=f"server '{self.served.server}' ({settings.kind})",
            weights="random" if MARK in config else "file",
            demonstration=bool(config.get("demonstration", False)),
            adapter_hash=order.adapter_hash,
            adapter_mode=model.adapter.mode if model.adapter else None,
        )

    def answer(self, prompts: Sequence[str], sampling: Sampling, seed: int, on_text: OnText | None) -> list[Answer]:
        """Ask about all prompts at once. NotAvailable when the server is lost; see `Backend.answer`."""
        replies = asyncio.run(self._answers(prompts, sampling, seed, on_text if len(prompts) == 1 else None))
        if on_text and len(prompts) == 1:
            on_text("")
        return replies

    def time_pass(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> PassTimes:
        """Refuse: requests to a server have times of their own (see workloads.served_throughput)."""
        raise NotAvailable(f"{self._who} is timed request by request, not in passes.")

    def request(self, prompt: str, sampling: Sampling, seed: int) -> dict[str, JsonValue]:
        """Return the request's body: `messages` for the server's own chat template, else the rendered `prompt`."""
        body: dict[str, JsonValue] = {"model": self.served.name, "max_tokens": sampling.max_new_tokens}
        if self.order.model.prompt_format == "chat_template":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = render(self.order.model.prompt_format, prompt)
        body |= {"temperature": sampling.temperature, "seed": seed}
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, **self._drawing(sampling)}
        body |= self.served.settings.extra_request
        return {key: value for key, value in body.items() if value is not None}

    def ask_all(
        self,
        bodies: Sequence[dict[str, JsonValue]],
        *,
        stream: bool = False,
        attempts: int | None = None,
        timeout_seconds: float | None = None,
    ) -> list[Completion]:
        """Send all requests at once, however many; RequestFailed with the first that fails."""

        async def ask() -> list[Completion]:
            async with self._client(attempts, timeout_seconds) as client:
                send = client.stream if stream else client.complete
                return await _together([send(body) for body in bodies])

        return asyncio.run(ask())

    def _drawing(self, sampling: Sampling) -> dict[str, JsonValue]:
        """`transformers serve` draws only if the model's own generation settings say so, which these replace."""
        if self.served.settings.kind != "transformers":
            return {}
        settings = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        return {"generation_config": json.dumps({**settings, "max_new_tokens": sampling.max_new_tokens})}

    def _client(self, attempts: int | None = None, timeout_seconds: float | None = None) -> CompletionClient:
        settings = self.served.settings
        return CompletionClient(
            self.served.endpoint,
            api_key_env=settings.api_key_env,
            timeout_seconds=timeout_seconds or settings.timeout_seconds,
            attempts=attempts or settings.attempts,
            first_wait_seconds=self._first_wait_seconds,
        )

    async def _answers(
        self, prompts: Sequence[str], sampling: Sampling, seed: int, on_text: OnText | None
    ) -> list[Answer]:
        gate = asyncio.Semaphore(self.served.settings.concurrency)
        async with self._client() as client:

            async def answer(prompt: str) -> Answer:
                async with gate:
                    return await self._answer(client, prompt, sampling, seed, on_text)

            return await _together([answer(prompt) for prompt in prompts])

    async def _answer(
        self, client: CompletionClient, prompt: str, sampling: Sampling, seed: int, on_text: OnText | None
    ) -> Answer:
        body = self.request(prompt, sampling, seed)
        try:
            reply = await (client.stream(body, on_text) if on_text else client.complete(body))
        except RequestFailed as error:
            self._note_failure(error)
            return self._failed(prompt, error.sentence(), may_pass=error.transient)
        self._failures_in_a_row = 0
        return self._as_answer(prompt, reply, sampling.max_new_tokens)

    def _note_failure(self, error: RequestFailed) -> None:
        """Count it, unless the server turned down this one prompt (too long, filtered) and works."""
        self._failures_in_a_row += error.transient
        if self._failures_in_a_row >= LOST_AFTER_FAILURES or error.status in REFUSED:
            raise NotAvailable(
                f"{self._who} gives no usable replies any more ({error.sentence()}).",
                "What was finished is kept; the same command goes on from here.",
            ) from error

    def _as_answer(self, prompt: str, reply: Completion, limit: int) -> Answer:
        reason = _finish_reason(reply, limit)
        if reason == "error":
            return self._failed(prompt, f"the server ended the answer for another reason: {reply.finish_reason}")
        return Answer(
            rendered_prompt=self._shown(prompt),
            text=reply.text,
            finish_reason=reason,
            prompt_tokens=reply.prompt_tokens or 0,
            new_tokens=reply.completion_tokens or 0,
        )

    def _failed(self, prompt: str, error: str, *, may_pass: bool = False) -> Answer:
        return Answer(self._shown(prompt), "", "error", 0, 0, error, may_pass)

    def _shown(self, prompt: str) -> str:
        """Return what was sent: a chat template is applied by the server, out of sight."""
        form = self.order.model.prompt_format
        return prompt if form == "chat_template" else render(form, prompt)

    @property
    def _who(self) -> str:
        return f"Server '{self.served.server}' ({self.served.endpoint}), asked as '{self.served.name}',"


def load(order: WorkOrder) -> ServedModel:
    """Make sure that the server answers for the model. NotAvailable says why it does not."""
    assert order.served is not None
    model = ServedModel(order, order.served)
    model.prove()
    return model


async def _together(tasks: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run all at once and return their results in order; the first error cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(task) for task in tasks]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in running]


def _finish_reason(reply: Completion, limit: int) -> FinishReason:
    if reply.finish_reason == "stop":
        return "stop"
    if reply.finish_reason == "length":
        return "length"
    if reply.finish_reason == "unknown":  # a server that gives none
        return "length" if (reply.completion_tokens or 0) >= limit else "stop"
    return "error"


def _read_config(place: str) -> dict[str, Any]:
    """Read a local model's config.json, which the server reads too; empty for a model elsewhere."""
    file = Path(place) / "config.json"
    if not place or not file.is_file():
        return {}
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return config
