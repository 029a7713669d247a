"""How an instruction is put before a model: the one place that holds the texts of the prompt formats.

Training, generation and the recipe of tiny-ko all call `render`, so a model always sees at run time the form it
was trained with. No torch here; a tokenizer is needed for `chat_template` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.suite import PromptFormat

_ALPACA_HEADER = "다음은 할 일을 적은 명령어입니다. 요청에 알맞은 응답을 쓰세요."
_ALPACA_HEADER_WITH_INPUT = "다음은 할 일을 적은 명령어와 참고할 입력입니다. 요청에 알맞은 응답을 쓰세요."


def render(format: PromptFormat, instruction: str, input: str = "", tokenizer: Any = None) -> str:
    """The text that goes before the answer; the answer and the EOS token follow it directly.

    `alpaca_ko` is the Alpaca structure with Korean headings, `chat_template` is what the tokenizer's own template
    makes of one user message (an input follows the instruction after an empty line), `plain` is the bare text.
    Only a chat template may put a BOS token into the text: ask `adds_special_tokens` before tokenizing.

    Raises `HarnessError` where `chat_template` is asked of a tokenizer without one.
    """
    if format == "alpaca_ko":
        return _alpaca_ko(instruction, input)
    message = f"{instruction}\n\n{input}" if input else instruction
    if format == "plain":
        return message
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        name = getattr(tokenizer, "name_or_path", "") or "given"
        raise HarnessError(
            f"prompt format chat_template: the tokenizer {name!r} has no chat template",
            hint="use prompt_format: alpaca_ko or plain",
        )
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
    )
    return str(text)


def adds_special_tokens(text: str, tokenizer: Any) -> bool:
    """The value of `add_special_tokens` that gives `text` exactly one BOS token.

    False where a chat template has already written the BOS token into the text, True elsewhere.
    """
    bos = getattr(tokenizer, "bos_token", None)
    return not (bos and text.startswith(bos))


def _alpaca_ko(instruction: str, input: str) -> str:
    if input:
        return f"{_ALPACA_HEADER_WITH_INPUT}\n\n### 명령어:\n{instruction}\n\n### 입력:\n{input}\n\n### 응답:\n"
    return f"{_ALPACA_HEADER}\n\n### 명령어:\n{instruction}\n\n### 응답:\n"
