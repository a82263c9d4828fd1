"""What the screen shows: lines, tables of at most 80 columns, progress bars."""

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from noisy_feedback.config import SETTING_AXES, Config
from noisy_feedback.data.embeddings import Embeddings
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.reviews import SAMPLE_FILE, Reviews, Splits
from noisy_feedback.evaluation.metrics import METRICS, Metrics
from noisy_feedback.evaluation.results import RunResult, audit_record
from noisy_feedback.feedback import human
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.feedback.protocols import GAP

if TYPE_CHECKING:  # pandas and scipy, which a single run does without
    import pandas as pd

WIDTH = 80  # columns
FEW_COMPARISONS = 10
UNEQUAL_COMPARISONS = 0.2  # counts that differ by a larger share of the largest are reported


def file_choice(folder: Path, file: Path) -> str:
    """Which file of a folder is read."""
    if file.name == SAMPLE_FILE:
        return (
            f"{folder} has no TripAdvisor file: running on the bundled sample of made-up reviews "
            "(data/README.md says how to get the real ones)"
        )
    return f"data       {file}"


def reviews(found: Reviews, splits: Splits) -> str:
    """The data set, its ratings, and the sizes of the four parts."""
    counts = np.bincount(found.ratings, minlength=len(found.scale))
    ratings = ", ".join(f"{star}: {count:,}" for star, count in zip(found.scale, counts, strict=True))
    dropped = ", ".join(f"{count:,} {what}" for what, count in found.dropped.items())
    return (
        f"reviews    {len(found.texts):,} from {found.name} ({ratings})"
        + (f"\ndropped    {dropped}" if dropped else "")
        + f"\nparts      {len(splits.train):,} training, {len(splits.validation):,} validation, "
        f"{len(splits.fine_tuning):,} fine-tuning, {len(splits.test):,} test"
    )


def judgements(found: Judgements, part: np.ndarray) -> str:
    """How many comparisons people made, by whom, and in which parts (J,) of the split they are."""
    by = f" by {len(found.annotator_names):,} annotators" if found.annotators is not None else ""
    in_part = [f"{(part == number).sum():,} {name}" for number, name in human.PARTS.items()]
    lines = [
        f"warning    no comparison in the {name} part: {effect}"
        for number, name, effect in (
            (human.VALIDATION, "validation", "ratings choose the best epoch"),
            (human.TEST, "test", "there is no preference accuracy"),
        )
        if not (part == number).any()
    ]
    if found.texts:
        count = f"{len(found.texts):,} texts of the comparisons are in no review, word for word"
        lines.insert(0, f"           {count}: they count as fine-tuning")
    head = (
        f"judgements {len(found.chosen):,} of {found.pairs.max() + 1:,} pairs{by} from {found.name}"
        f"\n           {', '.join(in_part)}; {(part == human.LEFT_OUT).sum():,} left out: texts in two parts, or in "
        "training"
    )
    return "\n".join([head, *lines])


def embeddings(found: Embeddings, how: str) -> str:
    """The encoder, how the embeddings were obtained, and how many texts were truncated."""
    line = f"embeddings {found.vectors.shape[1]} dimensions from {found.info.model}, {how}"
    if found.truncated:
        line += f"\n           {found.truncated:,} reviews were cut at the encoder's limit of {found.max_tokens} tokens"
    return line


def feedback(config: Config, given: Feedback) -> str:
    """How much the noise changed, and how many comparisons there are."""
    what = "comparisons reversed" if config.noise == "reversed" else "fine-tuning ratings changed"
    kind = "" if config.noise == "uniform" else f", {config.noise}"
    texts = len(np.unique(given.lists))
    lines = [
        f"noise      {given.changed:,} of {given.total:,} {what} (ratio {config.ratio:g}{kind})",
        f"feedback   {len(given.lists):,} {kind_of_comparison(config)}, from {texts:,} reviews",
    ]
    if given.ties:
        lines.append(f"           {given.ties:,} pairs left out: as many judgements for either order")
    if len(given.lists) < FEW_COMPARISONS:
        lines.append(f"warning    {len(given.lists)} comparisons are too few to learn from: the result is chance")
    return "\n".join(lines)


def kind_of_comparison(config: Config) -> str:
    """What a protocol compares."""
    if config.protocol == "human":
        return f"human comparisons ({config.labels})"
    if config.protocol == "binary":
        return f"pairs {GAP} stars apart"
    return f"lists of {config.k + 1} different ratings"


def audit(given: Feedback, found: Audit) -> str:
    """What the audit estimates, and how right it is where the truth is known."""
    record = audit_record(given, found)
    rate, auroc, precision = record["true_flip_rate"], record["auroc"], record["precision"]
    low, high = (f"{100 * limit:.1f}" for limit in (found.flip_rate_low, found.flip_rate_high))
    lines = [
        f"audit      {found.estimated_flip_rate:.1%} of the comparisons are wrong (estimate; 95 %: {low} to {high} %)"
    ]
    if not found.known:
        lines = [
            "audit      how many comparisons are wrong cannot be told from these judgements "
            f"(somewhere between {low} and {high} %)"
        ]
    if rate is not None:
        lines[0] += f"; in truth {rate:.1%}"
    if found.known and found.estimated_flip_rate > 0.5:
        lines.append("warning    more than half are wrong: are chosen and rejected exchanged?")
    if auroc is not None and precision is not None:
        wrong = int((given.flipped == 1).sum())
        lines.append(
            f"           of the {wrong:,} most suspected {precision:.1%} are wrong; AUROC of p_wrong {auroc:.3f}"
        )
    return "\n".join(lines)


def run_tables(result: RunResult, scale: np.ndarray) -> str:
    """Best epochs, test metrics before and after fine-tuning, confusion matrices."""
    best = f"best epoch {result.best_epochs['training']} of {len(result.training)} in training"
    columns = {"most frequent": result.majority, "before": result.before}
    if result.best and result.last:
        best += f", {result.best_epochs['fine_tuning']} of {len(result.fine_tuning)} in fine-tuning"
        columns |= {"best epoch": result.best, "last epoch": result.last}
    tables = [f"{best}\n\ntest part\n{metrics_table(columns)}"]
    if result.before.accuracy <= result.majority.accuracy:
        tables.append(
            warning(
                "the model before fine-tuning is no more accurate than always predicting the most frequent rating "
                "(--select macro_f1 chooses the best epoch by another score)"
            )
        )
    matrices = {name: metrics.confusion_matrix for name, metrics in columns.items() if name != "most frequent"}
    tables += [f"confusion matrix, {name}\n{confusion_table(matrix, scale)}" for name, matrix in matrices.items()]
    return "\n" + "\n\n".join(tables) + "\n"


def metrics_table(columns: Mapping[str, Metrics]) -> str:
    """One line per metric; *most frequent* is the baseline of always predicting the most frequent training rating."""
    lines = [f"{'':27}" + "".join(f"{name:>13}" for name in columns)]
    for field, name in METRICS.items():
        if field == "preference_accuracy" and all(math.isnan(getattr(metrics, field)) for metrics in columns.values()):
            continue  # there are no comparisons of people
        lines.append(f"{name:27}" + "".join(f"{number(getattr(metrics, field)):>13}" for metrics in columns.values()))
    return "\n".join(lines)


def confusion_table(matrix: Sequence[Sequence[int]], scale: np.ndarray) -> str:
    """True ratings down, predicted ratings across."""
    width = max(len(str(cell)) for cell in (*scale, *np.ravel(matrix))) + 2
    lines = ["true \\ predicted" + "".join(f"{star:>{width}}" for star in scale)]
    for star, row in zip(scale, matrix, strict=True):
        lines.append(f"{star:>16}" + "".join(f"{cell:>{width}}" for cell in row))
    return "\n".join(lines)


def summary_tables(summary: "pd.DataFrame", results: Sequence[RunResult]) -> str:
    """Per metric, setting and noise ratio: best and last epoch, and the last epoch's paired differences."""
    from noisy_feedback.evaluation.statistics import setting_names, shown_metrics

    summary = summary.assign(setting=setting_names(summary))
    seeds = sorted({result.config.seed for result in results})
    lines = [f"the tables cover all {len(results)} runs in the folder: {len(seeds)} seeds"]
    if summary["seeds"].min() < 2:
        lines.append("note       one seed has no 95 % interval")
    for metric in shown_metrics(summary):
        majority = np.mean([getattr(result.majority, metric) for result in results])
        rows = summary[summary["metric"] == metric]
        lines += ["", f"test {METRICS[metric]}: mean over seeds [95 % interval]; p: paired t-test"]
        lines.append(f"  most frequent rating {number(float(majority))}")
        for name in dict.fromkeys(rows["setting"]):
            lines += setting_lines(name, rows[rows["setting"] == name])
    return "\n".join([*lines, *few_comparisons(results), *unequal_comparisons(summary, results), ""])


def setting_lines(name: str, rows: "pd.DataFrame") -> list[str]:
    """The lines of one setting of loss, KL weight and kind of noise."""
    before = f"before fine-tuning {interval(rows[rows['stage'] == 'before'].iloc[0])}"
    together = f"  {name}; {before}"
    title = [together] if len(together) <= WIDTH else [f"  {name}", f"  {before}"]
    lines = [
        *title,
        f"  {'noise':>5}{'lists':>7}{'best':>7}  {'last epoch':20}  {'vs before':>14}  {'vs noise 0':>14}",
    ]
    last, best = (rows[rows["stage"] == stage].sort_values("ratio") for stage in ("last", "best"))
    for (_, row), best_mean in zip(last.iterrows(), best["mean"], strict=True):
        lines.append(
            f"  {row['ratio']:>5g}{row['comparisons']:>7.0f}{number(best_mean):>7}  {interval(row):20}  "
            f"{difference(row, 'vs_before'):>14}  {difference(row, 'vs_noise0'):>14}".rstrip()
        )
    return lines if len(last) else title


def few_comparisons(results: Sequence[RunResult]) -> list[str]:
    """A warning where a run had too few comparisons to learn from."""
    least = min(result.comparisons["count"] for result in results)
    if not any(result.fine_tuning for result in results) or least >= FEW_COMPARISONS:
        return []
    return ["", warning(f"a run has only {least} comparisons, too few to learn from: its result is chance")]


def unequal_comparisons(summary: "pd.DataFrame", results: Sequence[RunResult]) -> list[str]:
    """A warning where noise ratios have different numbers of comparisons, and the option that makes them equal."""
    by_setting = [group["comparisons"] for _, group in summary.groupby(list(SETTING_AXES))]
    counts = max(by_setting, key=lambda counts: counts.max() - counts.min())
    if not counts.max() or 1 - counts.min() / counts.max() <= UNEQUAL_COMPARISONS:
        return []
    least = min(result.comparisons["count"] for result in results)  # of a seed; the tables show means over seeds
    return [
        "",
        warning(
            f"noise ratios differ in the number of comparisons, {math.floor(counts.min()):,} to "
            f"{math.ceil(counts.max()):,}: noise and amount of feedback are mixed; --lists {least} makes them equal"
        ),
    ]


def warning(text: str) -> str:
    """A warning below or above a table, wrapped as the table is."""
    indent = 11 * " "
    return textwrap.fill(text, WIDTH, initial_indent="warning    ", subsequent_indent=indent, break_on_hyphens=False)


def interval(row: "pd.Series") -> str:
    return f"{number(row['mean'])} [{number(row['ci_low'])}, {number(row['ci_high'])}]"


def difference(row: "pd.Series", name: str) -> str:
    """A mean difference and its p-value, as in `+0.012 p=0.125`."""
    if math.isnan(row[name]):
        return ""
    p = row[f"{name}_p"]
    return f"{row[name]:+.3f} " + ("" if math.isnan(p) else "p<0.001" if p < 0.001 else f"p={p:.3f}")


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def embedding_bar(chunks: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The chunks, one after the other, under a bar that counts their reviews."""
    with tqdm(total=sum(map(len, chunks)), desc="embedding", unit=" reviews", leave=False) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))


@contextmanager
def epoch_bar(phase: str, epochs: int) -> Iterator[Callable[[], None]]:
    """A bar over the epochs of a phase; yields what to call after each epoch."""
    with tqdm(total=epochs, desc=phase, unit=" epochs", leave=False) as bar:
        yield lambda: bar.update() and None


def print_above_bar(text: str) -> None:
    """Print text without disturbing a bar."""
    tqdm.write(text)
