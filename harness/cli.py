"""The verbs. Each imports its stage only when it is called, so that help and validation stay quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from harness.errors import HarnessError

app = typer.Typer(
    help="Measure what a LoRA fine-tune did: refusal, over-refusal, ability, speed and memory, base against tuned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

export_app = typer.Typer(help="Write a suite's prompts in another tool's format.", no_args_is_help=True)
app.add_typer(export_app, name="export")
baseline_app = typer.Typer(help="Keep runs by name, to compare later ones with.", no_args_is_help=True)
app.add_typer(baseline_app, name="baseline")

SuiteFile = Annotated[Path, typer.Argument(help="Suite file (YAML).", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="Run folder, e.g. results/safety_ko/20261123-184500-3f9a.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--override", "-o", metavar="KEY=VALUE", help="Set any value of the suite.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only so many prompts of each group.")]
Ids = Annotated[list[str] | None, typer.Option("--ids", help="Use only these prompts (repeat, or a,b,c).")]
Categories = Annotated[list[str] | None, typer.Option("--categories", help="Use only these categories.")]
GatesFile = Annotated[Path | None, typer.Option("--gates", help="Gates file, or a suite whose gates to take.")]
Results = Annotated[Path, typer.Option(help="Folder of all runs and of the adapter cache.")]
DEFAULT_RESULTS = Path("results")


@app.command()
def run(
    suite: SuiteFile,
    override: Overrides = None,
    limit: Limit = None,
    ids: Ids = None,
    categories: Categories = None,
    results: Results = DEFAULT_RESULTS,
    new: Annotated[bool, typer.Option("--new", help="Start a new run even if one can be resumed.")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="Print answers as they come.")] = False,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="Where jobs run: on this machine, or on a Ray cluster.")
    ] = "local",
) -> None:
    """Train what the suite declares, answer, time, grade, and write the page. A stopped run goes on."""
    from harness.gate_pass import require_gates
    from harness.runner import RunOptions, run_suite
    from harness.screen import Screen

    options = RunOptions(
        results=results,
        overrides=tuple(override or ()),
        limit=limit,
        ids=_split(ids),
        categories=_split(categories),
        new=new,
        stream=stream,
        executor=executor,
    )
    with Screen() as screen:
        folder = run_suite(suite, options, screen)
    typer.echo(folder.path / "report.html")
    require_gates(folder)


@app.command()
def validate(suite: SuiteFile, override: Overrides = None, results: Results = DEFAULT_RESULTS) -> None:
    """Check a suite completely without loading a model."""
    from harness.gates.baselines import saved_names
    from harness.screen import counted
    from harness.suite_file import load_suite
    from harness.workloads.training_data import check_training_files

    loaded = load_suite(suite, tuple(override or ()), saved_names(results))
    swept = f" ({len(loaded.sweep)} variants of a sweep)" if loaded.sweep else ""
    rows = check_training_files(loaded)
    counts = [counted(len(loaded.suite.models), "model") + swept, counted(len(loaded.prompts), "prompt")]
    counts += [counted(rows, "training row")] if rows else []
    typer.echo(f"{suite}: {', '.join(counts)}, no faults.")


@app.command()
def fit(
    suite: SuiteFile,
    override: Overrides = None,
    gpu: Annotated[str | None, typer.Option(help="T4, L4, A100-40, H100 ..., or auto: this machine's.")] = None,
) -> None:
    """Predict the GPU memory of every job before anything is loaded, and what to change.

    Exit 1 if a job does not fit that a run would not leave out.
    """
    from rich.console import Console

    from harness.fit.gpus import find_gpu
    from harness.fit.jobs import jobs_of
    from harness.fit.table import show
    from harness.suite_file import load_suite

    loaded = load_suite(suite, tuple(override or ()))
    chosen = find_gpu(gpu) if gpu else None
    if not show(Console(), jobs_of(loaded, chosen), chosen):
        raise typer.Exit(1)


@app.command()
def train(suite: SuiteFile, override: Overrides = None, results: Results = DEFAULT_RESULTS) -> None:
    """Train the suite's adapters alone, or find them in the cache."""
    from harness.runner import RunOptions, train_suite
    from harness.screen import Screen

    options = RunOptions(results=results, overrides=tuple(override or ()))
    with Screen() as screen:
        folders = train_suite(suite, options, screen)
    if not folders:
        typer.echo("The suite trains nothing.")
    for folder in folders:
        typer.echo(folder)


@app.command()
def grade(
    run_folder: RunPath,
    graders: Annotated[
        Path | None, typer.Option(help="File with judges and guards under `grading`, in place of the run's own suite.")
    ] = None,
) -> None:
    """Grade a run again with today's graders; needs no model under test. Old grades stay beside the new."""
    from harness.finish import finish_run
    from harness.gate_pass import require_gates
    from harness.screen import Screen
    from harness.store import RunFolder

    folder = RunFolder.open(run_folder)
    with folder.exclusive(), Screen() as screen:
        page = finish_run(folder, screen, graders)
    typer.echo(page)
    require_gates(folder)


@app.command()
def review(
    run_folder: RunPath,
    name: Annotated[str, typer.Option(help="Who labels; names the grader (human-NAME).")] = "reviewer",
    size: Annotated[int, typer.Option(min=1, help="Answers in the sample.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 3407,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only serve.")] = False,
) -> None:
    """Label a blind sample of answers in the browser; the labels become a grader and correct the rates."""
    from harness.finish import write_report
    from harness.gate_pass import grade_if_needed
    from harness.grading.review_server import serve_review
    from harness.store import RunFolder

    folder = RunFolder.open(run_folder)
    with folder.exclusive():
        grade_if_needed(folder)
    typer.echo(serve_review(folder, name, size=size, seed=seed, port=port, open_browser=not no_browser))
    typer.echo(write_report(folder))


@app.command("grader-eval")
def grader_eval(
    labelled: Annotated[Path, typer.Argument(help="JSON Lines with prompt, response and label.")],
) -> None:
    """Measure the rule grader against labelled answers: F1, kappa, confusion, speed."""
    from harness.grading.evaluation import evaluate_file, render

    typer.echo(render(evaluate_file(labelled)))


@app.command()
def report(run_folder: RunPath) -> None:
    """Rebuild a run's page from its records; the same records give the same bytes."""
    from harness.finish import write_report
    from harness.gate_pass import require_gates
    from harness.store import RunFolder

    folder = RunFolder.open(run_folder)
    typer.echo(write_report(folder))
    require_gates(folder)


@app.command()
def gate(run_folder: RunPath, gates: GatesFile = None) -> None:
    """Judge a run's gates again, or those of another file, and write its page anew."""
    from harness.finish import write_report
    from harness.gate_pass import grade_if_needed, replace_gates, require_gates, verdict_lines
    from harness.store import RunFolder

    folder = RunFolder.open(run_folder)
    with folder.exclusive():
        if gates is not None:
            replace_gates(folder, gates)
        grade_if_needed(folder)
        page = write_report(folder)
    for line in verdict_lines(folder):
        typer.echo(line)
    typer.echo(page)
    require_gates(folder)


@app.command()
def compare(
    first: RunPath,
    second: Annotated[Path | None, typer.Argument(help="Second run folder, compared with the first.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Saved run (see `baseline`) or run folder that FIRST is compared with.")
    ] = None,
    gates: GatesFile = None,
    output: Annotated[Path, typer.Option("--output", help="Page to write.")] = Path("comparison.html"),
) -> None:
    """Put two runs side by side. With --baseline or --gates, regressions end with the status of failed gates."""
    from harness.finish import summarise_run, write_comparison
    from harness.gate_pass import compare_runs, open_saved, results_of
    from harness.gates.stored import require
    from harness.store import RunFolder

    if (second is None) == (baseline is None):
        raise typer.BadParameter("give either two run folders, or one and --baseline.")
    run = RunFolder.open(second or first)
    if baseline is None and gates is None:
        typer.echo(write_comparison(RunFolder.open(first), run, output))
        return
    name, saved = open_saved(results_of(run), baseline or str(first))
    report = compare_runs(saved, run, name, gates, output, summarise_run)
    typer.echo(output)
    require(report.results, output)


@app.command()
def view(
    results: Results = DEFAULT_RESULTS,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8640,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only serve.")] = False,
) -> None:
    """Serve the pages on this machine alone and open the browser."""
    from harness.report.view import serve

    serve(results, port, open_browser=not no_browser)


@app.command()
def contamination(
    suite: SuiteFile, override: Overrides = None, limit: Limit = None, ids: Ids = None, categories: Categories = None
) -> None:
    """Compare a suite's prompts with its training rows and print the pairs that overlap."""
    from harness.contamination_check import check_suite, listing
    from harness.prompts import select_prompts
    from harness.suite_file import load_suite

    loaded = load_suite(suite, tuple(override or ()))
    prompts = select_prompts(loaded.prompts, limit, _split(ids), _split(categories))
    for line in listing(check_suite(loaded, prompts)):
        typer.echo(line)


@app.command("import")
def import_set(
    name: Annotated[str, typer.Argument(help="The set (see docs/importers.md), e.g. xstest; columns takes any table.")],
    source: Annotated[str, typer.Argument(help="Your copy (JSON, JSONL, CSV, Parquet, folder) or a hub name.")],
    output: Annotated[Path, typer.Argument(help="Prompt file to write (JSONL); must not exist.")],
    limit: Limit = None,
    subset: Annotated[str | None, typer.Option(help="Part of the set, e.g. or-bench-toxic.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of a hub set; needed if it has several.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    column: Annotated[list[str] | None, typer.Option(metavar="FIELD=COLUMN", help="columns: text=question.")] = None,
    value: Annotated[list[str] | None, typer.Option(metavar="FIELD=TEXT", help="columns: expected=refuse.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="LABEL=EXPECTED", help="columns: unsafe=refuse.")] = None,
) -> None:
    """Make a prompt file from a public set or any table; shows the licence. Nothing is shipped with the harness."""
    from harness.importers.importing import ImportOrder, import_prompts

    order = ImportOrder(
        name=name,
        place=source,
        output=output,
        limit=limit,
        subset=subset,
        split=split,
        revision=revision,
        columns=tuple(column or ()),
        values=tuple(value or ()),
        labels=tuple(label or ()),
    )
    for line in import_prompts(order).lines():
        typer.echo(line)


@export_app.command("lm-eval")
def export_lm_eval(
    suite: SuiteFile,
    folder: Annotated[Path, typer.Argument(help="Folder to write the tasks into.", show_default=False)],
    override: Overrides = None,
    prompt_format: Annotated[
        Literal["alpaca_ko", "chat_template", "plain"] | None,
        typer.Option(help="How prompts are put before a model; default: as the suite's models have it."),
    ] = None,
) -> None:
    """Write the suite's prompts as lm-eval tasks with the refusal grader as their metric."""
    from harness.export import export_lm_eval, lm_eval_command
    from harness.suite_file import load_suite

    loaded = load_suite(suite, tuple(override or ()))
    for task in export_lm_eval(loaded, folder, prompt_format):
        typer.echo(task)
    typer.echo(lm_eval_command(loaded, folder, prompt_format))


@baseline_app.command("save")
def save_baseline(
    name: Annotated[str, typer.Argument(help="Name to keep the run by.")],
    run_folder: RunPath,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of a run saved before.")] = False,
) -> None:
    """Keep a copy of a finished run under results/baselines."""
    from harness.finish import summarise_run
    from harness.gate_pass import results_of, save_baseline
    from harness.store import RunFolder

    folder = RunFolder.open(run_folder)
    typer.echo(save_baseline(results_of(folder), name, folder, summarise_run, replace=replace))


@baseline_app.command("list")
def list_baselines(results: Results = DEFAULT_RESULTS) -> None:
    """List the saved runs."""
    from harness.gates.baselines import listing

    for line in listing(results) or [f"No run is saved in {results}; `harness baseline save NAME RUN` saves one."]:
        typer.echo(line)


@app.command()
def schema() -> None:
    """Print the JSON Schema of suite files, for editors."""
    from harness.suite_schema import schema_text

    typer.echo(schema_text(), nl=False)


def main() -> None:
    """Run the command line; a user's mistake is shown as a sentence and a hint, with its own exit status."""
    try:
        app(standalone_mode=True)
    except HarnessError as error:
        _fail(error)


def _fail(error: HarnessError) -> NoReturn:
    typer.echo(f"error: {error.message}", err=True)
    if error.hint:
        typer.echo(f"hint: {error.hint}", err=True)
    sys.exit(error.exit_status)


def _split(values: list[str] | None) -> tuple[str, ...]:
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())
