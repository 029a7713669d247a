"""Which prompts overlap with training rows, ready to be shown: a sentence, what was compared, and the pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from harness.records import ContaminationReport, OverlapKind, OverlapPair
from harness.report.tables import Column, Entry, Table, number_entry
from harness.report.wording import both, join, short_path
from harness.summary import Summary

KIND_NAMES: dict[OverlapKind, tuple[str, str]] = {
    "exact": ("같은 글", "same text"),
    "near_duplicate": ("거의 같은 글", "near duplicate"),
    "ngram": ("긴 부분이 같음", "long part in common"),
}
LONGEST_TEXT = 240


@dataclass(frozen=True)
class ContaminationView:
    """The section's parts. `affected` counts prompts; `pairs` shows the strongest rows of each."""

    affected: int
    excludes: bool
    sentence: Markup
    criteria: Markup
    data: Table
    pairs: Table


def contamination_view(summary: Summary) -> ContaminationView | None:
    """The section, or None where the suite has no training data or the run was made before this was looked for."""
    report = summary.contamination
    if report is None or not report.data:
        return None
    return ContaminationView(
        affected=len(report.rows_by_prompt),
        excludes=report.excludes,
        sentence=_sentence(report),
        criteria=both(
            "글자와 숫자만 비교합니다. 이어진 {ngram}자(한글·한자·가나가 아니면 {other}자) 이상이 같고 그것이 "
            "질문의 {share} 이상이거나, 글자 n그램 자카드 유사도가 {threshold} 이상이면 겹친다고 봅니다. "
            "뜻만 같게 고쳐 쓴 글은 찾지 못합니다.",
            "Only letters and digits are compared. Texts overlap where a run of {ngram} characters ({other} "
            "in scripts other than Hangul, Han and kana) or more is the same and makes up {share} of the prompt, or "
            "where the Jaccard similarity of their character n-grams is at least {threshold}. A rewording of the same "
            "meaning is not found.",
            ngram=report.ngram,
            other=report.ngram_other_scripts,
            share=f"{report.threshold:.0%}",
            threshold=f"{report.threshold:g}",
        ),
        data=_data_table(report),
        pairs=_pair_table(report),
    )


def _sentence(report: ContaminationReport) -> Markup:
    rows = sum(source.rows for source in report.data)
    counts = {"prompts": f"{report.prompts:,}", "rows": f"{rows:,}"}
    if not rows:
        return both(
            "학습 행과 비교하지 못했습니다. 겹치는 질문이 있는지 알 수 없습니다.",
            "The training rows were not compared, so it is not known whether prompts overlap with them.",
        )
    if not report.rows_by_prompt:
        return both(
            "질문 {prompts}개를 학습 행 {rows}개와 비교했고, 겹치는 것을 찾지 못했습니다.",
            "{prompts} prompts were compared with {rows} training rows; no overlap was found.",
            **counts,
        )
    strongest: dict[str, OverlapKind] = {}
    for pair in sorted(report.pairs, key=_strength):
        strongest.setdefault(pair.prompt_id, pair.kind)
    by_kind = Counter(strongest.values())
    named = [(KIND_NAMES[kind], by_kind[kind]) for kind in KIND_NAMES if by_kind[kind]]
    left = (
        ("이 질문들은 실행에서 뺐습니다.", "They were left out of the run.")
        if report.excludes
        else (
            "위의 비율에 들어 있습니다. 짝을 읽어 보고 -o contamination.exclude=true로 빼십시오.",
            "They are in the rates above. Read the pairs; -o contamination.exclude=true leaves these prompts out.",
        )
    )
    return both(
        "질문 {prompts}개 가운데 {affected}개가 학습 행 {rows}개의 일부와 겹칩니다 ({kinds_ko}). {left_ko}",
        "{affected} of {prompts} prompts overlap with some of {rows} training rows ({kinds_en}). {left_en}",
        affected=f"{len(report.rows_by_prompt):,}",
        kinds_ko=join([f"{name[0]} {count}" for name, count in named]),
        kinds_en=join([f"{name[1]} {count}" for name, count in named]),
        left_ko=left[0],
        left_en=left[1],
        **counts,
    )


def _strength(pair: OverlapPair) -> tuple[int, float]:
    return (list(KIND_NAMES).index(pair.kind), -pair.score)


def _data_table(report: ContaminationReport) -> Table:
    columns = [
        Column("학습 단계", "Training step"),
        Column("자료", "Data"),
        Column("비교한 행", "Rows compared", "number"),
    ]
    rows = []
    for source in report.data:
        content: Entry = number_entry(source.rows)
        if source.not_checked is not None:
            label = both("확인하지 못함", "not checked")
            content = Entry(Markup('<span class="flag">{}</span><small>{}</small>').format(label, source.not_checked))
        rows.append([Entry(source.name), Entry(short_path(source.data)), content])
    return Table(columns, rows)


def _pair_table(report: ContaminationReport) -> Table:
    columns = [
        Column("질문", "Prompt"),
        Column("학습 행", "Training row"),
        Column("종류", "Kind"),
        Column("정도", "Score", "number"),
        Column("겹치는 행 수", "Rows", "number"),
    ]
    rows = []
    for pair in report.pairs:
        prompt = Markup("<b>{}</b><small>{}</small>").format(_cut(pair.prompt), pair.prompt_id)
        place = both("{name} {row}번째 행, {field}", "{name}, row {row}, {field}", **_place(pair))
        row = Markup("{}<small>{}</small>").format(_cut(pair.text), place)
        rows.append(
            [
                Entry(prompt),
                Entry(row),
                Entry(both(*KIND_NAMES[pair.kind])),
                Entry(f"{pair.score:.2f}", pair.score),
                number_entry(report.rows_by_prompt.get(pair.prompt_id, 0)),
            ]
        )
    return Table(columns, rows, sortable=True, css_class="pairs")


def _place(pair: OverlapPair) -> dict[str, object]:
    return {"name": pair.training, "row": f"{pair.row:,}", "field": pair.field}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"
