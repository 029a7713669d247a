"""The HTTP client's streams, against a scripted server. Whole replies are tested with the judge that uses them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from harness.openai_http import Completion, CompletionClient, RequestFailed
from harness.openai_replies import read_reply
from tests.grading.scripted_server import Scripted, ScriptedServer

REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "질문"}]}


def event(content: str | None = None, finish: str | None = None, **more: Any) -> str:
    delta = {} if content is None else {"content": content}
    return f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': finish}], **more})}\n\n"


WHOLE = (
    event() + event("하나 ") + ": a comment\n\n" + event("둘") + event(finish="stop")
    + 'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}\n\ndata: [DONE]\n\n'
)  # fmt: skip


def stream(replies: list[Scripted], attempts: int = 3, timeout_seconds: float = 5.0) -> tuple[Completion, int]:
    server = ScriptedServer(lambda number, seen: replies[min(number, len(replies) - 1)])

    async def ask() -> Completion:
        async with CompletionClient(
            server.endpoint, attempts=attempts, timeout_seconds=timeout_seconds, first_wait_seconds=0.01
        ) as client:
            return await client.stream(REQUEST)

    try:
        completion = asyncio.run(ask())
        assert all(request.body["stream"] for request in server.requests)
        return completion, len(server.requests)
    finally:
        server.close()


def test_pieces_are_joined_and_timed() -> None:
    seconds_per_byte = 0.001
    completion, _ = stream([Scripted(WHOLE, piece_seconds=seconds_per_byte)])
    assert (completion.text, completion.finish_reason) == ("하나 둘", "stop")
    assert (completion.prompt_tokens, completion.completion_tokens) == (9, 2)
    first, second = completion.arrival_seconds
    assert first >= len(event() + event("하나 ")) * seconds_per_byte
    assert second - first >= len(event("둘")) * seconds_per_byte
    assert completion.seconds >= len(WHOLE.encode()) * seconds_per_byte >= second


def test_a_content_in_parts_is_its_text_parts() -> None:
    """As some hosted servers send it, with what was thought in a part of its own."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "거절할까?"}]},
        {"type": "text", "text": "하나 "},
    ]
    chunk = f"data: {json.dumps({'choices': [{'delta': {'content': parts}}]})}\n\n"
    completion, _ = stream([Scripted(chunk + event("둘", finish="stop"))])
    assert completion.text == "하나 둘"
    whole = read_reply(json.dumps({"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}))
    assert (whole.text, whole.declined) == ("하나 ", False)


def test_a_server_without_usage_or_done_mark() -> None:
    completion, requests = stream([Scripted(event("답") + event(finish="length"))])
    assert (completion.text, completion.finish_reason, completion.prompt_tokens) == ("답", "length", None)
    assert requests == 1


@pytest.mark.parametrize(
    "trouble",
    [
        Scripted(event("하나 ")),
        Scripted(event("하나 "), promised_bytes=100),
        Scripted(event("하나 ") + 'data: {"error": {"message": "out of memory"}}\n\n'),
        Scripted(event("하나 ") + "data: {half\n\n"),
        Scripted("", status=503),
        Scripted(WHOLE, piece_seconds=0.02),
    ],
    ids=["ends early", "broken off", "error in the stream", "garbage", "503", "too slow"],
)
def test_a_broken_stream_is_asked_for_again_from_nothing(trouble: Scripted) -> None:
    completion, requests = stream([trouble, Scripted(WHOLE)], timeout_seconds=2.0)
    assert (completion.text, completion.retries, requests) == ("하나 둘", 1, 2)


def test_a_stream_that_stays_broken_fails_with_what_came() -> None:
    with pytest.raises(RequestFailed) as caught:
        stream([Scripted(event("반쪽"))], attempts=2)
    assert (caught.value.reply, caught.value.retries) == ("반쪽", 1)
