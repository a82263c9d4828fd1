"""The sweep: every seed with every noise ratio, in groups, each run kept as soon as it is finished."""

from collections.abc import Iterator, Sequence

from filelock import FileLock, Timeout
from tqdm import tqdm

from noisy_feedback import report
from noisy_feedback.errors import InputError
from noisy_feedback.experiment import Material, prepare, run_all
from noisy_feedback.files import check_writable
from noisy_feedback.results import Outcome, SweepFolder, runs_table
from noisy_feedback.settings import Settings, Sweep
from noisy_feedback.summary import summarise
from noisy_feedback.training import one_thread

SEEDS_AT_ONCE = 10  # per stack: what a kill can lose, and what bounds the memory


def sweep(settings: Sweep) -> None:
    """Run what is missing of a sweep, then write its tables and figures and print the summary."""
    check_writable(settings.run.output)
    material = prepare(settings.run)
    folder = SweepFolder(settings, material.origin)
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"another sweep is writing to {folder.path}; wait for it to end, or give another --output"
        ) from None
    with lock:
        missing = [run for run in settings.runs() if folder.find(run) is None]
        print(
            f"sweep      {len(settings.runs())} runs, of which {len(settings.runs()) - len(missing)} are kept already"
        )
        run_missing(settings, missing, material, folder)
        outcomes = [outcome for run in settings.runs() if (outcome := folder.find(run)) is not None]
        summary = summarise(runs_table(outcomes))
        folder.write_tables(outcomes, summary)
    print(f"\n{report.summary_table(summary)}")
    print(f"results    {folder.path}")
    print(f"figures    {folder.path / 'curves.png'}, {folder.path / 'metrics.png'} (and .pdf)")


def run_missing(settings: Sweep, missing: Sequence[Settings], material: Material, folder: SweepFolder) -> None:
    """Run and keep the missing runs, here or on a cluster, with one bar over all of it."""
    seeds = len({run.seed for run in missing})
    total = seeds * settings.run.epochs_t + len(missing) * settings.run.epochs_f
    with tqdm(total=total, unit=" epochs", disable=not missing) as bar:

        def keep(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                folder.keep(outcome)

        def advance(phase: str, runs: int) -> None:
            bar.set_description(phase.replace("_", "-"), refresh=False)
            bar.update(runs)

        if settings.dask is not None:
            from noisy_feedback.cluster import run_on_cluster

            for outcomes in run_on_cluster(settings.dask, missing, material):
                keep(outcomes)
                trained = len({outcome.settings.seed for outcome in outcomes})
                advance("on the cluster", trained * settings.run.epochs_t + len(outcomes) * settings.run.epochs_f)
            return
        for group in groups_of_seeds(missing, SEEDS_AT_ONCE):
            with one_thread() as cores:
                found = run_all(group, material, cores, advance, tell=lambda text: None)
            keep([outcome for outcome, _ in found])


def groups_of_seeds(runs: Sequence[Settings], size: int) -> Iterator[list[Settings]]:
    """The runs in groups of at most `size` seeds."""
    seeds = list(dict.fromkeys(run.seed for run in runs))
    for start in range(0, len(seeds), size):
        chosen = set(seeds[start : start + size])
        yield [run for run in runs if run.seed in chosen]
