"""A backend that reads its answers from a file: the same pipeline without a model, in seconds and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.backends import Answer, OnText, PassTimes
from harness.errors import InvalidInput, NotAvailable
from harness.orders import WorkOrder
from harness.prompts import read_script
from harness.records import LoadedModel
from harness.suite import Sampling


class ScriptedBackend:
    """Answers each prompt with the text its id has in the script."""

    def __init__(self, order: WorkOrder, script: dict[str, str]) -> None:
        self.order = order
        self.answers = {
            order.prompts[prompt_id]: text for prompt_id, text in script.items() if prompt_id in order.prompts
        }

    def describe(self) -> LoadedModel:
        """Describe a model that has no parameters."""
        return LoadedModel(
            job_id=self.order.job.id,
            model=self.order.job.model,
            backend="scripted",
            path=Path(self.order.script_place or "").name,
            content_hash=self.order.model_hash,
            architecture="script",
            parameter_count=0,
            parameter_dtypes={},
            requested_dtype=self.order.model.dtype,
            compute_dtype="none",
            quantization="none",
            attention="none",
            device="none",
        )

    def answer(self, prompts: Sequence[str], sampling: Sampling, seed: int, on_text: OnText | None) -> list[Answer]:
        """Look the answers up; words stand in for tokens."""
        answers = [self._answer(prompt, sampling.max_new_tokens) for prompt in prompts]
        if on_text and len(answers) == 1:
            on_text(answers[0].text)
        return answers

    def _answer(self, prompt: str, limit: int) -> Answer:
        if prompt not in self.answers:
            raise NotAvailable(f"{self.order.script_place}: no answer for the prompt '{prompt}'.")
        words = self.answers[prompt].split(" ")
        return Answer(
            rendered_prompt=prompt,
            text=" ".join(words[:limit]),
            finish_reason="length" if len(words) > limit else "stop",
            prompt_tokens=len(prompt.split()),
            new_tokens=min(len(words), limit),
        )

    def time_pass(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> PassTimes:
        """Refuse: a script has no speed."""
        raise NotAvailable("A scripted model has no speed to measure.")


def load(order: WorkOrder) -> ScriptedBackend:
    """Read the script. InvalidInput names file and line of a bad row."""
    script, faults = read_script(Path(order.script_place or ""))
    if faults:
        raise InvalidInput(faults)
    return ScriptedBackend(order, script)
