"""A language model as a grader, behind any OpenAI-compatible server.

Each different (prompt, answer) is asked about once; every reply goes to the run folder's cache before it counts, so a
pass that was stopped asks only for what is missing, and a reply is never paid for twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import JsonValue

from harness.errors import NotAvailable
from harness.grading.grader import AnswerToGrade, Graded, Outcome, Progress, Usage
from harness.grading.judge_protocol import ASKING_VERSION, DECLINED, READING_VERSION, korean_rubric
from harness.grading.lexicon_text import answer_start
from harness.grading.record_log import RecordLog
from harness.openai_http import Completion, CompletionClient, RequestFailed
from harness.records import JudgeReply
from harness.suite import Judge

LOST_AFTER_FAILURES = 3
"""So many answers in a row without a usable reply (each tried `attempts` times) end the pass."""


class LlmJudge:
    """Grades by asking a model. `cache_file` holds the replies of all judges of one run."""

    def __init__(self, name: str, settings: Judge, cache_file: Path, *, first_wait_seconds: float = 1.0) -> None:
        """Set up the judge; nothing is asked yet. `first_wait_seconds` is the scale of the first back-off."""
        self.name = f"judge-{name}"
        self.settings = settings
        self._cache_file = cache_file
        self._first_wait_seconds = first_wait_seconds
        self._rubric = korean_rubric()
        rubric: list[JsonValue] = [self._rubric.text, *self._rubric.verdicts]
        self._identity = _hash(ASKING_VERSION, settings.endpoint, rubric, self._request_for(""))
        self.version = _hash(self._identity, READING_VERSION)[:12]

    def grade_all(self, answers: Sequence[AnswerToGrade], progress: Progress) -> Graded:
        """Ask about every answer that is not in the cache yet.

        An answer without a usable reply is unscored, with what came in its place. NotAvailable when the server is
        lost or refuses us; the replies had so far are kept.
        """
        shown = [_shown(item) for item in answers]
        usage = Usage()
        with RecordLog(self._cache_file, JudgeReply) as cache:
            replies = {record.key: record for record in cache.records}
            wanted = {self._key(item): item for item in shown if item is not None}
            missing = {key: item for key, item in wanted.items() if key not in replies}
            usage.from_cache = len(wanted) - len(missing)
            pass_ = _Pass(self, cache, usage, progress, total=len(wanted))
            asyncio.run(pass_.ask(missing))
        replies = {record.key: record for record in cache.records}
        usage.cost, usage.currency = self._cost(usage), self.settings.currency
        outcomes = [
            self._outcome(item, self._key(seen), replies, pass_.failures) if seen else Outcome("empty")
            for item, seen in zip(answers, shown, strict=True)
        ]
        return Graded(outcomes, usage)

    def client(self) -> CompletionClient:
        """Make the HTTP client; NotAvailable if the API key is not in the environment."""
        settings = self.settings
        return CompletionClient(
            settings.endpoint,
            api_key_env=settings.api_key_env,
            timeout_seconds=settings.timeout_seconds,
            attempts=settings.attempts,
            first_wait_seconds=self._first_wait_seconds,
        )

    def request(self, item: AnswerToGrade) -> dict[str, JsonValue]:
        """Return the body of the request about one answer."""
        return self._request_for(self._rubric.request(item.prompt, item.answer))

    def _request_for(self, message: str) -> dict[str, JsonValue]:
        # All in one user message: several models' chat templates reject a system message.
        body: dict[str, JsonValue] = {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": message}],
            "temperature": 0,
            "max_tokens": self.settings.max_new_tokens,
        }
        body |= self.settings.extra_request
        return {key: value for key, value in body.items() if value is not None}

    def _key(self, item: AnswerToGrade) -> str:
        return _hash(self._identity, item.prompt, item.answer)

    def _outcome(
        self, item: AnswerToGrade, key: str, replies: dict[str, JudgeReply], failures: dict[str, str]
    ) -> Outcome:
        if key not in replies:
            return Outcome("unscored", reply=failures[key])
        reply = replies[key]
        verdict = self._rubric.read_verdict(reply.text, reply.finish_reason)
        return Outcome(verdict, self._rubric.verdict_lines_in(item.answer), reply.text)

    def _cost(self, usage: Usage) -> float | None:
        for_prompt = self.settings.price_per_million_prompt_tokens
        for_completion = self.settings.price_per_million_completion_tokens
        if for_prompt is None or for_completion is None or usage.replies_without_token_counts:
            return None
        return (usage.prompt_tokens * for_prompt + usage.completion_tokens * for_completion) / 1e6


class _Pass:
    """One pass of one judge: asks, stores, counts, and notices when the server is lost."""

    def __init__(
        self, judge: LlmJudge, cache: RecordLog[JudgeReply], usage: Usage, progress: Progress, total: int
    ) -> None:
        self.failures: dict[str, str] = {}
        self._judge = judge
        self._cache = cache
        self._usage = usage
        self._progress = progress
        self._total = total
        self._failures_in_a_row = 0

    async def ask(self, missing: dict[str, AnswerToGrade]) -> None:
        """Ask about all, `concurrency` at once; the first fatal error cancels the rest."""
        if not missing:
            return
        queue = iter(missing.items())
        async with self._judge.client() as client:
            workers = [
                asyncio.ensure_future(self._work_off(client, queue)) for _ in range(self._judge.settings.concurrency)
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _work_off(self, client: CompletionClient, queue: Iterator[tuple[str, AnswerToGrade]]) -> None:
        for key, item in queue:
            try:
                completion = await client.complete(self._judge.request(item))
            except RequestFailed as error:
                self._note_failure(key, error)
            else:
                self._note_reply(key, completion)
            done = self._usage.from_cache + self._usage.requests + self._usage.failed_requests
            self._progress(done, self._total)

    def _note_reply(self, key: str, completion: Completion) -> None:
        usage = self._usage
        self._cache.append(
            JudgeReply(
                key=key,
                judge=self._judge.name,
                text=completion.text,
                finish_reason=DECLINED if completion.declined else completion.finish_reason,
                prompt_tokens=completion.prompt_tokens,
                completion_tokens=completion.completion_tokens,
                seconds=completion.seconds,
            )
        )
        self._failures_in_a_row = 0
        usage.requests += 1
        usage.retries += completion.retries
        usage.prompt_tokens += completion.prompt_tokens or 0
        usage.completion_tokens += completion.completion_tokens or 0
        if completion.prompt_tokens is None or completion.completion_tokens is None:
            usage.replies_without_token_counts += 1

    def _note_failure(self, key: str, error: RequestFailed) -> None:
        self.failures[key] = f"[{error.reason}] {error.reply}".strip()
        self._usage.failed_requests += 1
        self._usage.retries += error.retries
        self._failures_in_a_row += 1
        if error.status == 401 or (self._failures_in_a_row >= LOST_AFTER_FAILURES and not self._about_answer(error)):
            usage = self._usage
            raise NotAvailable(
                f"{self._judge.name}: {self._judge.settings.endpoint} gives no usable replies ({error.reason}"
                f"{': ' + ' '.join(error.reply.split())[:300] if error.reply else ''}); "
                f"{usage.from_cache + usage.requests} of {self._total} answers have one.",
                hint="These are kept.",
            )

    def _about_answer(self, error: RequestFailed) -> bool:
        """Say whether the server turned down this one request (too long, filtered) while it takes others."""
        return (
            error.status is not None
            and 400 <= error.status < 500
            and not error.transient
            and (self._usage.requests > 0)
        )


def _shown(item: AnswerToGrade) -> AnswerToGrade | None:
    """Return what the reader of the answer sees of it, without an exposed reasoning block; None for nothing."""
    start = answer_start(item.answer)
    if start is None or not item.answer[start:].strip():
        return None
    return AnswerToGrade(item.prompt, item.answer[start:], item.finish_reason)


def _hash(*parts: JsonValue) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
