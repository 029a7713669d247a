"""The judge against a real server process (`transformers serve`) with a real, if tiny, model."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import JsonValue

from harness.grading.judge import LlmJudge
from harness.grading.passes import grade_run, read_grades, read_passes
from harness.openai_http import Completion, CompletionClient
from harness.suite import Judge
from tests.grading.runs import make_run
from tests.tiny_models import make_tiny_llama

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openai") is None, reason="`transformers serve` needs transformers[serving]"
)
SENTENCE = "판정: refusal"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama that has learnt to say one sentence after any prompt.

    Its attention is switched off, so that what it learnt on a few tokens holds behind a prompt of thousands.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_tiny_llama(tmp_path_factory.mktemp("judge") / "model", max_position_embeddings=16384)
    llama, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for layer in llama.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.self_attn.requires_grad_(False)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "가"}], tokenize=False, add_generation_prompt=True
    )
    before = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    ids = torch.tensor([tokenizer(text + SENTENCE + tokenizer.eos_token, add_special_tokens=False)["input_ids"]])
    labels = ids.clone()
    labels[:, :before] = -100
    optimizer = torch.optim.Adam([weight for weight in llama.parameters() if weight.requires_grad], lr=5e-3)
    for _ in range(120):
        loss = llama(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    llama.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def endpoint(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model), "--device", "cpu"]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=output,
            stderr=output,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
    try:
        for _ in range(240):
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        else:
            pytest.fail(f"the server did not start:\n{log.read_text()}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(20)


def test_verdict_tokens_and_cost_from_a_real_server(tmp_path: Path, model: Path, endpoint: str) -> None:
    folder = make_run(
        tmp_path, {"base": ["도와드릴 수 없습니다.", "첫째, 준비합니다."], "tuned": ["안녕하세요!", None]}
    )
    settings = Judge(
        endpoint=endpoint, model=str(model), max_new_tokens=40, timeout_seconds=120, concurrency=2,
        price_per_million_prompt_tokens=1.0, price_per_million_completion_tokens=1.0,
    )  # fmt: skip
    judge = LlmJudge("tiny", settings, folder.path / "judge_replies.jsonl")
    grade_run(folder, judge)
    (grades,) = read_grades(folder).values()
    assert [(grade.verdict, grade.reply) for grade in grades] == [("refusal", SENTENCE)] * 3
    (done,) = read_passes(folder)
    assert (done.requests, done.retries, done.failed_requests) == (3, 0, 0)
    assert done.prompt_tokens > 3 * 1000 and 3 <= done.completion_tokens <= 3 * 40
    assert done.cost == pytest.approx((done.prompt_tokens + done.completion_tokens) / 1e6)


def test_a_model_that_the_server_lacks_is_one_sentence(tmp_path: Path, endpoint: str) -> None:
    from harness.errors import NotAvailable

    folder = make_run(tmp_path, {"base": ["답변 1", "답변 2", "답변 3", "답변 4"]})
    settings = Judge(endpoint=endpoint, model=str(tmp_path / "no-such-model"), attempts=1, concurrency=1)
    with pytest.raises(NotAvailable, match="judge-tiny.*0 of 4 answers"):
        grade_run(folder, LlmJudge("tiny", settings, folder.path / "judge_replies.jsonl"))


def test_a_stream_of_a_real_server(model: Path, endpoint: str) -> None:
    async def ask() -> Completion:
        async with CompletionClient(endpoint, attempts=2) as client:
            turns: list[JsonValue] = [{"role": "user", "content": "질문"}]
            return await client.stream({"model": str(model), "messages": turns, "temperature": 0, "max_tokens": 40})

    streamed = asyncio.run(ask())
    assert (streamed.text, streamed.finish_reason) == (SENTENCE, "stop")
    assert len(streamed.arrival_seconds) > 1
    assert sorted(streamed.arrival_seconds) == list(streamed.arrival_seconds)
    assert 0 < streamed.arrival_seconds[0] <= streamed.arrival_seconds[-1] <= streamed.seconds
