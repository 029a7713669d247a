"""What an OpenAI-compatible server sends back, whole or as a stream: chat/completions and completions alike."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

LARGEST_REPLY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Completion:
    """One reply. Token counts are the server's; None where it gives none. `seconds` is the last attempt's alone.

    `arrival_seconds` are the times from sending the request to each piece of text, where the reply was streamed: the
    first is the time to first token. A piece holds one token or several, as the server pleases. `declined` says that
    the text came as the message's `refusal`.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    arrival_seconds: tuple[float, ...] = ()
    seconds: float = 0.0
    retries: int = 0
    declined: bool = False


class RequestFailed(Exception):
    """No usable reply came. `reply` is what the server sent instead, cut to 2,000 characters."""

    def __init__(
        self,
        reason: str,
        *,
        reply: str = "",
        status: int | None = None,
        transient: bool = False,
        retry_after_seconds: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply[:2000]
        self.status = status
        self.transient = transient
        self.retry_after_seconds = retry_after_seconds
        self.retries = 0

    def sentence(self) -> str:
        """Return the reason and the start of what came instead of a reply, on one line."""
        reply = " ".join(self.reply.split())[:300]
        return f"{self.reason}: {reply}" if reply else self.reason


def _joined(content: object) -> object:
    """Put the text parts of a content together that comes as a list of parts; others (thinking, images) are no text."""
    if not isinstance(content, list):
        return content
    parts = (part for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "".join(str(part.get("text", "")) for part in parts)


_Content = Annotated[str | None, BeforeValidator(_joined)]


class _Message(BaseModel):
    content: _Content = None
    refusal: str | None = None


class _Choice(BaseModel):
    """A chat completion's choice has a message, a text completion's a text."""

    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None

    def content(self) -> str | None:
        """Return the text; None where there is neither a message nor a text."""
        if self.message is None:
            return self.text
        return self.message.content or self.message.refusal or ""

    def declined(self) -> bool:
        """Say whether the text is a refusal in the field that the API has for it."""
        return self.message is not None and not self.message.content and bool(self.message.refusal)


class _Usage(BaseModel):
    prompt_tokens: int | None = Field(None, ge=0)
    completion_tokens: int | None = Field(None, ge=0)


class _Reply(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _Delta(BaseModel):
    content: _Content = None


class _EventChoice(BaseModel):
    delta: _Delta = _Delta()
    text: str | None = None
    finish_reason: str | None = None


class _Event(BaseModel):
    choices: list[_EventChoice]
    usage: _Usage | None = None


def read_reply(text: str) -> Completion:
    """Read a whole reply. RequestFailed, worth another try, where it is none."""
    try:
        reply = _Reply.model_validate_json(text)
    except ValidationError as error:
        raise no_reply(text) from error
    choice, usage = reply.choices[0], reply.usage or _Usage()
    content = choice.content()
    if content is None:
        raise no_reply(text)
    return Completion(
        text=content,
        finish_reason=choice.finish_reason or "unknown",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        declined=choice.declined(),
    )


async def read_stream(lines: AsyncIterator[str], started: float, on_text: Callable[[str], None] | None) -> Completion:
    """Read server-sent events: lines 'data: {...}', the last one perhaps 'data: [DONE]'.

    `started` is the reading of time.monotonic() that arrivals are counted from. RequestFailed, worth another try,
    where the stream holds something else or ends before its finish reason.
    """
    pieces: list[str] = []
    arrivals: list[float] = []
    finish_reason, usage, size = None, _Usage(), 0
    async for line in lines:
        size += len(line)
        if size > LARGEST_REPLY_BYTES:
            raise too_long()
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        try:
            event = _Event.model_validate_json(data)
        except ValidationError as error:
            raise no_reply(data) from error
        usage = event.usage or usage
        for choice in event.choices[:1]:
            finish_reason = choice.finish_reason or finish_reason
            if piece := choice.delta.content or choice.text:
                pieces.append(piece)
                arrivals.append(time.monotonic() - started)
                if on_text:
                    on_text(piece)
    if finish_reason is None:
        raise no_reply("".join(pieces))
    return Completion(
        text="".join(pieces),
        finish_reason=finish_reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        arrival_seconds=tuple(arrivals),
    )


def no_reply(text: str) -> RequestFailed:
    """Return the error for something that came with status 200 and is no reply."""
    return RequestFailed("the reply is not a completion", reply=text, status=200, transient=True)


def too_long() -> RequestFailed:
    """Return the error for a reply that does not end."""
    return RequestFailed(f"the reply is longer than {LARGEST_REPLY_BYTES} bytes")
