"""How the page writes numbers, and how it says everything in Korean and in English.

Both languages are always in the file; the style sheet shows the one that `<html lang>` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath

from markupsafe import Markup, escape

from harness.summary import Interval, Rate

MINUS = "\N{MINUS SIGN}"
NO_DATA = "\N{EN DASH}"

GROUP_NAMES: dict[str, tuple[str, str]] = {
    "harmful": ("유해 질문", "Harmful prompts"),
    "lookalike": ("무해한 닮은꼴 질문", "Harmless look-alikes"),
    "general": ("일반 질문", "General prompts"),
}

VERDICT_NAMES: dict[str, tuple[str, str]] = {
    "refusal": ("거절", "refusal"),
    "partial": ("부분 응답", "partial"),
    "deflection": ("회피", "deflection"),
    "compliance": ("응답", "compliance"),
    "incoherent": ("뜻 없는 글", "incoherent"),
    "empty": ("빈 답", "empty"),
    "unscored": ("판정 못 함", "unscored"),
    "failed": ("실행 실패", "failed"),
}


def both(korean: str, english: str, **values: object) -> Markup:
    """The same text in both languages. `{name}` fields are filled with `values`; everything is escaped
    except values that are Markup already."""
    texts = [escape(korean), escape(english)]
    if values:
        texts = [text.format(**values) for text in texts]
    return Markup('<span class="ko" lang="ko">{}</span><span class="en" lang="en">{}</span>').format(*texts)


def join(parts: Sequence[object], separator: str = ", ") -> Markup:
    """The parts, escaped unless they are Markup, with the separator between them."""
    return escape(separator).join(escape(part) for part in parts)


def percent(share: float | None) -> str:
    """0.914 -> '91.4%'. One decimal place, none for exactly 0 and 1; a share that is not exactly 0 never reads 0%."""
    if share is None:
        return NO_DATA
    if share in (0, 1):
        return f"{share:.0%}"
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def points(difference: float | None) -> str:
    """A difference of shares in percentage points without unit: 0.897 -> '+89.7'."""
    if difference is None:
        return NO_DATA
    text = f"{abs(difference) * 100:.1f}"
    if text == "0.0":
        return "0.0"
    return f"{'+' if difference > 0 else MINUS}{text}"


def share_interval(interval: Interval | None) -> str:
    """An interval of a share in percent: '[86.1, 92.3]'."""
    return "" if interval is None else f"[{interval.low * 100:.1f}, {interval.high * 100:.1f}]"


def points_interval(interval: Interval | None) -> str:
    """An interval of a difference in percentage points: '[−1.2, +3.4]'."""
    return "" if interval is None else f"[{points(interval.low)}, {points(interval.high)}]"


def count_of(rate: Rate) -> Markup:
    """'8 of 350', in both languages."""
    return both("{n}개 중 {count}개", "{count} of {n}", count=f"{rate.count:,}", n=f"{rate.n:,}")


def p_value(value: float | None) -> str:
    """A p-value with three decimals: 'p = 0.032', and 'p < 0.001' below that."""
    if value is None:
        return NO_DATA
    text = "< 0.001" if value < 0.001 else f"= {value:.3f}"
    return f"p {text}".replace(" ", "\N{NO-BREAK SPACE}")


def number(value: float | None) -> str:
    """Three significant figures, thousands separated, no exponent between 0.001 and a million million."""
    if value is None:
        return NO_DATA
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}".replace("-", MINUS)
    decimals = 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 else 4
    text = f"{value:.{decimals}f}" if size >= 0.001 else f"{value:.2e}"
    return text.replace("-", MINUS, 1) if value < 0 else text


def size(byte_count: float | None) -> str:
    """Bytes in the binary unit that leaves one to four digits: '1.50 GiB'."""
    return quantity(byte_count, "bytes")


def duration(seconds: float | None) -> str:
    """Seconds in the unit that reads well: '850 ms', '12.3 s', '2 min 05 s', '1 h 02 min'."""
    if seconds is None:
        return NO_DATA
    if seconds < 60:
        return quantity(seconds, "s")
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def quantity(value: float | None, unit: str) -> str:
    """A measured value with its unit; bytes and short times in a unit that reads well."""
    if value is None:
        return NO_DATA
    if unit in SECONDS and value >= 60:
        return duration(value)
    divisor, name = scale(value, unit)
    return f"{number(value / divisor)} {name}".strip()


def quantity_range(low: float, high: float, like: float, unit: str) -> str:
    """Two values in the unit that `quantity` gives to `like`, without naming it: '29.3 – 32.1'."""
    if unit in SECONDS and like >= 60:
        return f"{duration(low)} – {duration(high)}"
    divisor, _ = scale(like, unit)
    return f"{number(low / divisor)} – {number(high / divisor)}"


SECONDS = ("s", "second", "seconds")
BYTES = ("B", "byte", "bytes")
PER_SECOND = ("FLOP/s", "B/s")
"""Written with decimal prefixes, as data sheets do."""


def scale(value: float, unit: str) -> tuple[float, str]:
    """What to divide by, and the unit that results, for a value to be read easily."""
    if unit in SECONDS:
        return (1.0, "s") if abs(value) >= 1 else (0.001, "ms")
    if unit in PER_SECOND:
        for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
            if abs(value) >= size:
                return size, f"{letter}{unit}"
    if unit not in BYTES:
        return 1.0, unit
    divisor, name = 1.0, "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(value) < divisor * 1024:
            break
        divisor, name = divisor * 1024, larger
    return divisor, name


def short_path(text: str) -> str:
    """A path of this machine cut to its last two parts; hub names and relative paths stay as they are."""
    path: PurePosixPath | PureWindowsPath = PurePosixPath(text)
    if not path.is_absolute():
        path = PureWindowsPath(text)
        if not (path.is_absolute() and path.drive):
            return text
    return "…/" + "/".join(path.parts[1:][-2:])


def without_machine_paths(value: object) -> object:
    """The same settings with every absolute path shortened, so that a page can be shared."""
    if isinstance(value, str):
        return short_path(value)
    if isinstance(value, dict):
        return {key: without_machine_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_machine_paths(item) for item in value]
    return value


def setting(value: object) -> str:
    """A setting's value as text: lists with commas, true/false as YAML writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return NO_DATA
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    return short_path(str(value))
