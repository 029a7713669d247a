"""The backend for served models against a scripted server: requests, retries, failures, streams."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.backends.openai_http import ServedModel
from harness.errors import NotAvailable
from harness.orders import Served, WorkOrder
from harness.prompt_formats import render
from harness.suite import Model, PromptFormat, Sampling, Server
from tests.grading.scripted_server import Script, Scripted, ScriptedServer, Seen, completion
from tests.orders import make_order

GREEDY = Sampling(max_new_tokens=12)
Connect = Callable[..., ServedModel]


@pytest.fixture
def servers() -> Iterator[list[ScriptedServer]]:
    opened: list[ScriptedServer] = []
    yield opened
    for server in opened:
        server.close()


@pytest.fixture
def connect(servers: list[ScriptedServer], tmp_path: Path) -> Connect:
    """Start a server with a script and return a model behind it; the server is `servers[-1]`."""

    def connect(script: Script, form: PromptFormat = "alpaca_ko", **settings: Any) -> ServedModel:
        servers.append(ScriptedServer(script))
        server = Server(kind="external", endpoint=servers[-1].endpoint, **{"attempts": 2, **settings})
        order = order_for(tmp_path, server, form)
        assert order.served
        return ServedModel(order, order.served, first_wait_seconds=0.01)

    return connect


def order_for(folder: Path, server: Server, form: PromptFormat = "alpaca_ko") -> WorkOrder:
    served = Served(server="s", settings=server, endpoint=server.endpoint or "", name="tuned-by-us")
    model = Model(backend="openai_http", server="s", prompt_format=form)
    order = make_order(folder, model=model)
    return order.model_copy(update={"served": served, "model_place": ""})


def echo(number: int, seen: Seen) -> Scripted:
    return completion(seen, f"답: {asked(seen)}")


def asked(seen: Seen) -> str:
    """Return the question, out of a rendered prompt or a message."""
    text = str(seen.body["prompt"]) if "prompt" in seen.body else seen.message
    return text.split("### 명령어:\n")[-1].split("\n\n")[0]


def test_a_batch_is_in_flight_at_once_and_comes_back_in_order(connect: Connect, servers: list[ScriptedServer]) -> None:
    def slower_first(number: int, seen: Seen) -> Scripted:
        reply = completion(seen, f"답: {asked(seen)}")
        return Scripted(reply.body, wait_seconds=0.3 - 0.02 * number)

    model = connect(slower_first, concurrency=4)
    prompts = [f"질문 {number}" for number in range(10)]
    answers = model.answer(prompts, GREEDY, 5, None)
    assert [answer.text for answer in answers] == [f"답: {prompt}" for prompt in prompts]
    assert servers[-1].most_at_once == 4
    assert {(answer.prompt_tokens, answer.new_tokens, answer.error) for answer in answers} == {(7, 3, None)}


def test_a_rendered_prompt_goes_to_completions(connect: Connect, servers: list[ScriptedServer]) -> None:
    model = connect(echo, extra_request={"logit_bias": {}, "seed": None})
    (answer,) = model.answer(["질문"], GREEDY, 5, None)
    (seen,) = servers[-1].requests
    assert seen.path == "/v1/completions"
    assert answer.rendered_prompt == seen.body["prompt"] == render("alpaca_ko", "질문")
    rest = {key: value for key, value in seen.body.items() if key != "prompt"}
    assert rest == {"model": "tuned-by-us", "max_tokens": 12, "temperature": 0.0, "logit_bias": {}}


def test_a_chat_template_is_left_to_the_server(connect: Connect, servers: list[ScriptedServer]) -> None:
    model = connect(echo, form="chat_template")
    (answer,) = model.answer(["질문"], Sampling(max_new_tokens=12, temperature=0.7, top_p=0.9), 5, None)
    (seen,) = servers[-1].requests
    assert seen.path == "/v1/chat/completions"
    assert seen.body["messages"] == [{"role": "user", "content": "질문"}]
    assert (seen.body["temperature"], seen.body["top_p"], seen.body["seed"]) == (0.7, 0.9, 5)
    assert (answer.text, answer.rendered_prompt) == ("답: 질문", "질문")


def test_a_server_of_transformers_is_told_to_draw(
    connect: Connect, servers: list[ScriptedServer], tmp_path: Path
) -> None:
    connect(echo)
    order = order_for(tmp_path, Server(kind="transformers"))
    assert order.served
    model = ServedModel(order, order.served.model_copy(update={"endpoint": servers[-1].endpoint}))
    model.answer(["질문"], Sampling(max_new_tokens=12, temperature=0.7), 5, None)
    settings = json.loads(servers[-1].requests[0].body["generation_config"])
    assert settings == {"do_sample": True, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_new_tokens": 12}


TROUBLES = {
    "500": Scripted("out of memory", status=500),
    "429": Scripted("slow down", status=429),
    "garbage": Scripted("<html>"),
    "no text": Scripted('{"choices": [{"index": 0}]}'),
    "truncated": Scripted('{"choices": [{"text": "반', promised_bytes=50),
    "reset": Scripted("", hang_up=True),
    "slow": Scripted("{}", wait_seconds=1.5),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_that_passes_costs_nothing_but_time(
    connect: Connect, servers: list[ScriptedServer], trouble: str
) -> None:
    seen_before: set[str] = set()

    def once(number: int, seen: Seen) -> Scripted:
        first = asked(seen) not in seen_before
        seen_before.add(asked(seen))
        return TROUBLES[trouble] if first and asked(seen) == "둘" else echo(number, seen)

    answers = connect(once, timeout_seconds=0.7).answer(["하나", "둘", "셋"], GREEDY, 5, None)
    assert [answer.text for answer in answers] == ["답: 하나", "답: 둘", "답: 셋"]
    assert len(servers[-1].requests) == 4


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_that_stays_with_one_prompt_is_a_failed_answer_to_be_asked_again(
    connect: Connect, trouble: str
) -> None:
    def always(number: int, seen: Seen) -> Scripted:
        return TROUBLES[trouble] if asked(seen) == "둘" else echo(number, seen)

    answers = connect(always, timeout_seconds=0.7).answer(["하나", "둘", "셋"], GREEDY, 5, None)
    failed = answers[1]
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert (failed.text, failed.finish_reason, failed.new_tokens, failed.may_pass) == ("", "error", 0, True)
    assert failed.rendered_prompt == render("alpaca_ko", "둘")


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (Scripted('{"detail": "too long"}', status=400), 'HTTP status 400: {"detail": "too long"}'),
        (Scripted(json.dumps({"choices": [{"text": "반", "finish_reason": "content_filter"}]})), "content_filter"),
    ],
)
def test_a_prompt_that_the_server_turns_down_fails_alone_and_for_good(
    connect: Connect, servers: list[ScriptedServer], reply: Scripted, sentence: str
) -> None:
    model = connect(lambda number, seen: reply if asked(seen) == "둘" else echo(number, seen))
    answers = model.answer(["하나", "둘", "셋"], GREEDY, 5, None)
    assert sentence in str(answers[1].error) and not answers[1].may_pass
    assert len(servers[-1].requests) == 3


def test_a_server_that_is_lost_ends_the_job_with_its_name(connect: Connect, servers: list[ScriptedServer]) -> None:
    model = connect(lambda number, seen: echo(number, seen) if number < 2 else TROUBLES["500"], concurrency=1)
    with pytest.raises(NotAvailable, match=r"Server 's' .*no usable replies any more \(HTTP status 500: out of memory"):
        model.answer([f"질문 {number}" for number in range(20)], GREEDY, 5, None)
    assert len(servers[-1].requests) == 2 + 3 * 2


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_name_is_found_with_the_first_request(connect: Connect, status: int) -> None:
    model = connect(lambda number, seen: Scripted("who?", status=status))
    with pytest.raises(NotAvailable, match=rf"asked as 'tuned-by-us', does not answer \(HTTP status {status}: who\?\)"):
        model.prove()


def test_no_server_is_one_sentence(tmp_path: Path) -> None:
    order = order_for(tmp_path, Server(kind="external", endpoint="http://127.0.0.1:9/v1", attempts=1))
    assert order.served
    with pytest.raises(NotAvailable, match="ConnectError"):
        ServedModel(order, order.served).prove()


def test_pieces_of_a_stream_are_handed_on_with_an_end(connect: Connect, servers: list[ScriptedServer]) -> None:
    pieces: list[str] = []
    (answer,) = connect(echo).answer(["질문"], GREEDY, 5, pieces.append)
    assert (pieces, answer.text) == (["답:", "질문", ""], "답:질문")
    assert servers[-1].requests[0].body["stream"] is True


def test_a_stream_cut_in_the_middle_is_asked_for_again(connect: Connect, servers: list[ScriptedServer]) -> None:
    def cut_once(number: int, seen: Seen) -> Scripted:
        whole = echo(number, seen)
        return Scripted(whole.body[: len(whole.body) // 2], promised_bytes=80) if number == 0 else whole

    (answer,) = connect(cut_once).answer(["질문"], GREEDY, 5, lambda text: None)
    assert (answer.text, answer.error, len(servers[-1].requests)) == ("답:질문", None, 2)


def test_what_a_server_cannot_tell_is_said_to_be_unknown(connect: Connect) -> None:
    loaded = connect(echo).describe()
    assert (loaded.compute_dtype, loaded.requested_dtype, loaded.quantization) == ("unknown (served)",) * 3
    assert (loaded.path, loaded.device, loaded.parameter_count) == ("tuned-by-us", "server 's' (external)", 0)
    assert loaded.adapter_max_logit_change is loaded.padding_max_logit_difference is loaded.bos_count is None


def test_the_key_is_sent_and_kept_out_of_failures(
    connect: Connect, servers: list[ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "TEST_SERVER_KEY", "sk-very-secret-0123")

    def tell(number: int, seen: Seen) -> Scripted:
        return Scripted(f"bad prompt, key {seen.headers['authorization']}", status=400)

    (answer,) = connect(tell, api_key_env="TEST_SERVER_KEY").answer(["질문"], GREEDY, 5, None)
    assert servers[-1].requests[0].headers["authorization"] == "Bearer sk-very-secret-0123"
    assert "[API key]" in str(answer.error) and "secret" not in str(answer.error)
