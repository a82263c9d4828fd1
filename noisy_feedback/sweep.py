"""The sweep: every seed with every loss, anchor, noise and ratio, in groups of seeds, each finished run kept."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from noisy_feedback import report
from noisy_feedback.cluster import check_installed, connected, run_on_cluster
from noisy_feedback.errors import InputError
from noisy_feedback.experiment import Material, prepare, run_all
from noisy_feedback.files import check_writable
from noisy_feedback.results import Outcome, SweepFolder, runs_table
from noisy_feedback.settings import SEEDS_AT_ONCE, Settings, Sweep, groups_of_seeds
from noisy_feedback.summary import summarise
from noisy_feedback.training import one_thread


def run_sweep(sweep: Sweep) -> Path:
    """Run what is missing of a sweep, write its tables and figures, print the summary; gives the sweep's folder."""
    check_writable(sweep.run.output)
    if sweep.dask is not None:
        check_installed()
    material = prepare(sweep.runs())
    folder = SweepFolder(sweep, material.origin)
    with ExitStack() as stack:
        client = None
        if sweep.dask is not None and any(folder.find(run) is None for run in sweep.runs()):
            client = stack.enter_context(connected(sweep.dask))
        hold(folder, stack)
        missing = [run for run in sweep.runs() if folder.find(run) is None]
        print(f"sweep      {len(sweep.runs())} runs, of which {len(sweep.runs()) - len(missing)} are kept already")
        if missing:
            run_missing(sweep, missing, material, folder, client)
        outcomes = [outcome for run in sweep.runs() if (outcome := folder.find(run)) is not None]
        summary = summarise(runs_table(outcomes))
        figures = folder.write_tables(outcomes, summary)
    print(f"\n{report.summary_table(summary)}")
    print(f"results    {folder.path}")
    print(f"figures    {', '.join(str(figure) for figure in figures) or 'none: no epoch was run'}")
    return folder.path


def hold(folder: SweepFolder, stack: ExitStack) -> None:
    """Hold the folder's lock until `stack` closes. Errors: InputError where another sweep holds it."""
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"another sweep is writing to {folder.path}; wait for it to end, or give another --output"
        ) from None
    stack.callback(lock.release)


def run_missing(
    sweep: Sweep, missing: Sequence[Settings], material: Material, folder: SweepFolder, client: Any
) -> None:
    """Run the missing runs, here or by the client of a cluster, and keep each; with one bar over all of it."""
    seeds = len({run.seed for run in missing})
    epochs = seeds * sweep.run.epochs_t + len(missing) * sweep.run.epochs_f
    with tqdm(total=epochs, unit=" epochs", desc="sweep") as bar:
        groups = run_here(missing, material, bar) if client is None else run_on_cluster(client, missing, material)
        for outcomes in groups:
            for outcome in outcomes:
                folder.keep(outcome)
            if client is not None:
                trained = len({outcome.settings.seed for outcome in outcomes})
                bar.update(trained * sweep.run.epochs_t + len(outcomes) * sweep.run.epochs_f)


def run_here(runs: Sequence[Settings], material: Material, bar: tqdm) -> Iterator[list[Outcome]]:
    """Run groups of seeds on this machine's cores or GPU; give each group's outcomes as it finishes."""

    def advance(phase: str, finished: int) -> None:
        bar.set_description(phase.replace("_", "-"), refresh=False)
        bar.update(finished)

    for group in groups_of_seeds(runs, SEEDS_AT_ONCE):
        with one_thread() as cores:
            found = run_all(group, material, cores, advance, tell=lambda text: None)
        yield [outcome for outcome, _ in found]
