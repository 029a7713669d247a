"""Model output on the terminal is text: it is never obeyed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.records import Job
from harness.screen import Screen, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J지움", "<U+001B>[2J지움"),
        ("오른쪽\u202e왼쪽", "오른쪽<U+202E>왼쪽"),
        ("둘째\n줄\t칸", "둘째\n줄\t칸"),
        ("\r덮어쓰기", "<U+000D>덮어쓰기"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_markup_in_an_answer_is_text() -> None:
    out = io.StringIO()
    Screen(Console(file=out)).stream("p1", "[bold red]답[/bold red]", end=True)
    assert out.getvalue() == "p1: [bold red]답[/bold red]\n"


def test_pieces_of_an_answer_are_joined_on_one_line() -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out))
    for text, end in (("첫째 ", False), ("둘째", False), ("", True)):
        screen.stream("p1", text, end=end)
    assert out.getvalue() == "p1: 첫째 둘째\n"


def test_a_log_names_every_job_and_how_long_it_took() -> None:
    out = io.StringIO()
    with Screen(Console(file=out)) as screen:
        screen.start_job(1, 3, Job(id="generate-base-1", kind="generate", model="base"))
        screen.progress("generate-base-1", 1, 2, "answers")
        screen.end_job("generate-base-1", 1.25)
    assert out.getvalue() == "[1/3] answers of base\n[1/3] answers of base: done in 1.2 s\n"
