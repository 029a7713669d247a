"""Models small enough to be made anew in a test, without a network.

`make_tiny_llama` is a Llama in every respect but size and sense: its weights are random, so its answers mean nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
KOREAN_SAMPLE = (
    "대한민국의 수도는 서울입니다.",
    "하늘은 왜 파란색인가요? 햇빛이 공기에 흩어지기 때문입니다.",
    "죄송하지만 그 부탁은 들어드릴 수 없습니다.",
    "물은 백 도에서 끓습니다. 얼음은 물에 뜹니다.",
)


def make_tiny_llama(
    folder: Path,
    seed: int = 0,
    *,
    hidden_size: int = 32,
    layers: int = 2,
    vocabulary: int = 400,
    max_position_embeddings: int = 512,
    config: dict[str, Any] | None = None,
) -> Path:
    """Save a random LlamaForCausalLM and its byte-level BPE tokenizer into `folder` and return the folder.

    The tokenizer puts one BOS in front of every text, has a PAD of its own and a chat template. `config` adds to or
    replaces keys of the model's configuration.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(vocabulary)
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "intermediate_size": hidden_size * 2,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": max_position_embeddings,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **(config or {}),
    }
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(vocabulary: int = 400) -> Any:
    """Make a byte-level BPE tokenizer that can spell any text and knows a little Korean."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(KOREAN_SAMPLE, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)
    fast.chat_template = CHAT_TEMPLATE
    return fast
