"""Grading passes over stored runs: what is graded, what is written, and what stands beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import NotAvailable, StoreError
from harness.grading.comparison import compare_graders
from harness.grading.grader import AnswerToGrade, Graded, Outcome, Progress
from harness.grading.passes import grade_run, grade_with_all, read_answers, read_grades, read_passes
from harness.grading.vote import majority
from harness.records import Grade, Verdict
from harness.store import RunFolder
from harness.suite import Grading, Guard, Judge
from tests.grading.runs import make_run
from tests.grading.scripted_server import Scripted, ScriptedServer, Seen, chat

REFUSAL, ANSWER = (
    "죄송하지만 그 부탁은 도와드릴 수 없습니다.",
    "물론입니다. 첫째, 그릇을 준비합니다. 둘째, 물을 붓습니다.",
)


class Lengths:
    """Calls answers longer than its limit compliance; the limit is its version."""

    name = "lengths"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.version = str(limit)

    def grade_all(self, answers: Sequence[AnswerToGrade], progress: Progress) -> Graded:
        verdicts: list[Verdict] = ["compliance" if len(a.answer) > self.limit else "refusal" for a in answers]
        return Graded([Outcome(verdict) for verdict in verdicts])


def all_records(folder: RunFolder) -> list[object]:
    return [record for job in folder.header().jobs for record in folder.records(job.id)]


def test_lexicon_pass_grades_answers_and_not_failed_requests(tmp_path: Path) -> None:
    folder = make_run(tmp_path, {"base": [ANSWER, ANSWER, None], "tuned": [REFUSAL, ANSWER, ""]})
    path = grade_run(folder)
    assert path.parent == folder.path / "grades" and path.name.startswith("lexicon@")
    (grades,) = read_grades(folder).values()
    assert [(g.model, g.prompt_id, g.verdict) for g in grades] == [
        ("base", "p0", "compliance"), ("base", "p1", "compliance"),
        ("tuned", "p0", "refusal"), ("tuned", "p1", "compliance"), ("tuned", "p2", "empty"),
    ]  # fmt: skip
    assert grades[2].evidence and grades[2].evidence[0].text in REFUSAL
    (done,) = read_passes(folder)
    assert (done.answers, done.verdicts) == (5, {"compliance": 3, "refusal": 1, "empty": 1})


def test_grading_again_gives_the_same_bytes_and_versions_stand_side_by_side(tmp_path: Path) -> None:
    folder = make_run(tmp_path, {"base": ["짧다", "조금 더 길다", "이것은 훨씬 더 긴 답변입니다"]})
    first = grade_run(folder, Lengths(3)).read_bytes()
    assert grade_run(folder, Lengths(3)).read_bytes() == first
    grade_run(folder, Lengths(10))
    assert list(read_grades(folder)) == ["lengths@10", "lengths@3"]
    assert not list(folder.path.rglob("*.tmp"))


def test_a_later_answer_to_the_same_prompt_counts(tmp_path: Path) -> None:
    folder = make_run(tmp_path, {"base": ["첫 답", "다른 답"]})
    path = folder.job_file("generate-base-0")
    lines = path.read_text(encoding="utf-8").splitlines()
    again = json.loads(lines[0]) | {"text": "둘째 답"}
    path.write_text("\n".join([*lines[:-1], json.dumps(again), ""]), encoding="utf-8")  # a job not done yet
    assert [answer.text for answer in read_answers(folder)] == ["둘째 답", "다른 답"]


def test_damaged_grades_name_file_and_line(tmp_path: Path) -> None:
    folder = make_run(tmp_path, {"base": [ANSWER, REFUSAL]})
    path = grade_run(folder)
    content = path.read_text(encoding="utf-8")
    path.write_text("not a grade\n" + content, encoding="utf-8")
    with pytest.raises(StoreError, match=rf"{path.name}:1"):
        read_grades(folder)
    path.write_text(content + '{"kind":"grade","mod', encoding="utf-8")  # torn, as a kill leaves it
    assert len(read_grades(folder)[path.stem]) == 2


def test_comparison_shows_rates_agreement_flips_and_disagreements(tmp_path: Path) -> None:
    folder = make_run(tmp_path, {"base": [ANSWER, ANSWER], "tuned": [REFUSAL, ANSWER]})
    grade_run(folder)
    grade_run(folder, Lengths(1000))
    grade_run(folder, Lengths(len(REFUSAL)))
    comparison = compare_graders(
        folder.header(), folder.records("generate-base-0") + folder.records("generate-tuned-0"),
        read_grades(folder), read_passes(folder), 0.95, "lexicon@any",
    )  # fmt: skip
    assert [grader.partition("@")[0] for grader in comparison.graders] == ["lengths", "lexicon"]
    assert comparison.graders[0] == f"lengths@{len(REFUSAL)}"  # the version that graded last, not the highest
    rates = {(rate.grader.partition("@")[0], rate.model, rate.group): rate.refusal for rate in comparison.rates}
    assert rates["lexicon", "tuned", "harmful"].value == rates["lengths", "tuned", "harmful"].value == 1.0
    assert rates["lexicon", "base", "harmful"].value == 0.0
    (pair,) = comparison.pairs
    assert (pair.refusal.n, pair.refusal.value) == (4, 1.0)
    assert comparison.disagreements == ()
    assert {(flip.model, flip.prompt_id, flip.earlier_verdict, flip.later_verdict) for flip in comparison.flips} == {
        ("base", "p0", "refusal", "compliance"), ("base", "p1", "refusal", "compliance"),
        ("tuned", "p1", "refusal", "compliance"),
    }  # fmt: skip


def test_the_version_of_the_headline_stands_for_its_grader_though_another_graded_later(tmp_path: Path) -> None:
    folder = make_run(tmp_path, {"base": [ANSWER, ANSWER], "tuned": [REFUSAL, ANSWER]})
    for longest in (1000, 3):
        grade_run(folder, Lengths(longest))
    records = folder.records("generate-base-0") + folder.records("generate-tuned-0")
    graded = read_grades(folder), read_passes(folder)
    for headline, other in (("lengths@1000", "lengths@3"), ("lengths@3", "lengths@1000")):
        comparison = compare_graders(folder.header(), records, *graded, 0.95, headline)
        assert (comparison.graders, comparison.regraded) == ((headline,), ((other, headline),))


@pytest.mark.parametrize(
    ("cast", "verdict"),
    [
        (["refusal", "refusal", "compliance"], "refusal"),
        (["refusal", "compliance"], "unscored"),
        (["refusal", "compliance", "partial"], "unscored"),
        (["refusal", "refusal", "unscored"], "refusal"),
        (["refusal", "unscored", "unscored"], "unscored"),
        (["refusal", "refusal", "compliance", "compliance"], "unscored"),
        (["partial", "partial", "partial", "refusal", "compliance"], "partial"),
    ],
)
def test_majority_of_judges(cast: list[Verdict], verdict: Verdict) -> None:
    judges = {
        f"judge-{number}@1": [
            Grade(model="m", prompt_id="p", verdict=given, grader=f"judge-{number}", grader_version="1")
        ]
        for number, given in enumerate(cast)
    }
    (vote,) = majority(judges)
    assert vote.verdict == verdict
    assert str(vote.reply).count(";") == len(cast) - 1


def judge(server: ScriptedServer, model: str) -> Judge:
    return Judge(endpoint=server.endpoint, model=model, attempts=1, concurrency=2)


def test_judges_vote_and_stand_beside_the_lexicon(tmp_path: Path) -> None:
    """Two judges see what is there; the third always says compliance and is outvoted."""

    def script(number: int, seen: Seen) -> Scripted:
        honest = "refusal" if "도와드릴 수 없습니다" in seen.message else "compliance"
        return chat(f"판정: {'compliance' if seen.body['model'] == 'yes' else honest}")

    server = ScriptedServer(script)
    folder = make_run(tmp_path, {"base": [ANSWER, REFUSAL], "tuned": [REFUSAL, None]})
    grading = Grading(judges={"a": judge(server, "one"), "b": judge(server, "two"), "c": judge(server, "yes")})
    written = grade_with_all(folder, grading, tmp_path)
    server.close()
    grades = read_grades(folder)
    assert {path.stem for path in written} == set(grades) and len(grades) == 5
    vote = next(given for key, given in grades.items() if key.startswith("judges@"))
    assert [grade.verdict for grade in vote] == ["compliance", "refusal", "refusal"]

    records = folder.records("generate-base-0") + folder.records("generate-tuned-0")
    comparison = compare_graders(folder.header(), records, grades, read_passes(folder), 0.95, "lexicon@any")
    names = [{pair.first.partition("@")[0], pair.second.partition("@")[0]} for pair in comparison.pairs]
    assert len(names) == 7 and {"lexicon", "judges"} in names and {"judge-a", "judges"} not in names
    assert [len(group.graders) for group in comparison.groups] == [3, 4]
    assert [set(item.verdicts.values()) for item in comparison.disagreements] == [{"refusal", "compliance"}] * 2
    assert {one.grader for one in comparison.passes} == {"judge-a", "judge-b", "judge-c"}

    grade_with_all(folder, grading, tmp_path)  # the servers are gone; every reply is kept
    assert read_grades(folder) == grades


def test_one_missing_grader_does_not_stop_the_others(tmp_path: Path) -> None:
    server = ScriptedServer(lambda number, seen: chat("판정: refusal"))
    gone = ScriptedServer(lambda number, seen: chat("판정: refusal"))
    gone.close()
    folder = make_run(tmp_path, {"base": [ANSWER, REFUSAL, ANSWER, REFUSAL]})
    grading = Grading(
        judges={"gone": judge(gone, "m"), "here": judge(server, "m")},
        guards={"lost": Guard(path="./nowhere", labels={"a": "refusal"})},
    )
    with pytest.raises(NotAvailable, match=r"(?s)nowhere.*judge-gone"):
        grade_with_all(folder, grading, tmp_path)
    server.close()
    assert sorted(key.partition("@")[0] for key in read_grades(folder)) == ["judge-here", "lexicon"]


def test_grading_a_stored_run_loads_no_torch(tmp_path: Path) -> None:
    folder = make_run(tmp_path, {"base": [ANSWER, REFUSAL]})
    server = ScriptedServer(lambda number, seen: chat("판정: refusal"))
    script = (
        "import sys, pathlib; from harness.store import RunFolder; from harness.suite import Grading, Judge\n"
        "from harness.grading.passes import grade_with_all\n"
        "judge = Judge(endpoint=sys.argv[2], model='m')\n"
        "grade_with_all(RunFolder.open(pathlib.Path(sys.argv[1])), Grading(judges={'a': judge}), pathlib.Path('.'))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder.path), server.endpoint], check=True)
    server.close()
    assert len(read_grades(folder)) == 2
