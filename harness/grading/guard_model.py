"""The child-process side of `guard`: loads the model and labels pairs of prompt and answer. Torch lives here."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING

from harness.errors import NotAvailable
from harness.suite import Guard

if TYPE_CHECKING:
    import torch

Pair = tuple[str, str]


@dataclass(frozen=True)
class GuardOrder:
    """What to load, and from where."""

    settings: Guard
    place: str


@dataclass(frozen=True)
class Label:
    """The model's label and its softmax share among the labels; `tokens_read` < `tokens` where the text was cut.

    Where the model computed NaN the name is none of its labels, so that no verdict comes of it.
    """

    name: str
    share: float
    tokens: int
    tokens_read: int


def classify(order: GuardOrder, pairs: Sequence[Pair]) -> list[Label]:
    """Label every (prompt, answer), in order. NotAvailable if the model cannot be a guard."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    guard = _SequenceClassifier(order) if order.settings.kind == "sequence_classifier" else _CausalGuard(order)
    # Texts of like length share a batch, so that little is spent on padding.
    by_length = sorted(range(len(pairs)), key=lambda index: sum(map(len, pairs[index])))
    labels: dict[int, Label] = {}
    for start in range(0, len(pairs), order.settings.batch_size):
        indices = by_length[start : start + order.settings.batch_size]
        labels.update(zip(indices, guard.label([pairs[index] for index in indices]), strict=True))
    return [labels[index] for index in range(len(pairs))]


class _Loaded:
    """Tokenizer and model of a guard, checked to be complete."""

    def __init__(self, order: GuardOrder, model_class: str) -> None:
        import torch
        import transformers

        settings = order.settings
        self.settings = settings
        wanted = {"revision": settings.revision, "trust_remote_code": False}
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(order.place, **wanted)
            self.model, loading = getattr(transformers, model_class).from_pretrained(
                order.place, dtype=getattr(torch, settings.dtype), output_loading_info=True, **wanted
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise NotAvailable(f"{order.place}: cannot be loaded as a {settings.kind}: {error}") from error
        if missing := sorted(loading["missing_keys"]):
            raise NotAvailable(
                f"{order.place}: the checkpoint lacks {missing[0]}; its labels would come from random weights.",
                hint=f"Is it a {settings.kind}? The suite's `kind` says so.",
            )
        cuda = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
        self.device = torch.device("cuda" if cuda else "cpu")
        self.model.eval().to(self.device)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        positions = getattr(self.model.config, "max_position_embeddings", None) or settings.max_seq_length
        self.limit = min(settings.max_seq_length, self.tokenizer.model_max_length, positions)


def _likeliest(names: Mapping[int, str] | Sequence[str], shares: torch.Tensor) -> tuple[str, float]:
    """Return the label with the largest share and that share; no label at all where the model computed no numbers."""
    best = int(shares.argmax())
    share = float(shares[best])
    return ("no number" if math.isnan(share) else names[best], share)


class _SequenceClassifier(_Loaded):
    """Takes the label with the highest logit."""

    def __init__(self, order: GuardOrder) -> None:
        super().__init__(order, "AutoModelForSequenceClassification")
        self.names: dict[int, str] = self.model.config.id2label
        if len(self.names) < 2:
            raise NotAvailable(f"{order.place}: a classifier with a single label cannot tell answers apart.")
        for label in self.settings.labels:
            if label not in self.names.values():
                near = difflib.get_close_matches(label, self.names.values(), n=1, cutoff=0)
                known = ", ".join(self.names.values())
                raise NotAvailable(
                    f"{order.place}: the model has no label '{label}' (it has: {known}).",
                    hint=f"Did you mean '{near[0]}'?",
                )

    def label(self, pairs: Sequence[Pair]) -> Iterator[Label]:
        import torch

        texts = [
            (prompt, answer) if self.settings.reads == "prompt_and_answer" else (answer,) for prompt, answer in pairs
        ]
        columns = [list(column) for column in zip(*texts, strict=True)]
        whole = [len(ids) for ids in self.tokenizer(*columns)["input_ids"]]
        batch = self.tokenizer(*columns, padding=True, truncation=True, max_length=self.limit, return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(**batch.to(self.device)).logits.float().cpu()
        shares = torch.softmax(logits, dim=-1)
        for row, tokens in zip(shares, whole, strict=True):
            yield Label(*_likeliest(self.names, row), tokens, min(tokens, self.limit))


class _CausalGuard(_Loaded):
    """Takes the label whose tokens the model finds most likely right after the text."""

    def __init__(self, order: GuardOrder) -> None:
        super().__init__(order, "AutoModelForCausalLM")
        self.names = list(self.settings.labels)
        if self.settings.template is None and self.tokenizer.chat_template is None:
            raise NotAvailable(
                f"{order.place}: the model has no chat template.",
                hint="Give the guard a `template` with $prompt and $answer.",
            )

    def label(self, pairs: Sequence[Pair]) -> Iterator[Label]:
        import torch

        for prompt, answer in pairs:
            context, tokens, read = self._context(prompt, answer)
            shares = torch.softmax(self._log_likelihoods(context), dim=0)
            yield Label(*_likeliest(self.names, shares), tokens, read)

    def _context(self, prompt: str, answer: str) -> tuple[str, int, int]:
        """Render the text before the label, with the answer's end cut off where it would be too long."""
        context = self._render(prompt, answer)
        tokens = len(self._ids(context))
        room = self.limit - max(len(self._ids(context + name)) - tokens for name in self.names)
        read = tokens
        kept = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        while read > room and kept:
            kept = kept[: max(0, len(kept) - (read - room))]
            context = self._render(prompt, self.tokenizer.decode(kept))
            read = len(self._ids(context))
        return context, tokens, read

    def _render(self, prompt: str, answer: str) -> str:
        if self.settings.template is not None:
            return Template(self.settings.template).substitute(prompt=prompt, answer=answer)
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _ids(self, text: str) -> list[int]:
        # A chat template writes its own special tokens; a plain template leaves them to the tokenizer.
        ids: list[int] = self.tokenizer(text, add_special_tokens=self.settings.template is not None)["input_ids"]
        return ids

    def _log_likelihoods(self, context: str) -> torch.Tensor:
        """Return log p(label | context) for every label, shape (labels,).

        Context and label are tokenized together, as the model would have read them. The labels form one batch, padded
        on the right, where a causal model cannot see the padding.
        """
        import torch

        before = len(self._ids(context))
        whole = [self._ids(context + name) for name in self.names]
        longest = max(map(len, whole))
        padded = [ids + [self.tokenizer.pad_token_id] * (longest - len(ids)) for ids in whole]
        batch = torch.tensor(padded, device=self.device)
        first = min(before, *(len(ids) - 1 for ids in whole))  # a label may melt into the context's last token
        with torch.inference_mode():
            logits = self.model(input_ids=batch, logits_to_keep=longest - first + 1).logits[:, :-1].float()
        steps = torch.log_softmax(logits, dim=-1).gather(2, batch[:, first:, None])[..., 0]
        real = torch.tensor([[position < len(ids) for position in range(first, longest)] for ids in whole])
        return (steps.cpu() * real).sum(dim=1)
