"""Events on the page: as they were recorded in English, and in Korean sentences made from their data."""

from __future__ import annotations

from markupsafe import Markup, escape

from harness.records import Event, Scalar
from harness.report.wording import both, duration, number, size

KOREAN: dict[str, tuple[str, str]] = {
    "adapter_damaged": ("저장된 어댑터가 손상됨", "저장된 어댑터가 손상되어 다시 학습했습니다."),
    "adapter_from_cache": ("저장된 어댑터를 씀", "새로 학습하지 않고 저장된 어댑터를 썼습니다: {folder}"),
    "batch_halved": (
        "배치를 절반으로 줄임",
        "{from}개짜리 배치가 메모리에 들어가지 않아 {to}개씩 나누어 계속했습니다.",
    ),
    "ceiling_left_out": (
        "한계 측정을 건너뜀",
        "CPU는 float16 연산을 흉내만 내므로 그 한계는 재지 않았습니다.",
    ),
    "energy_not_measured": ("에너지를 재지 못함", "이 컴퓨터에서는 에너지를 읽을 수 없어 표시하지 않습니다."),
    "engine_unsuited": ("엔진을 쓸 수 없는 모델", "모델 {model}: {engine} 엔진을 쓸 수 없었습니다. 이유: {reason}"),
    "engine_warmup": (
        "엔진 준비 시간",
        "엔진을 준비하는 데(컴파일, 기록, 시작) {seconds} 걸렸습니다. 답하는 시간에는 들어가지 않습니다.",
    ),
    "flips_left_out": (
        "정밀도별 답변 비교를 건너뜀",
        "가중치가 무작위라 답변에 뜻이 없으므로 정밀도별 답변 비교를 건너뛰었습니다.",
    ),
    "foreign_gpu_processes": (
        "다른 프로세스가 GPU를 씀",
        "GPU를 쓴 다른 프로세스: 측정 전 {before}개, 측정 중 {during}개, 메모리 {memory_bytes}. "
        "그 밖에 누가 쓰는지 알 수 없는 메모리: {unexplained_bytes}.",
    ),
    "memory_not_measured": (
        "메모리를 재지 못함",
        "모델 {model}: 가중치가 서버 {server}의 프로세스에 있어 메모리를 재지 못했습니다.",
    ),
    "memory_reserved": (
        "메모리는 예약한 양",
        "모델 {model}: vLLM은 필요한 양과 관계없이 시작할 때 메모리의 {share}를 예약합니다. "
        "그래서 모델에 필요한 양은 표시하지 않습니다.",
    ),
    "node_lost": (
        "노드가 끊김",
        "작업을 하던 노드가 {losses}번 끊겼습니다. 끝낸 배치가 있으면 그다음부터 계속했습니다.",
    ),
    "numeric_trouble": (
        "수치 문제",
        "{dtype}: 유한하지 않은 손실 {non_finite_losses}개, 손실 스케일러가 건너뛴 스텝 {skipped_scaler_steps}개.",
    ),
    "point_left_out": (
        "측정 조건 하나를 건너뜀",
        "배치 {batch_size}개, 입력 {prompt_tokens}토큰, 출력 {new_tokens}토큰은 메모리에 들어가지 않아 건너뛰었습니다.",
    ),
    "precision_left_out": (
        "정밀도 하나를 건너뜀",
        "{dtype}, 양자화 {quantization}: 정밀도 비교에서 뺐습니다. 이유: {reason}",
    ),
    "random_weights": (
        "무작위 가중치",
        "모델 {model}: 설정 파일로 만든 무작위 가중치입니다(매개변수 {parameters}개, {bytes}).",
    ),
    "requests_failed": (
        "요청 실패",
        "모델 {model}: 요청 {failed}개가 여러 번 시도해도 실패했습니다. "
        "같은 명령을 다시 실행하면 그 요청만 다시 보냅니다.",
    ),
    "roofline_left_out": (
        "루프라인을 건너뜀",
        "모델 {model}: 연산량을 모두 셀 수는 없어 루프라인에서 뺐습니다.",
    ),
    "rope_scaled": (
        "RoPE 확장",
        "{tokens}토큰까지 다루려고 RoPE를 {factor}배로 늘렸습니다. 이 어댑터는 같은 확장과 함께 써야 합니다.",
    ),
    "rows_left_out": ("제외한 학습 행", "지시문이나 출력이 없는 학습 행 {rows}개를 뺐습니다."),
    "rows_truncated": (
        "잘린 학습 행",
        "{tokens}토큰보다 긴 학습 행 {rows}개를 잘랐습니다. 그중 답이 남지 않아 뺀 행: {dropped}개.",
    ),
    "setting_substituted": (
        "바꾸어 쓴 설정",
        "설정 {key}: {asked} → {used} (앞의 값은 이 컴퓨터에서 쓸 수 없습니다).",
    ),
    "stand_in_tokenizer": (
        "대신 쓴 토크나이저",
        "모델 {model}: 토크나이저가 없어 tiny-ko의 것을 대신 썼으므로, 글의 토큰 수는 tiny-ko 기준입니다.",
    ),
}
"""Code -> its Korean name, and a sentence whose fields are names in the event's `data`. What is inserted may end in any
sound, so no particle that depends on it follows."""


def event_text(event: Event) -> Markup:
    """The message as recorded; on the Korean page a sentence, with the message as its tooltip.

    Where the code is not known, or an earlier version of the harness kept less data, the message stands there too.
    """
    if event.code not in KOREAN:
        return escape(event.message)
    name, sentence = KOREAN[event.code]
    try:
        korean = escape(sentence).format(**{key: _shown(key, value) for key, value in event.data.items()})
    except KeyError:
        return both("{name}: ", "", name=name) + event.message
    return Markup(
        '<span class="ko" lang="ko" title="{message}">{korean}</span><span class="en" lang="en">{message}</span>'
    ).format(korean=korean, message=event.message)


def _shown(key: str, value: Scalar) -> str:
    if isinstance(value, str | bool) or value is None:
        return str(value)
    if key.endswith("bytes"):
        return size(value)
    return duration(value) if key.endswith("seconds") else number(value)
