"""Speed of a served model at fixed lengths, seen from the client: what its users wait for.

Each pass sends a batch of streamed requests at the same moment and notes when each piece of each answer arrives. The
figures hold the network, the server's queue and its scheduling, which those of a model in the job's own process do not.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from harness.backends.openai_http import ServedModel, load
from harness.errors import JobFailed
from harness.openai_http import Completion, RequestFailed
from harness.orders import Message, Progress, Records, WorkOrder
from harness.records import JobRecord, Measurement
from harness.suite import Sampling, TimingPoint
from harness.workloads.measurements import Series

WORDS = ("하늘", "바다", "나무", "사람", "시간", "마을", "노래", "겨울", "여름", "아침", "저녁", "기차", "편지", "시장")
LENGTH_PROBES = 6
"""Requests that find out how many words make the wanted number of prompt tokens."""


@dataclass(frozen=True)
class ServedPass:
    """One batch: `seconds` from sending the first request to the end of the last answer, and the answers."""

    seconds: float
    answers: tuple[Completion, ...]


def measure_served_throughput(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Measure every point. JobFailed where a request fails: a pass with a retry in it has no time."""
    started = time.perf_counter()
    model = load(order)
    first_answer_seconds = time.perf_counter() - started
    loaded = model.describe()
    series = Series(order, {"dtype": loaded.compute_dtype, "quantization": loaded.quantization})
    method = "from the first request for the model to its answer of one token, loading by the server included"
    records: list[JobRecord] = [
        loaded,
        series.one("first_answer_seconds", "s", "load", (first_answer_seconds,), method),
        _no_memory(order, series),
    ]
    try:
        records += _Timer(order, model, send).all_points(series)
    except RequestFailed as error:
        raise JobFailed(
            f"Server '{order.served.server if order.served else ''}' failed during timing ({error.sentence()}).",
            "Timings are made anew; the same command goes on from here.",
        ) from error
    send(Records(records=tuple(records)))


def _no_memory(order: WorkOrder, series: Series) -> JobRecord:
    server = order.served.server if order.served else ""
    message = (
        f"No memory figures of {order.job.model}: its weights are in the process of server '{server}', "
        "and not in that of the job."
    )
    return series.event("memory_not_measured", message, {"model": order.job.model, "server": server})


class _Timer:
    def __init__(self, order: WorkOrder, model: ServedModel, send: Callable[[Message], None]) -> None:
        parameters = order.job.parameters
        self.model = model
        self.send = send
        self.warmup, self.repeats = int(parameters["warmup"] or 0), int(parameters["repeats"] or 0)
        self.points = order.points
        self.random = random.Random(0)
        self.done = 0

    def all_points(self, series: Series) -> list[JobRecord]:
        records: list[JobRecord] = []
        for point in self.points:
            words, lengths = self._words_for(point.prompt_tokens), self._exact_length(point.new_tokens)
            for _ in range(self.warmup):
                self._pass(point, words, lengths)
            passes = [self._pass(point, words, lengths) for _ in range(self.repeats)]
            records += _measurements(series.at(point.model_dump()), passes, point)
        return records

    def _pass(self, point: TimingPoint, words: int, lengths: dict[str, JsonValue]) -> ServedPass:
        bodies = [self._body(words, point.new_tokens, lengths) for _ in range(point.batch_size)]
        started = time.perf_counter()
        answers = self.model.ask_all(bodies, stream=True, attempts=1)
        seconds = time.perf_counter() - started
        self.done += 1
        self.send(Progress(done=self.done, total=len(self.points) * (self.warmup + self.repeats), unit="passes"))
        return ServedPass(seconds, tuple(answers))

    def _body(self, words: int, new_tokens: int, lengths: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Make a request whose text differs from all others from its start, so that no cached prefix helps."""
        text = " ".join(self.random.choices(WORDS, k=words))
        return {**self.model.request(text, Sampling(max_new_tokens=new_tokens), seed=0), **lengths}

    def _words_for(self, prompt_tokens: int) -> int:
        """Find how many words come nearest to the wanted tokens, by what the server counts. At least one."""
        words = prompt_tokens
        found: dict[int, int] = {}
        for _ in range(LENGTH_PROBES):
            found[words] = self._tokens(words)
            words = max(1, round(words * prompt_tokens / max(found[words], 1)))
            if words in found:
                break
        return min(found, key=lambda tried: abs(found[tried] - prompt_tokens))

    def _tokens(self, words: int) -> int:
        (answer,) = self.model.ask_all([self._body(words, 1, {})])
        return answer.prompt_tokens or words

    def _exact_length(self, new_tokens: int) -> dict[str, JsonValue]:
        """Return the keys that make the server write exactly so many tokens, none where it takes no such keys."""
        if self.model.served.settings.kind == "transformers":
            limits = f'{{"min_new_tokens": {new_tokens}, "max_new_tokens": {new_tokens}, "do_sample": false}}'
            return {"generation_config": limits}
        keys: dict[str, JsonValue] = {"ignore_eos": True, "min_tokens": new_tokens}
        try:
            self.model.ask_all([self._body(1, new_tokens, keys)], attempts=1)
        except RequestFailed as error:
            if error.status not in (400, 422):
                raise
            return {}
        return keys


def _measurements(series: Series, passes: Sequence[ServedPass], point: TimingPoint) -> list[Measurement]:
    """Turn arrivals into figures. Where answers are shorter than asked for, none of them is comparable."""
    answers = [answer for one in passes for answer in one.answers]
    tokens = [answer.completion_tokens or len(answer.arrival_seconds) for answer in answers]
    measured = [(answer, count) for answer, count in zip(answers, tokens, strict=True) if answer.arrival_seconds]
    first = tuple(answer.arrival_seconds[0] for answer, _ in measured)
    between = tuple(
        (answer.arrival_seconds[-1] - answer.arrival_seconds[0]) / (count - 1)
        for answer, count in measured
        if count > 1
    )
    gaps = tuple(
        later - earlier for answer, _ in measured for earlier, later in itertools.pairwise(answer.arrival_seconds)
    )
    speed = tuple(
        sum(answer.completion_tokens or len(answer.arrival_seconds) for answer in one.answers) / one.seconds
        for one in passes
    )
    prompts = [answer.prompt_tokens for answer in answers if answer.prompt_tokens is not None]
    lengths = (
        f"{point.batch_size} streamed requests at once, no two prompts alike; tokens in by the server's count "
        f"{_range(prompts)} for {point.prompt_tokens} wanted, tokens out {_range(tokens)} for {point.new_tokens} wanted"
    )
    found = [
        series.one("time_to_first_token_seconds", "s", "prefill", first, f"sending to first piece of text; {lengths}"),
        series.one(
            "inter_token_latency_seconds",
            "s",
            "decode",
            between,
            f"per request: (last piece - first piece) / (tokens out - 1); {lengths}",
        ),
        series.one(
            "stream_gap_seconds", "s", "decode", gaps, f"between pieces of text, of one token or more; {lengths}"
        ),
        series.one(
            "served_tokens_per_second", "tokens/s", "generate", speed, f"all tokens out / time of the batch; {lengths}"
        ),
        series.one(
            "generate_seconds", "s", "generate", tuple(one.seconds for one in passes), f"time of the batch; {lengths}"
        ),
    ]
    reason = _why_not_comparable(answers, tokens, point)
    return [one.model_copy(update={"not_comparable": reason}) for one in found if one.values]


def _why_not_comparable(answers: Sequence[Completion], tokens: Sequence[int], point: TimingPoint) -> str | None:
    if any(answer.completion_tokens is None for answer in answers):
        return "the server gives no token counts; pieces of the stream were counted in their place"
    if min(tokens) < point.new_tokens:
        return f"the server ended answers before {point.new_tokens} tokens (it takes no key that forbids that)"
    return None


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return "not given"
    low, middle, high = min(counts), statistics.median_low(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high} (median {middle})"
