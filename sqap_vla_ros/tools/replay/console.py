"""Replays on the console: progress, then a summary."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.tools.replay.columns import METRIC_NAMES, bad_tail, with_unit
from sqap_vla_ros.tools.replay.jobs import ReplayJob, begin_results
from sqap_vla_ros.tools.replay.many import Outcome, replay_bag, replay_bags, write_overview
from sqap_vla_ros.tools.replay.provenance import name_in
from sqap_vla_ros.tools.replay.report.page import write_report
from sqap_vla_ros.tools.replay.report.tables import remarks
from sqap_vla_ros.tools.replay.results_reader import Run
from sqap_vla_ros.tools.replay.verdict import Verdict, verdict_on, verdict_table

_LINE_EVERY_S = 10.0


def default_workers(configuration: Configuration, bags: int) -> int:
    """Number of bags to replay at a time: one per core, or a single one on a GPU, which holds the policy once."""
    if bags == 1:
        return 1
    from sqap_vla_ros.vlm.runtime.device import choose_device  # imports torch, which takes seconds

    return 1 if choose_device(configuration.device) == "cuda" else min(bags, len(os.sched_getaffinity(0)))


def replay_one(job: ReplayJob, console: Console, *, resume: bool) -> int:
    """Replay one bag, and print its summary and the verdict.

    Returns:
        The exit code.

    Raises:
        BagError, ConfigurationError, CheckpointError, TokenizerError: See `replay_bag`.
    """
    if resume and job.is_done():
        console.print(f"the results in {job.out} are complete", soft_wrap=True, markup=False)
        run = Run(job.out)
        return print_verdict(verdict_on([run]), console) or print_shortcomings([run.summary], console)
    with _progress(console) as progress:
        task = progress.add_task("replaying", total=None)

        lines = _Lines(console)

        def show(what: str, done_s: float, total_s: float) -> None:
            progress.update(task, description=what, completed=round(done_s, 1), total=round(total_s, 1))
            lines.show(f"{what}: {done_s:.1f} of {total_s:.1f} s of the bag")

        summary = replay_bag(job, show, progress.console.print)
    console.print(_summary_table(summary, job))
    return print_verdict(verdict_on([Run(job.out)]), console) or print_shortcomings([summary], console)


def print_shortcomings(summaries: Sequence[Mapping[str, Any]], console: Console) -> int:
    """Print why bags were not replayed as a whole, or not at all; returns the exit code, 0 where all were."""
    found = [sentence for summary in summaries if (sentence := shortcoming(summary))]
    for sentence in found:
        console.print(sentence, style="red", soft_wrap=True, markup=False, highlight=False)
    return int(bool(found))


def shortcoming(summary: Mapping[str, Any]) -> str:
    """What is wrong with the replay of a bag although it ran, as a sentence; empty if nothing is.

    Args:
        summary: Content of its `summary.json`.
    """
    bag = summary["bag"]
    if not summary["ticks_planned"]:
        reasons = "; ".join(f"{count} times: {reason}" for reason, count in summary["refusals"].items())
        why = f"all {summary['ticks_refused']} ticks were rejected ({reasons})" if reasons else "no tick was due"
        return f"{bag}: nothing was planned: {why}; see `sqap-vla doctor {bag}`"
    return f"{bag}: {summary['bag_lacks']}" if summary.get("bag_lacks") else ""


def print_verdict(verdict: Verdict | None, console: Console) -> int:
    """Print a verdict as a table and one line; returns its exit code, 0 without one."""
    if verdict is None:
        return 0
    console.print(verdict_table(verdict))
    console.print(verdict.sentence, soft_wrap=True, markup=False, highlight=False)
    return verdict.outcome.value


def replay_many(jobs: Sequence[ReplayJob], console: Console, *, workers: int, ray_address: str, resume: bool) -> int:
    """Replay many bags, print a summary of each and the verdict on all, and write the overview next to their results.

    Returns:
        The exit code.

    Raises:
        ParallelError, ConfigurationError, CheckpointError, TokenizerError: See `replay_bags`.
    """
    out = jobs[0].out.parent
    begin_results(out)  # removes an earlier overview, or the results of a single bag
    outcomes: list[Outcome] = []
    with _progress(console) as progress:
        task = progress.add_task("bags", total=len(jobs))
        lines = _Lines(console)
        lines.show(f"0 of {len(jobs)} bags")
        for outcome in replay_bags(jobs, workers=workers, ray_address=ray_address, resume=resume):
            outcomes.append(outcome)
            if outcome.error:
                progress.console.print(f"skipped: {outcome.error}", style="red", markup=False, highlight=False)
            progress.update(task, completed=len(outcomes))
            lines.show(f"{len(outcomes)} of {len(jobs)} bags")
    outcomes.sort(key=lambda outcome: jobs.index(outcome.job))
    failed = [outcome.job.out.name for outcome in outcomes if outcome.error]
    verdict = verdict_on([Run(outcome.job.out) for outcome in outcomes if outcome.summary], failed)
    write_overview(out, outcomes, verdict)
    if any(outcome.summary for outcome in outcomes):
        write_report(out)
    console.print(_overview_table(outcomes))
    console.print(f"written to {out}", soft_wrap=True, markup=False)
    summaries = [outcome.summary for outcome in outcomes if outcome.summary]
    return print_verdict(verdict, console) or print_shortcomings(summaries, console) or int(bool(failed))


class _Lines:
    """Progress where no bar can be drawn, as in a pipe or a log: a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0

    def show(self, words: str) -> None:
        """Print the words, unless a line was printed a short while ago."""
        if not self._console.is_terminal and (now_s := time.monotonic()) >= self._next_s:
            self._next_s = now_s + _LINE_EVERY_S
            self._console.print(words, soft_wrap=True, markup=False, highlight=False)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    moves = console.is_terminal  # elsewhere there are lines
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not moves)


def _summary_table(summary: dict[str, Any], job: ReplayJob) -> Table:
    table = Table(title=Text(f"{name_in(summary)} on {summary['bag']}"), show_header=False)

    def add_row(*cells: str) -> None:
        table.add_row(*map(Text, cells))  # a path or a message may contain brackets

    others = ", ".join(summary.get("other_image_topics", []))
    add_row("images", summary["image_topic"] + (f" (there are also {others}; --image-topic chooses)" if others else ""))
    add_row("ticks planned", str(summary["ticks_planned"]))
    add_row("ticks with ring", str(summary["ring_coverage"]["used"]))
    for reason, count in summary["ring_coverage"]["reasons"].items():
        add_row("  without ring", f"{count}: {reason}")
    add_row("ticks rejected", str(summary["ticks_refused"]))
    for reason, count in summary["refusals"].items():
        add_row("  rejected", f"{count}: {reason}")
    for policy, stages in summary["seconds"].items():
        for stage, seconds in stages.items():
            words = f"median {seconds['p50'] * 1e3:.1f} ms, p99 {seconds['p99'] * 1e3:.1f} ms"
            add_row(f"{policy}: {stage}", words)
    for metric, values in summary["metrics"].items():
        add_row(METRIC_NAMES[metric], f"mean {with_unit(metric, values['mean'])}, {bad_tail(metric, values)}")
    if recorded := summary.get("recorded"):
        largest = recorded["largest_difference"]
        add_row(
            "same as recorded",
            f"{recorded['identical_bit_for_bit']} of {recorded['compared']} bit for bit "
            f"({recorded['published']} were published), "
            f"largest difference {'not finite' if largest is None else format(largest, '.3g')}",
        )
    if summary["bag_damage"]:
        add_row("bag damaged", summary["bag_damage"])
    for note in summary.get("notes", []):
        add_row("note", note)
    add_row("written to", str(job.out))
    return table


def _overview_table(outcomes: Sequence[Outcome]) -> Table:
    table = Table("bag", "planned", "rejected", "with ring", "median plan [ms]", "remarks")
    for outcome in outcomes:
        if (summary := outcome.summary) is None:
            table.add_row(Text(outcome.job.out.name), "", "", "", "", Text(f"failed: {outcome.error}"))
            continue
        total = summary["seconds"].get("policy", {}).get("total")
        table.add_row(
            Text(outcome.job.out.name),
            str(summary["ticks_planned"]),
            str(summary["ticks_refused"]),
            str(summary["ring_coverage"]["used"]),
            f"{total['p50'] * 1e3:.1f}" if total else "",
            Text("; ".join(remarks(summary))),
        )
    return table
