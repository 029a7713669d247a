"""What is known about measurements by their names: titles, units of comparison, which direction is better."""

from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ("float32", "bfloat16", "float16")
ENGINES = ("plain", "fast", "vllm")
"""In the page's order. Where a model was measured by several, the others are held against the first that is there."""
OF_THE_LOAD = ("dtype", "quantization", "engine")
"""Conditions that decide how a model is loaded."""

LABELS: dict[str, tuple[str, str]] = {
    "batch_size": ("배치", "batch"),
    "prompt_tokens": ("입력 토큰", "tokens in"),
    "new_tokens": ("출력 토큰", "tokens out"),
    "dtype": ("정밀도", "precision"),
    "quantization": ("양자화", "quantization"),
    "engine": ("엔진", "engine"),
    "sequence_tokens": ("한 행의 토큰", "tokens a row"),
}

SILENT = frozenset({"study", "warmup", "repeats", "training_steps"})
"""Conditions that say how a job was run and not what a figure means; they stand beside the raw values."""
LENGTHS = ("prompt_tokens", "new_tokens")
PLOTTED = ("speed", "energy")
"""Families of measurements that have a plot over batch sizes."""


@dataclass(frozen=True)
class Kind:
    """What is known about a measurement's name: its title, its family and which direction is better."""

    ko: str
    en: str
    family: str
    higher_is_better: bool | None = None
    percentiles: bool = False
    pooled: bool = False
    """Whether batch and lengths have no part in it, so that the values of several jobs are one series."""


KINDS: dict[str, Kind] = {
    "prefill_tokens_per_second": Kind("입력 처리 속도 (prefill)", "Prefill speed", "speed", True),
    "decode_tokens_per_second": Kind("생성 속도 (decode)", "Decode speed", "speed", True),
    "decode_tokens_per_second_per_gib": Kind(
        "메모리 1 GiB당 생성 속도", "Decode speed per GiB of memory", "speed", True
    ),
    "time_to_first_token_seconds": Kind("첫 토큰까지의 시간", "Time to first token", "speed", False, True),
    "inter_token_latency_seconds": Kind("토큰 사이 지연", "Inter-token latency", "speed", False, True),
    "generate_seconds": Kind("생성 한 번의 시간", "Time of one generation pass", "speed", False),
    "energy_joules_per_1000_tokens": Kind("토큰 1,000개당 에너지", "Energy for 1,000 new tokens", "energy", False),
    "mean_power_watts": Kind("생성하는 동안의 평균 전력", "Mean power while generating", "energy"),
    "idle_power_watts": Kind("유휴 GPU의 전력", "Power of the idle GPU", "energy"),
    "warmup_seconds": Kind("준비 실행의 시간 (세지 않음)", "Warm-up time (not counted)", "speed", False),
    "training_step_seconds": Kind("학습 단계 시간", "Training step time", "speed", False),
    "training_tokens_per_second": Kind("학습 속도", "Training speed", "speed", True),
    "training_loss": Kind("학습 단계의 손실", "Loss of the training steps", "loss"),
    "adapter_training_step_seconds": Kind(
        "어댑터 학습의 단계 시간", "Step time of the adapter training", "speed", False
    ),
    "adapter_training_step_tokens": Kind(
        "어댑터 학습 한 단계의 토큰 수", "Tokens of an adapter training step", "speed"
    ),
    "stream_gap_seconds": Kind("스트림 조각 사이 간격", "Gap between pieces of a stream", "speed", False, True),
    "served_tokens_per_second": Kind("서버의 출력 속도", "Output speed of the server", "speed", True),
    "first_answer_seconds": Kind("서버의 첫 답까지의 시간", "Time to the server's first answer", "speed", False),
    "load_seconds": Kind("모델 적재 시간", "Model load time", "speed", False, pooled=True),
    "peak_process_rss_bytes": Kind("프로세스 최대 상주 메모리 (RSS)", "Peak process memory (RSS)", "memory", False),
    "peak_torch_allocated_bytes": Kind(
        "torch가 할당한 최대 GPU 메모리", "Peak GPU memory allocated by torch", "memory", False
    ),
    "peak_torch_reserved_bytes": Kind(
        "torch가 예약한 최대 GPU 메모리", "Peak GPU memory reserved by torch", "memory", False
    ),
    "peak_nvml_process_bytes": Kind(
        "NVML: 이 프로세스의 최대 GPU 메모리", "NVML: this process's peak GPU memory", "memory", False
    ),
    "peak_nvml_device_bytes": Kind("NVML: GPU 전체의 최대 사용량", "NVML: the whole GPU's peak use", "memory", False),
}

KINDS |= {
    f"{prefix}{name}": Kind(f"{ko}: {kind.ko}", f"{en}: {kind.en}", "memory", False, pooled=pooled)
    for prefix, ko, en, pooled in (
        ("loading_", "적재", "Loading", True),
        ("adapter_training_", "어댑터 학습", "Adapter training", False),
    )
    for name, kind in list(KINDS.items())
    if kind.family == "memory"
}

ELSEWHERE = tuple(f"_{unit}" for unit in ("flop_per_second", "bytes_per_second", "flop_per_byte"))
"""Ends of the names that the roofline shows."""
