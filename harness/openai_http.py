"""A small client for OpenAI-compatible servers (vLLM, `transformers serve`, llama.cpp, hosted).

It asks again, after a growing and randomly shortened wait, where asking again can help (time-outs, lost connections,
408, 425, 429, 5xx, replies that are no reply), and waits at least as long as a server's Retry-After says.
The API key is read from an environment variable, lives only in the request's header, and is cut out of whatever the
server sends back, so that it can reach no file and no message.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from types import TracebackType

import httpx
from pydantic import JsonValue
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from harness.errors import NotAvailable
from harness.openai_replies import LARGEST_REPLY_BYTES, Completion, RequestFailed, read_reply, read_stream, too_long

__all__ = ["Completion", "CompletionClient", "RequestFailed"]

LONGEST_WAIT_SECONDS = 120.0
SHORTEST_SECRET = 8  # shorter 'keys' are placeholders such as EMPTY, and occur in ordinary text
_TRANSIENT_STATUS = frozenset({408, 425, 429})

_Reader = Callable[[httpx.Response, float], Awaitable[Completion]]


class CompletionClient:
    """Sends requests to one endpoint; how many at once is the caller's matter. An asynchronous context manager.

    A body with `messages` goes to chat/completions, one with `prompt` to completions.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        api_key_env: str | None = None,
        timeout_seconds: float = 120.0,
        attempts: int = 5,
        first_wait_seconds: float = 1.0,
    ) -> None:
        """`timeout_seconds` bounds one attempt as a whole. NotAvailable if the named variable holds no usable key."""
        self._endpoint = endpoint.rstrip("/")
        self._key = _read_api_key(api_key_env) if api_key_env else None
        self._timeout_seconds = timeout_seconds
        self._attempts = attempts
        self._backoff = wait_random_exponential(multiplier=first_wait_seconds, max=LONGEST_WAIT_SECONDS)
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=None,  # `_attempt` bounds connecting, sending and reading together
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )

    async def __aenter__(self) -> CompletionClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def complete(self, body: Mapping[str, JsonValue]) -> Completion:
        """Send one request (keys as in OpenAI's API, `model` among them) and return the reply.

        RequestFailed when all attempts failed, or at once where asking again cannot help.
        """
        return await self._insist(body, self._whole_reply)

    async def stream(self, body: Mapping[str, JsonValue], on_text: Callable[[str], None] | None = None) -> Completion:
        """Like `complete`, but let the server send the reply in pieces, and note when each came.

        A stream that breaks off before its finish reason is a failed attempt; the next one starts from nothing, and
        `on_text`, which gets each piece as it comes, gets the first pieces again.
        """
        streaming: dict[str, JsonValue] = {"stream": True, "stream_options": {"include_usage": True}}

        async def read(response: httpx.Response, started: float) -> Completion:
            return await read_stream(self._lines(response), started, on_text)

        return await self._insist({**body, **streaming}, read)

    async def _insist(self, body: Mapping[str, JsonValue], read: _Reader) -> Completion:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._attempts),
            wait=self._wait_seconds,
            retry=retry_if_exception(lambda error: isinstance(error, RequestFailed) and error.transient),
            reraise=True,
        )
        retries = -1
        try:
            async for attempt in retrying:
                with attempt:
                    retries += 1
                    completion = await self._attempt(body, read)
        except RequestFailed as error:
            error.retries = retries
            raise
        return replace(completion, retries=retries)

    def _wait_seconds(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_for = error.retry_after_seconds if isinstance(error, RequestFailed) else 0.0
        return asked_for + float(self._backoff(state))

    async def _attempt(self, body: Mapping[str, JsonValue], read: _Reader) -> Completion:
        started = time.monotonic()
        url = f"{self._endpoint}/{'chat/completions' if 'messages' in body else 'completions'}"
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._http.stream("POST", url, json=body) as response,
            ):
                if not response.is_success:
                    raise _refused(response, await self._text(response))
                completion = await read(response, started)
        except TimeoutError as error:
            reason = f"no whole reply within {self._timeout_seconds:g} seconds"
            raise RequestFailed(reason, transient=True) from error
        except httpx.RequestError as error:
            raise RequestFailed(f"{type(error).__name__}: {error}", transient=True) from error
        return replace(completion, seconds=time.monotonic() - started)

    async def _whole_reply(self, response: httpx.Response, started: float) -> Completion:
        return read_reply(await self._text(response))

    async def _lines(self, response: httpx.Response) -> AsyncIterator[str]:
        async for line in response.aiter_lines():
            yield self._without_key(line)

    async def _text(self, response: httpx.Response) -> str:
        content = bytearray()
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > LARGEST_REPLY_BYTES:
                raise too_long()
        return self._without_key(content.decode("utf-8", errors="replace"))

    def _without_key(self, text: str) -> str:
        if self._key and len(self._key) >= SHORTEST_SECRET:
            return text.replace(self._key, "[API key]")
        return text


def _refused(response: httpx.Response, text: str) -> RequestFailed:
    status = response.status_code
    wait = _retry_after_seconds(response.headers.get("retry-after", ""))
    reason = f"HTTP status {status}"
    if wait > LONGEST_WAIT_SECONDS:
        reason += f", and the server asks to wait {wait:.0f} seconds"
    return RequestFailed(
        reason,
        reply=text,
        status=status,
        transient=(status in _TRANSIENT_STATUS or status >= 500) and wait <= LONGEST_WAIT_SECONDS,
        retry_after_seconds=wait,
    )


def _retry_after_seconds(header: str) -> float:
    """Read a Retry-After header (RFC 9110, section 10.2.3): seconds or a date. 0 where there is none to be read."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0


def _read_api_key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise NotAvailable(
            f"The environment variable {variable}, which should hold the API key, is not set.",
            hint=f"Set it for this command alone: {variable}=... harness ...",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise NotAvailable(f"The environment variable {variable} holds characters that an API key cannot have.")
    return key
