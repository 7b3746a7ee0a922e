"""An evaluation on the console: progress, then report, plots and videos."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.core.worker_pool import run_jobs
from sqap_vla_ros.tools.compression.run import Step
from sqap_vla_ros.tools.evaluation.plots import Bar, plot_robustness, plot_success
from sqap_vla_ros.tools.evaluation.report import Row, in_percent, summarise, write_report
from sqap_vla_ros.tools.evaluation.run import Evaluation, Prepared, prepare
from sqap_vla_ros.tools.evaluation.run import Progress as Played
from sqap_vla_ros.tools.evaluation.videos import failures_to_film, film, is_filmed


def run_evaluation(evaluation: Evaluation, console: Console, command: str, videos: int = 0) -> list[Row]:
    """Play the episodes that are missing, write the report on all that the settings name, and print it.

    Args:
        evaluation: The settings.
        console: Where progress is shown.
        command: The command that does the same again, for the report.
        videos: Number of failures per policy that are filmed.

    Returns:
        The rows of the report.

    Raises:
        ConfigurationError, CheckpointError, CompressionError, RunDirectoryError, ParallelError: See `prepare` and
            `run_jobs`; results so far are on disk.
    """
    prepared = _prepare(evaluation, console)
    try:
        _play(prepared, console)
    except KeyboardInterrupt:
        console.print(f"stopped; results so far are in {evaluation.out}, and the same command resumes from there")
        raise
    finally:
        rows = _report(prepared, command)
    console.print(_table(rows))
    if videos and not evaluation.over_topics:
        _film(prepared, videos, console)
    console.print(f"written to {evaluation.out}")
    return rows


def _prepare(evaluation: Evaluation, console: Console) -> Prepared:
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("preparing", total=None)

        def show(step: Step) -> None:
            progress.update(bar, description=f"compressing {step.name}", completed=step.done, total=step.total)

        return prepare(evaluation, on_step=show, on_note=lambda note: progress.console.print(f"note: {note}"))


def _play(prepared: Prepared, console: Console) -> None:
    successes, done, total = Counter[str](), Counter[str](), Counter[str]()
    for job in prepared.jobs:
        total[str(job.variant)] += 1
    for result in prepared.results():
        done[result.variant] += 1
        successes[result.variant] += result.success
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # An episode takes tens of seconds: what remains is estimated from many.
    with Progress(*columns, console=console, speed_estimate_period=3600) as progress:
        whole = progress.add_task("episodes", rate="", total=total.total())
        bars = {policy: progress.add_task(policy, rate="", total=count) for policy, count in total.items()}

        def show(played: Played) -> None:
            if played.result is not None:
                done[played.result.variant] += 1
                successes[played.result.variant] += played.result.success
            progress.update(whole, completed=played.done)
            for policy, bar in bars.items():
                rate = f"{100 * successes[policy] / done[policy]:.0f} % succeed" if done[policy] else ""
                progress.update(bar, completed=done[policy], rate=rate)

        prepared.play(show)


def _report(prepared: Prepared, command: str) -> list[Row]:
    evaluation = prepared.evaluation
    tasks = [task.name for task in evaluation.tasks]
    rows = summarise(prepared.results(), [str(variant) for variant in evaluation.variants], tasks)
    if rows:
        write_report(rows, tasks, evaluation.out, command)
        if undisturbed := [Bar.of(row) for row in rows if not row.disturbance]:
            plot_success(undisturbed, evaluation.out / "success.png")
        if any(row.disturbance for row in rows):
            plot_robustness(rows, evaluation.out / "robustness.png")
    return rows


def _table(rows: Sequence[Row]) -> Table:
    """The figures that matter most; all of them are in results.md."""
    table = Table(
        "policy", "disturbance", "episodes", "success, % [95 %]", "compared with", "difference, points [95 %]"
    )
    for row in rows:
        difference = in_percent(row.difference, "+") if row.difference else ""
        table.add_row(
            row.policy, row.disturbance, str(row.mean.count), in_percent(row.mean), row.compared_with, difference
        )
    return table


def _film(prepared: Prepared, videos: int, console: Console) -> None:
    folder = prepared.evaluation.out / "videos"
    folder.mkdir(exist_ok=True)
    jobs = [job for job in failures_to_film(prepared.jobs, prepared.results(), videos) if not is_filmed(job, folder)]
    settings = prepared.evaluation
    with Progress(console=console) as progress:
        for made in progress.track(
            run_jobs(film, jobs, workers=settings.workers, ray_address=settings.ray_address),
            total=len(jobs),
            description="filming failures",
        ):
            write_whole(folder / made.name, made.mp4)
