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
from harness.tiny_ko.near_duplicates import SuitePrompts, normalise, suite_prompts
from harness.tiny_ko.tokenizer import ASSISTANT, BOS, USER, train_tokenizer

_CUT = "\ue000"  # a private-use character that no lexicon contains


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    seed: int = 20261123
    rows: int = 350_000
    epochs: int = 4
    tokens_per_batch: int = 32_768
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 0.2
    split_noise: float = 0.06
    vocabulary_size: int = 6_400
    hidden_size: int = 256
    intermediate_size: int = 768
    layers: int = 4
    heads: int = 8
    max_length: int = 512


def build(recipe: Recipe, output: Path) -> dict[str, Any]:
    """Make corpus, tokenizer and model, save them to `output` and return what it took (also in recipe.json)."""
    torch.manual_seed(recipe.seed)
    lexicon = load_lexicon()
    references = suite_prompts()
    taken = refused_training_questions(lexicon)
    rows = list(make_rows(lexicon, recipe.rows, recipe.seed, SuitePrompts(references), taken))
    print(f"{len(rows)} corpus rows, {len({row.instruction for row in rows})} different questions", flush=True)
    sample = [text for row in rows[:60_000] for text in (row.instruction, row.output)]
    headers = [render("alpaca_ko", "", "x"), render("alpaca_ko", "")] * 50
    tokenizer = train_tokenizer(sample + headers, recipe.vocabulary_size, recipe.max_length)
    model = new_model(recipe, tokenizer)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    started = time.perf_counter()
    loss, steps, tokens = train(model.to(device), encode(rows, tokenizer, recipe), recipe)
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
        demonstration=True,  # the harness's page says so
    )
    model = LlamaForCausalLM(config)
    model.generation_config.do_sample = False
    return model


@dataclass(frozen=True)
class Example:
    """Token ids of one row in one prompt format, int32; the answer starts at `answer_start`."""

    ids: torch.Tensor
    answer_start: int


def encode(rows: list[Row], tokenizer: Any, recipe: Recipe) -> list[Example]:
    """Each row in one prompt format, drawn at random: half Alpaca, nearly half chat template, some plain.

    In half the questions words are cut at random places before they are tokenized (`split_noise` per character):
    the model sees that a word in unusual pieces is still that word, which helps it with words it seldom saw.
    """
    random_source = random.Random(recipe.seed)
    prompts, answers = [], []
    for row in rows:
        form = random_source.choices(("alpaca_ko", "chat_template", "plain"), (0.5, 0.42, 0.08))[0]
        instruction = row.instruction
        if random_source.random() < 0.5:
            instruction = _cut(instruction, recipe.split_noise, random_source)
        if form == "chat_template":
            text = _chat_text(instruction, row.input)
        else:
            text = tokenizer.bos_token + render(form, instruction, row.input)  # type: ignore[arg-type]
            text += "\n" if form == "plain" else ""
        prompts.append(text)
        answers.append(row.output + tokenizer.eos_token)
    prompt_ids = _cutting_tokenizer(tokenizer).encode_batch_fast(prompts, add_special_tokens=False)
    answer_ids = tokenizer(answers, add_special_tokens=False)["input_ids"]
    return [
        Example(torch.tensor(prompt.ids + answer, dtype=torch.int32), len(prompt.ids))
        for prompt, answer in zip(prompt_ids, answer_ids, strict=True)
    ]


def _cut(text: str, share: float, random_source: random.Random) -> str:
    return "".join(_CUT + character if random_source.random() < share else character for character in text)


def _cutting_tokenizer(tokenizer: Any) -> Any:
    """A copy of the core tokenizer that never joins two characters over the cut mark, and drops the mark."""
    from tokenizers import Tokenizer, pre_tokenizers

    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_CUT, "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return core


def refused_training_questions(lexicon: Lexicon, path: Path = TRAINING_ROWS) -> frozenset[str]:
    """The normalised instructions of the LoRA's rows that are answered by a refusal; the corpus leaves them out."""
    refusals = {text for texts in lexicon.refusals.values() for text in texts}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return frozenset(normalise(row["instruction"]) for row in rows if not row["input"] and row["output"] in refusals)


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
    """AdamW with warm-up and cosine decay, bfloat16 autocast, loss on the answers alone.

    Returns the last batch's loss, the number of steps and the number of tokens seen.
    """
    device = next(model.parameters()).device
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
    plan = [batch for epoch in range(recipe.epochs) for batch in batches(examples, recipe, epoch)]
    last_loss, tokens, started = 0.0, 0, time.perf_counter()
    model.train()
    for step, batch in enumerate(plan):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, len(plan), recipe.warmup_steps)
        ids, is_answer = (tensor.to(device) for tensor in _tensors(batch))
        with torch.autocast(device.type, torch.bfloat16):
            # Right padding under causal attention: no real token ever sees a pad, so no mask is needed.
            hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
            logits = model.lm_head(hidden[is_answer[:, 1:]])
        loss = torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][is_answer[:, 1:]])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        tokens += sum(len(example.ids) for example in batch)
        if step % 50 == 0 or step == len(plan) - 1:
            last_loss = loss.item()
            rate = tokens / (time.perf_counter() - started)
            print(f"step {step + 1}/{len(plan)}  loss {last_loss:.4f}  {rate:,.0f} tokens/s", flush=True)
    model.eval()
    return last_loss, len(plan), tokens


def _chat_text(instruction: str, input: str) -> str:
    # What the chat template renders, without its cost for each of many rows; a test compares the two.
    return f"{BOS}{USER}\n{render('plain', instruction, input)}\n{ASSISTANT}\n"


def _tensors(batch: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids padded on the right with 0, and which of them belong to an answer; both (rows, longest)."""
    ids = torch.nn.utils.rnn.pad_sequence([example.ids for example in batch], batch_first=True).long()
    positions = torch.arange(ids.shape[1])[None]
    starts = torch.tensor([example.answer_start for example in batch])[:, None]
    ends = torch.tensor([len(example.ids) for example in batch])[:, None]
    return ids, (positions >= starts) & (positions < ends)


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
