"""The recipe of tiny-ko: corpus, tokenizer and weights in one seeded command.

    python -m harness.tiny_ko.recipe [--output FOLDER]

Runs on a CUDA GPU where there is one, else on the CPU; docs/tiny-ko.md says how long each takes. On one machine
the same seed gives the same weights on the CPU; GPU kernels differ in the last bits.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness.prompt_formats import render
from harness.tiny_ko import MODEL_FOLDER
from harness.tiny_ko.conversations import TRAINING_ROWS
from harness.tiny_ko.corpus import Lexicon, Row, load_lexicon, make_rows
from harness.tiny_ko.near_duplicates import NearDuplicates, normalise, suite_prompts
from harness.tiny_ko.tokenizer import train_tokenizer


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    seed: int = 20261123
    rows: int = 600_000
    epochs: int = 3
    tokens_per_batch: int = 32_768
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 0.05
    question_loss_weight: float = 0.2
    vocabulary_size: int = 6_400
    hidden_size: int = 256
    intermediate_size: int = 768
    layers: int = 4
    heads: int = 8
    max_length: int = 512


def build(recipe: Recipe, output: Path, lexicon: Lexicon | None = None, avoid: list[str] | None = None) -> dict[str, Any]:
    """Make corpus, tokenizer and model, save them to `output` and return what it took (also in recipe.json)."""
    torch.manual_seed(recipe.seed)
    lexicon = lexicon or load_lexicon()
    references = suite_prompts() if avoid is None else avoid
    rows = list(make_rows(lexicon, recipe.rows, recipe.seed, NearDuplicates(references)))
    print(f"{len(rows)} corpus rows, {len({row.instruction for row in rows})} different questions", flush=True)
    sample = [text for row in rows[:60_000] for text in (row.instruction, row.output)]
    headers = [render("alpaca_ko", "", "x"), render("alpaca_ko", "")] * 50
    tokenizer = train_tokenizer(sample + headers, recipe.vocabulary_size, recipe.max_length)
    model = new_model(recipe, tokenizer)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    started = time.perf_counter()
    loss, steps, tokens = train(model.to(device), encode(rows, tokenizer, recipe.seed), recipe)
    facts = {
        "recipe": asdict(recipe),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": steps,
        "tokens": tokens,
        "final_loss": round(loss, 4),
        "training_seconds": round(time.perf_counter() - started, 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "prompts_kept_apart": len(references),
    }
    output.mkdir(parents=True, exist_ok=True)
    model.to("cpu", torch.bfloat16).save_pretrained(output, safe_serialization=True)
    tokenizer.save_pretrained(output)
    (output / "recipe.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def new_model(recipe: Recipe, tokenizer: Any) -> Any:
    """A `LlamaForCausalLM` with random weights, tied embeddings and the recipe's sizes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.do_sample = False
    return model


@dataclass(frozen=True)
class Example:
    """Token ids of one row in one prompt format, int32; the answer starts at `answer_start`."""

    ids: torch.Tensor
    answer_start: int


def encode(rows: list[Row], tokenizer: Any, seed: int) -> list[Example]:
    """Each row in one prompt format, drawn at random: half Alpaca, nearly half chat template, some plain."""
    random_source = random.Random(seed)
    prompts, answers = [], []
    for row in rows:
        form = random_source.choices(("alpaca_ko", "chat_template", "plain"), (0.5, 0.42, 0.08))[0]
        if form == "chat_template":
            text = _chat_text(row)
        else:
            text = tokenizer.bos_token + render(form, row.instruction, row.input)  # type: ignore[arg-type]
            text += "\n" if form == "plain" else ""
        prompts.append(text)
        answers.append(row.output + tokenizer.eos_token)
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer(answers, add_special_tokens=False)["input_ids"]
    return [
        Example(torch.tensor(prompt + answer, dtype=torch.int32), len(prompt))
        for prompt, answer in zip(prompt_ids, answer_ids, strict=True)
    ]


def batches(examples: list[Example], recipe: Recipe, epoch: int) -> Iterator[list[Example]]:
    """Batches of about equal length examples, in random order, each of at most `tokens_per_batch` padded tokens."""
    random_source = random.Random(recipe.seed + epoch)
    order = sorted(examples, key=lambda example: (len(example.ids), random_source.random()))
    made: list[list[Example]] = [[]]
    for example in order:
        if made[-1] and (len(made[-1]) + 1) * len(example.ids) > recipe.tokens_per_batch:
            made.append([])
        made[-1].append(example)
    random_source.shuffle(made)
    yield from made


def train(model: Any, examples: list[Example], recipe: Recipe) -> tuple[float, int, int]:
    """AdamW with warm-up and cosine decay, bfloat16 autocast. Returns last mean loss, steps and tokens seen."""
    device = next(model.parameters()).device
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
    plan = [batch for epoch in range(recipe.epochs) for batch in batches(examples, recipe, epoch)]
    mean_loss, tokens, started = 0.0, 0, time.perf_counter()
    model.train()
    for step, batch in enumerate(plan):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, len(plan), recipe.warmup_steps)
        ids, weights = _tensors(batch, recipe.question_loss_weight)
        ids, weights = ids.to(device), weights.to(device)
        with torch.autocast(device.type, torch.bfloat16):
            # Right padding under causal attention: no real token ever sees a pad, so no mask is needed.
            logits = model(input_ids=ids).logits
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
        )
        loss = (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        tokens += sum(len(example.ids) for example in batch)
        if step % 50 == 0 or step == len(plan) - 1:
            mean_loss = loss.item()
            rate = tokens / (time.perf_counter() - started)
            print(f"step {step + 1}/{len(plan)}  loss {mean_loss:.4f}  {rate:,.0f} tokens/s", flush=True)
    model.eval()
    return mean_loss, len(plan), tokens


def _chat_text(row: Row) -> str:
    from harness.tiny_ko.tokenizer import ASSISTANT, BOS, USER

    # What the chat template renders, without its cost for each of many rows; a test compares the two.
    message = render("plain", row.instruction, row.input)
    return f"{BOS}{USER}\n{message}\n{ASSISTANT}\n"


def _tensors(batch: list[Example], question_weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and loss weights, both (rows, longest), padded on the right with 0."""
    ids = torch.nn.utils.rnn.pad_sequence([example.ids for example in batch], batch_first=True).long()
    positions = torch.arange(ids.shape[1])[None]
    starts = torch.tensor([example.answer_start for example in batch])[:, None]
    ends = torch.tensor([len(example.ids) for example in batch])[:, None]
    weights = torch.where(positions < starts, question_weight, 1.0) * (positions < ends)
    return ids, weights


def _schedule(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def main() -> None:
    """Command line: where to write, and smaller sizes for a trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=MODEL_FOLDER)
    parser.add_argument("--rows", type=int, default=Recipe.rows)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    arguments = parser.parse_args()
    recipe = replace(Recipe(), rows=arguments.rows, epochs=arguments.epochs, seed=arguments.seed)
    print(json.dumps(build(recipe, arguments.output), indent=2))


if __name__ == "__main__":
    main()
