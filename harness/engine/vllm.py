"""The vLLM engine: base and adapters in one `LLM`, adapters as LoRA requests.

vLLM takes a fixed share of the memory at its start, whatever it needs: its memory is a reservation and says nothing
about the model. It runs on what it was built for, a CUDA GPU or a CPU.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from harness.backends import Answer, PassTimes
from harness.backends.hf import choose_device, load_tokenizer
from harness.backends.texts import Texts
from harness.engine import EngineUnsuited, Request
from harness.errors import HarnessError, NotAvailable, reason_of
from harness.orders import Partner, WorkOrder
from harness.random_weights import weights_of
from harness.records import LoadedModel
from harness.suite import Sampling
from harness.vllm_adapters import not_taken, rank_that_holds

PROBE = "안녕하세요?"
PROBE_LOGPROBS = 20
LOGPROB_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 5e-2}
"""What rounding may change in a log-probability when rows share a batch."""
ROWS_OF_EACH = 16
"""Rows of every model in the proof that rows do not mix. vLLM begins with the first request before it has the others,
so one row of each could be computed apart and prove nothing; of so many in turn, some share a batch."""
TIMES_NEARER = 3
"""A row with another's adapter is that other's but for rounding; one that rounding alone has moved is nearer to itself,
or, where an adapter changes hardly more than rounding, about as near to both."""
LOGGED_ERROR = re.compile(r"\bERROR\b.*\] \w+(?:Error|Exception): (.+)")


def load(order: WorkOrder) -> VllmEngine:
    """Start vLLM with the order's models. NotAvailable if it is not installed or does not start."""
    own = Partner(
        name=order.job.model, model=order.model, adapter_place=order.adapter_place, adapter_hash=order.adapter_hash
    )
    variants = (own, *order.partners)
    if order.model.quantization != "none":
        raise EngineUnsuited(f"its weights are quantized ({order.model.quantization})")
    if any(one.model.adapter and one.model.adapter.mode == "merged" for one in variants):
        raise EngineUnsuited("an adapter is to be merged")
    adapters = [one.adapter_place for one in variants if one.adapter_place]
    if what := next(filter(None, map(not_taken, adapters)), None):
        raise EngineUnsuited(f"vLLM takes no adapter with {what}")
    device = choose_device(order.model)
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        from vllm import LLM
    except ImportError as error:
        raise NotAvailable(
            f"engine: vllm could not be imported ({error}).", "pip install 'korean-lora-harness[vllm]'"
        ) from error
    log = Path(order.log_file)
    logged_before = log.stat().st_size if log.is_file() else 0
    started = time.perf_counter()
    lora = (
        {"enable_lora": True, "max_loras": len(adapters), "max_lora_rank": rank_that_holds(adapters)}
        if adapters
        else {}
    )
    try:
        llm = LLM(
            model=order.model_place,
            revision=order.model.revision,
            dtype=order.model.dtype,
            max_model_len=order.model.max_seq_length,
            seed=order.sampling.seed,
            tensor_parallel_size=order.sampling.vllm.tensor_parallel_size,
            gpu_memory_utilization=order.sampling.vllm.share_of(device),
            trust_remote_code=order.model.trust_remote_code,
            **lora,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = _logged_error(log, logged_before) or reason_of(error)
        hint = f"If memory is short, lower sampling.vllm.gpu_memory_share. vLLM's output is in {log}."
        raise NotAvailable(f"engine: vllm did not start: {reason}", hint) from error
    engine = VllmEngine(order, variants, llm, time.perf_counter() - started)
    if mixed := engine.rows_that_mix():
        engine.close()  # whoever answers instead needs the memory
        raise EngineUnsuited(f"in this vLLM a row of {mixed} is changed by an adapter of the row beside it")
    return engine


class VllmEngine:
    """See `harness.engine.Engine`."""

    def __init__(self, order: WorkOrder, variants: Sequence[Partner], llm: Any, start_seconds: float) -> None:
        self.order, self.variants, self.llm, self.start_seconds = order, variants, llm, start_seconds
        # A process waits for its children at its end, and vLLM's wait for orders; finalizers come before that.
        self.close = Finalize(self, llm.llm_engine.engine_core.shutdown, exitpriority=1)
        tokenizer = load_tokenizer(order.model, order.model_place)
        self.config = llm.llm_engine.model_config.hf_config
        named = [self.config.eos_token_id, tokenizer.eos_token_id]
        ends = {token for one in named if one is not None for token in (one if isinstance(one, list) else [one])}
        self.texts = Texts(order.model, tokenizer, sorted(ends))
        self.alone = [self._probe(self._lora(number))[0] for number in range(len(variants))]
        """Log-probabilities of the likeliest first tokens by each of the order's models."""

    def warmup_seconds(self) -> float:
        """Return the seconds from the start of vLLM until it took requests."""
        return self.start_seconds

    def describe(self) -> tuple[LoadedModel, ...]:
        """Say what vLLM loaded. HarnessError for an adapter that changes nothing."""
        import torch

        device = self.llm.llm_engine.vllm_config.device_config.device_type
        base = self._probe(None)[0]
        described = []
        for number, variant in enumerate(self.variants):
            change = self._change(number, base) if variant.adapter_place else None
            described.append(
                LoadedModel(
                    job_id=self.order.job.id,
                    model=variant.name,
                    backend=self.order.model.backend,
                    path=self.order.model.path,
                    content_hash=self.order.model_hash,
                    architecture=(self.config.architectures or ["unknown"])[0],
                    parameter_count=_parameter_count(Path(self.order.model_place)),
                    parameter_dtypes={},
                    requested_dtype=self.order.model.dtype,
                    compute_dtype=str(self.llm.llm_engine.model_config.dtype).removeprefix("torch."),
                    quantization=self.order.model.quantization,
                    attention="vllm",
                    engine="vllm",
                    weights=weights_of(self.config),
                    device=torch.cuda.get_device_name() if device == "cuda" else device,
                    demonstration=bool(getattr(self.config, "demonstration", False)),
                    adapter_hash=variant.adapter_hash,
                    adapter_mode="attached" if variant.adapter_place else None,
                    adapter_max_logit_change=change,
                    bos_count=self._bos_count(),
                )
            )
        return tuple(described)

    def _bos_count(self) -> int:
        bos, ids = self.texts.tokenizer.bos_token_id, self.texts.token_ids([PROBE])[0]
        count = next((index for index, token in enumerate(ids) if token != bos), len(ids)) if bos is not None else 0
        if count > 1:
            raise HarnessError(f"The prompt begins with {count} BOS tokens; the prompt format already writes one.")
        return count

    def rows_that_mix(self) -> str | None:
        """Name a model whose row comes out as another's where all models share a batch.

        vLLM for CPUs gives a row without an adapter the last adapter of its batch (0.24 to 0.32).
        """
        self.llm.reset_prefix_cache()
        tolerance = LOGPROB_TOLERANCE[self.order.model.dtype]
        numbers = list(range(len(self.variants))) * ROWS_OF_EACH
        for number, row in zip(numbers, self._probe(*map(self._lora, numbers)), strict=True):
            distances = [_distance(row, alone) for alone in self.alone]
            if distances[number] > max(tolerance, TIMES_NEARER * min(distances)):
                return self.variants[number].name
        return None

    def _change(self, number: int, base: dict[int, float]) -> float:
        """Return the largest change of a likely token's log-probability that the adapter makes."""
        change = _distance(self.alone[number], base)
        if change == 0:
            place = self.variants[number].adapter_place
            raise HarnessError(f"{place}: the adapter changes nothing.", "Was it trained, and for this base model?")
        return change

    def _probe(self, *loras: Any) -> list[dict[int, float]]:
        """Return the log-probabilities of the likeliest first tokens of an answer, for each LoRA request in a batch."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=1, logprobs=PROBE_LOGPROBS)
        prompts = [{"prompt_token_ids": self.texts.token_ids([PROBE])[0]}] * len(loras)
        outputs = self.llm.generate(prompts, params, lora_request=list(loras), use_tqdm=False)
        return [{token: entry.logprob for token, entry in output.outputs[0].logprobs[0].items()} for output in outputs]

    def _lora(self, number: int) -> Any:
        from vllm.lora.request import LoRARequest

        variant = self.variants[number]
        return LoRARequest(variant.name, number + 1, variant.adapter_place) if variant.adapter_place else None

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer]]:
        """Hand all requests to vLLM and yield answers as they end; see `harness.engine.Engine`."""
        from vllm import SamplingParams

        room = self.order.model.max_seq_length - sampling.max_new_tokens
        loras = [self._lora(number) for number in range(len(self.variants))]
        ids = self.texts.token_ids([request.prompt for request in requests])
        fitting = [index for index, tokens in enumerate(ids) if len(tokens) <= room]
        for index in sorted(set(range(len(requests))) - set(fitting)):
            yield index, self.texts.too_long(requests[index].prompt, len(ids[index]), room)
        drawn = {} if sampling.temperature == 0 else {"top_p": sampling.top_p}
        params = [
            SamplingParams(
                temperature=sampling.temperature,
                max_tokens=sampling.max_new_tokens,
                stop_token_ids=self.texts.end_tokens,
                seed=None if sampling.temperature == 0 else requests[index].draw,
                detokenize=False,
                **drawn,
            )
            for index in fitting
        ]
        prompts = [{"prompt_token_ids": ids[index]} for index in fitting]
        chosen = [loras[requests[index].variant] for index in fitting]
        names = self.llm.enqueue(prompts, params, lora_request=chosen, use_tqdm=False)
        index_of = dict(zip((str(name).split("-")[0] for name in names), fitting, strict=True))
        engine = self.llm.llm_engine
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    index = index_of[str(output.request_id).split("-")[0]]
                    tokens = list(output.outputs[0].token_ids)
                    yield index, self.texts.as_answer(requests[index].prompt, tokens, len(ids[index]))

    def time_pass(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> PassTimes:
        """Time a pass by when vLLM hands tokens out: a token counts when the last row has it."""
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        generator = _random_prompts(batch_size, prompt_tokens, self.config.vocab_size)
        params = SamplingParams(
            temperature=0,
            max_tokens=new_tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self.llm.reset_prefix_cache()  # every pass reads its prompts
        engine = self.llm.llm_engine
        counts = [0] * batch_size
        marks: list[float] = []
        start = time.perf_counter()
        for row, prompt in enumerate(generator):
            engine.add_request(f"pass-{start}-{row}", tokens_input(prompt), params, lora_request=self._lora(0))
        while engine.has_unfinished_requests():
            for output in engine.step():
                counts[int(str(output.request_id).split("-")[2])] += len(output.outputs[0].token_ids)
            marks += [time.perf_counter()] * (min(counts) - len(marks))
        return PassTimes(start, tuple(marks))


def _distance(first: dict[int, float], second: dict[int, float]) -> float:
    """Return the largest difference of a log-probability over the tokens that are likely in both."""
    shared = first.keys() & second.keys()
    return max((abs(first[token] - second[token]) for token in shared), default=float("inf"))


def _random_prompts(rows: int, tokens: int, vocabulary: int) -> list[list[int]]:
    import torch

    generator = torch.Generator().manual_seed(0)
    prompts: list[list[int]] = torch.randint(0, vocabulary, (rows, tokens), generator=generator).tolist()
    return prompts


def _logged_error(log: Path, start: int) -> str | None:
    """Return the first error in the job's log after byte `start`.

    What vLLM raises when one of its processes fails only points to what that process wrote there.
    """
    text = log.read_bytes()[start:].decode(errors="replace") if log.is_file() else ""
    found = LOGGED_ERROR.search(text)
    return found[1] if found else None


def _parameter_count(folder: Path) -> int:
    """Count a local folder's parameters from the headers of its files; 0 for a hub name."""
    from safetensors import safe_open

    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no dictionary)
                size = 1
                for length in tensors.get_slice(name).get_shape():
                    size *= length
                total += size
    return total
