"""From a prompt to token ids and from token ids to an answer: the same for everything that runs a local model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.backends import Answer
from harness.prompt_formats import adds_special_tokens, render
from harness.suite import Model


class Texts:
    """A tokenizer with the model's prompt format and end tokens."""

    def __init__(self, model: Model, tokenizer: Any, end_tokens: Sequence[int]) -> None:
        self.model, self.tokenizer, self.end_tokens = model, tokenizer, list(end_tokens)

    def render(self, prompt: str) -> str:
        """Put a prompt into the form the suite names."""
        return render(self.model.prompt_format, prompt, tokenizer=self.tokenizer)

    def token_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of the rendered prompts, with one BOS where the model wants one."""
        if not prompts:
            return []
        texts = [self.render(prompt) for prompt in prompts]
        special = adds_special_tokens(texts[0], self.tokenizer)
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=special)["input_ids"]
        return ids

    def as_answer(self, prompt: str, tokens: Sequence[int], prompt_tokens: int) -> Answer:
        """Turn new tokens, with or without an end token and padding behind it, into an answer."""
        end = next((index for index, token in enumerate(tokens) if token in self.end_tokens), None)
        written = tokens if end is None else tokens[:end]
        return Answer(
            rendered_prompt=self.render(prompt),
            text=self.tokenizer.decode(written, skip_special_tokens=True),
            finish_reason="length" if end is None else "stop",
            prompt_tokens=prompt_tokens,
            new_tokens=len(tokens) if end is None else end + 1,
        )

    def too_long(self, prompt: str, prompt_tokens: int, room: int) -> Answer:
        """Return the failed answer to a prompt that does not leave room for an answer."""
        reason = f"the prompt has more tokens than max_seq_length less max_new_tokens ({room})"
        return Answer(self.render(prompt), "", "error", prompt_tokens, 0, reason)
