"""Generation speed of what is not written here: vLLM through the harness and by itself, transformers' own batching."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from harness.engine import Engine, Request
from harness.orders import Message, Records, WorkOrder
from harness.store import JobFile
from harness.workloads.generate_at_once import answer_all
from tests.gpu.engine_work import NEW_TOKENS, Limit, Report, make_order, mixed_prompts, time_fixed_lengths

ROUNDS = 2


def measure_vllm(folder: Path, adapter: Path, report: Report, limit: Limit, count: int) -> None:
    """Measure the harness from prompts to answers on disk beside vLLM's own `LLM.generate` on the same requests."""
    from transformers import AutoTokenizer
    from vllm import SamplingParams

    from harness.engine.vllm import load

    prompts = mixed_prompts(AutoTokenizer.from_pretrained(folder), count)
    order = make_order(folder, adapter, prompts, "vllm")
    engine = load(order)
    report.add("vllm started", seconds=engine.warmup_seconds())
    records = engine.describe()
    report.add("vllm loaded", records=[record.model_dump(mode="json") for record in records])
    requests = [Request(prompt, variant) for prompt in prompts.values() for variant in (0, 1)]
    tokens_of = engine.texts.token_ids([request.prompt for request in requests])
    ids = [{"prompt_token_ids": tokens} for tokens in tokens_of]
    loras = [engine._lora(request.variant) for request in requests]
    params = SamplingParams(temperature=0, max_tokens=NEW_TOKENS)
    engine.llm.generate(ids[:128], params, lora_request=loras[:128], use_tqdm=False)
    for _ in range(ROUNDS):
        for name in ("harness", "LLM.generate"):
            engine.llm.reset_prefix_cache()
            started = time.perf_counter()
            if name == "harness":
                tokens = _harness_to_disk(engine, order)
            else:
                outputs = engine.llm.generate(ids, params, lora_request=loras, use_tqdm=False)
                tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
            seconds = time.perf_counter() - started
            report.add(
                f"vllm, 1 of 2 with LoRA: {name}", seconds=seconds, tokens_per_second=tokens / seconds, tokens=tokens
            )
    time_fixed_lengths(engine, report, limit, [1, 64, 256])


def _harness_to_disk(engine: Engine, order: WorkOrder) -> int:
    """Answer the order's prompts through the workload, records written as a run writes them; return new tokens."""
    tokens = 0
    with tempfile.TemporaryDirectory() as folder, JobFile(Path(folder) / "records.jsonl") as file:

        def send(message: Message) -> None:
            nonlocal tokens
            if isinstance(message, Records):
                file.append(message.records)
                tokens += sum(getattr(record, "new_tokens", 0) for record in message.records)

        answer_all(engine, order, send)
    return tokens


def measure_generate_batch(folder: Path, report: Report, limit: Limit, count: int) -> None:
    """Measure transformers' continuous batching with paged SDPA attention; its own warm-up is reported apart."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [tokenizer(text)["input_ids"] for text in mixed_prompts(tokenizer, count).values()]
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, device_map="cuda", attn_implementation="paged|sdpa"
    )
    settings = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=tokenizer.pad_token_id
    )
    for part in ("generate_batch, first", "generate_batch"):
        started = time.perf_counter()
        outputs = model.generate_batch(inputs=prompts, generation_config=settings)
        seconds = time.perf_counter() - started
        tokens = sum(len(output.generated_tokens) for output in outputs.values())
        report.add(part, requests=count, seconds=seconds, tokens=tokens, tokens_per_second=tokens / seconds)
