"""What the screen shows: lines, tables of at most 80 columns, and progress bars."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from noisy_feedback.config import SETTING_AXES, Config
from noisy_feedback.data.embeddings import Embeddings
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.reviews import SAMPLE_FILE, Reviews
from noisy_feedback.data.splits import LEFT_OUT, PARTS, Splits
from noisy_feedback.data.summary import summarize, summary_lines
from noisy_feedback.evaluation.results import RunResult, audit_record
from noisy_feedback.evaluation.statistics import mean_and_interval
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import GAP, Feedback
from noisy_feedback.metrics import METRICS
from noisy_feedback.output.sweep_tables import SweepTables

WIDTH = 80  # columns
FEW_COMPARISONS = 10
UNEQUAL_COMPARISONS = 0.2  # counts that differ by a larger share of the largest are reported

epoch_bar = partial(tqdm, unit=" epochs", leave=False)
print_above_bar = tqdm.write  # without disturbing a bar


def embedding_bar(chunks: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The chunks, one after the other, under a bar that counts their texts."""
    with tqdm(total=sum(map(len, chunks)), desc="embedding", unit=" texts", leave=False) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))


def count(number: int, noun: str) -> str:
    """As in `1 run` and `1,200 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def file_choice(folder: Path, file: Path) -> str:
    """Which file of a folder is read."""
    if file.name != SAMPLE_FILE:
        return f"data       {file}"
    return (
        f"{folder} has no TripAdvisor file: running on the bundled sample of made-up reviews "
        "(data/README.md says how to get the real ones)"
    )


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


def judgements(found: Judgements, splits: Splits) -> str:
    """How many human comparisons there are, by whom, in which parts of the split they are, and what they are like."""
    by = f" by {count(len(found.annotator_names), 'annotator')}" if found.annotators is not None else ""
    counts = {name: np.count_nonzero(splits.judgements == part) for part, name in PARTS.items()}
    in_part = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "none in any part"
    where = "texts in two parts, or in training" if len(splits.train) else "texts in two parts"
    lines = [
        f"judgements {len(found.chosen):,} of {count(found.pairs.max() + 1, 'pair')}{by} from {found.name}",
        f"           {in_part}; {np.count_nonzero(splits.judgements == LEFT_OUT):,} left out: {where}",
    ]
    if found.texts:
        lines.append(f"           {count(len(found.texts), 'text')} not among the reviews: part of fine-tuning")
    for part, so in (("validation", "ratings choose the best epoch"), ("test", "there is no preference accuracy")):
        if not counts[part]:
            lines.append(f"warning    no comparison in the {part} part: {so}")
    return "\n".join([*lines, *summary_lines(summarize(found))])


def embeddings(found: Embeddings, how: str) -> str:
    """The encoder, how the embeddings were obtained, and how many texts were truncated."""
    line = f"embeddings {found.vectors.shape[1]} dimensions from {found.info.model}, {how}"
    if found.truncated:
        line += (
            f"\n           {count(found.truncated, 'text')} cut at the encoder's limit of {found.max_tokens} tokens, "
            f"on the {found.info.truncate} (--truncate)"
        )
    return line


def feedback(config: Config, given: Feedback) -> str:
    """How much the noise changed, and how many comparisons there are."""
    what, done = ("comparison", "reversed") if config.noise == "reversed" else ("fine-tuning rating", "changed")
    lists, texts = len(given.lists), len(np.unique(given.lists))
    compared = {
        "human": f"{count(lists, 'human comparison')} ({config.labels})",
        "binary": f"{count(lists, 'pair')} {GAP} stars apart",
        "multiclass": f"{count(lists, 'list')} of {config.k + 1} different ratings",
    }
    found = compared.get(config.protocol, f"{count(lists, 'comparison')} ({config.protocol})")
    lines = [
        f"noise      {given.changed:,} of {count(given.total, what)} {done} (ratio {config.ratio:g}, {config.noise})",
        f"feedback   {found}, from {count(texts, 'text')}",
    ]
    if given.ties:
        lines.append(f"           {count(given.ties, 'pair')} left out: as many judgements for either order")
    return "\n".join([*lines, *few_comparisons(lists)])


def audit(given: Feedback, found: Audit) -> str:
    """What the audit estimates, and how right it is where the truth is known."""
    record = audit_record(given, found)
    truth = "" if math.isnan(record["true_flip_rate"]) else f"; in truth {record['true_flip_rate']:.1%}"
    estimate = "how many comparisons are wrong cannot be told from these judgements"
    if found.known:
        estimate = f"{found.estimated_flip_rate:.1%} of the comparisons are wrong (estimate)"
    lines = [
        f"audit      {estimate}{truth}",
        f"           95 % interval: {found.flip_rate_low:.1%} to {found.flip_rate_high:.1%}",
    ]
    if found.known and found.estimated_flip_rate > 0.5:
        lines.append("warning    more than half are wrong: are chosen and rejected exchanged?")
    if not math.isnan(record["auroc"]):
        lines.append(
            f"           of the {(given.flipped == 1).sum():,} most suspected {record['precision']:.1%} are wrong; "
            f"AUROC of p_wrong {record['auroc']:.3f}"
        )
    return "\n".join(lines)


def adaptive_kl_weight(used: Config) -> str:
    """The KL weight that follows from the audit."""
    if used.epochs_f:
        return f"KL weight  {used.kl_weight:.3g}, from the upper limit of this interval"
    return "KL weight  infinite: as many comparisons may be wrong as right, so nothing is fine-tuned"


def run_tables(result: RunResult, scale: np.ndarray) -> str:
    """Best epochs, test metrics before and after fine-tuning, confusion matrices.

    *Most frequent* is the baseline of always predicting the most frequent training rating.
    """
    best = f"best epoch {result.best_epochs['training']} of {len(result.training)} in training"
    columns = {"most frequent": result.majority, "before": result.before}
    if result.best and result.last:
        best += f", {result.best_epochs['fine_tuning']} of {len(result.fine_tuning)} in fine-tuning"
        columns |= {"best epoch": result.best, "last epoch": result.last}
    scores = pd.DataFrame({name: vars(metrics) for name, metrics in columns.items()}).loc[list(METRICS)].astype(float)
    scores = scores.dropna(how="all").rename(METRICS)  # some need ratings, some human comparisons
    text = scores.to_string(float_format="{:.3f}".format, na_rep="-", col_space=11)
    tables = [f"{best}\n\ntest part\n{text}{preference_note(result)}", *constant_start([result])]
    for name, metrics in columns.items():
        if name != "most frequent" and metrics.confusion_matrix:
            matrix = pd.DataFrame(metrics.confusion_matrix, scale, scale).rename_axis(columns="true \\ predicted")
            tables.append(f"confusion matrix, {name}\n{matrix.to_string()}")
    return "\n" + "\n\n".join(tables) + "\n"


def preference_note(result: RunResult) -> str:
    """How far the preference accuracy of the last model can be trusted, and what no model can exceed."""
    if (interval := (result.last or result.before).preference_interval) is None:
        return ""
    note = "\n95 % interval of the last preference accuracy, over pairs: {:.3f} to {:.3f}".format(*interval)
    if (most := result.comparisons["attainable_accuracy"]) is not None:
        note += f"\njudgements of a pair disagree so often that no model can expect more than {most:.3f}"
    return note


def summary_tables(sweep: SweepTables, results: Sequence[RunResult]) -> str:
    """Per metric, setting and noise ratio: best and last epoch, and the last epoch's paired differences; warnings."""
    seeds = sweep.runs["seed"].nunique()
    lines = [f"the tables cover all {count(len(results), 'run')} in the folder: {count(seeds, 'seed')}"]
    if sweep.summary["seeds"].min() < 2:
        lines.append("note       one seed has no 95 % interval")
    lines += [f"note       {note} in the ratings" for note in sweep.information_notes()]
    for metric in sweep.metrics:
        lines += ["", f"test {METRICS[metric]}: mean over seeds [95 % interval]; p: paired t-test"]
        baseline = "chance" if metric == "preference_accuracy" else "most frequent rating"
        lines.append(f"  {baseline} {number(sweep.runs[f'majority_{metric}'].mean())}")
        for setting in sweep.settings:
            lines += setting_lines(sweep, setting, metric)
    if results[0].config.protocol == "human" and results[0].audit:
        lines += flip_rate_lines(results)
    warnings = constant_start(results)
    if results[0].config.epochs_f:
        warnings += few_comparisons(sweep.runs["comparisons"].min()) + unequal_comparisons(sweep)
    return "\n".join([*lines, *(line for text in warnings for line in ("", text)), ""])


def setting_lines(sweep: SweepTables, setting: str, metric: str) -> list[str]:
    """The lines of one metric of one setting."""
    rows = sweep.summary.query("setting == @setting and metric == @metric").sort_values("place")
    best, last = (rows[rows["stage"] == stage] for stage in ("best", "last"))
    own = sweep.runs[sweep.runs["setting"] == setting].drop_duplicates("seed")  # which places may not have in common
    before = mean_and_interval(own[f"before_{metric}"].to_numpy())
    by_labels = f", noise ratio {own['ratio'].iloc[0]:g}" if sweep.axis == "labels" else ""
    lines = [f"  {setting}{by_labels}", f"  before fine-tuning {interval(before)}"]
    axis, width = sweep.axis.split()[0], max(5, *map(len, sweep.ticks))
    if len(last):
        header = f"{'best':>7}  {'last epoch':20}  {'vs before':>14}" + ("" if by_labels else f"  {'vs noise 0':>14}")
        lines.append(f"  {axis:>{width}}{'lists':>7}{header}")
    for (_, row), best_mean in zip(last.iterrows(), best["mean"], strict=True):
        lines.append(
            f"  {sweep.ticks[row['place']]:>{width}}{row['comparisons']:>7.0f}{number(best_mean):>7}  "
            f"{interval(row):20}  {difference(row, 'vs_before'):>14}  {difference(row, 'vs_noise0'):>14}".rstrip()
        )
    return lines


def flip_rate_lines(results: Sequence[RunResult]) -> list[str]:
    """The flip rate that the audit estimates, and the true one where it is known, by labels and noise ratio."""
    rows = [
        {
            "labels": run.config.labels,
            "noise": run.config.ratio,
            "estimated": run.audit["estimated_flip_rate"] if run.audit["known"] else math.nan,
            "true": run.audit["true_flip_rate"],
        }
        for run in results
        if run.audit
    ]
    means = pd.DataFrame(rows).groupby(["labels", "noise"], sort=False).mean().reset_index()
    text = means.to_string(index=False, float_format="{:.3f}".format, na_rep="-")
    return ["", "flip rate of the comparisons: mean over seeds", textwrap.indent(text, "  ")]


def constant_start(results: Sequence[RunResult]) -> list[str]:
    """A warning where the model before fine-tuning has learned no more than the most frequent rating."""
    seeds = {result.config.seed for result in results}
    constant = {result.config.seed for result in results if result.before.accuracy <= result.majority.accuracy}
    text = (
        f"in {len(constant)} of {count(len(seeds), 'seed')} the model before fine-tuning is no more accurate than "
        "always predicting the most frequent rating (--select macro_f1 chooses the best epoch by another score)"
    )
    return [warning(text)] if constant else []


def few_comparisons(least: int) -> list[str]:
    """A warning where a run has too few comparisons to learn from."""
    text = f"only {count(least, 'comparison')} in a run, too few to learn from: the result is chance"
    return [warning(text)] if least < FEW_COMPARISONS else []


def unequal_comparisons(sweep: SweepTables) -> list[str]:
    """A warning where noise ratios have different numbers of comparisons, and the option that makes them equal."""
    by_setting = sweep.summary.groupby(list(SETTING_AXES))["comparisons"].agg(["min", "max"])
    least, most = max(by_setting.itertuples(index=False), key=lambda counts: counts[1] - counts[0])
    smallest = sweep.runs["comparisons"].min()  # of a seed; the tables show means over seeds
    text = (
        f"noise ratios differ in the number of comparisons, {math.floor(least):,} to {math.ceil(most):,}: noise and "
        f"amount of feedback are mixed; --lists {smallest} makes them equal"
    )
    return [warning(text)] if most - least > UNEQUAL_COMPARISONS * most else []


def warning(text: str) -> str:
    """A warning below or above a table, wrapped as the table is."""
    indent = 11 * " "
    return textwrap.fill(text, WIDTH, initial_indent="warning    ", subsequent_indent=indent, break_on_hyphens=False)


def interval(row: Mapping[str, float] | pd.Series) -> str:
    return f"{number(row['mean'])} [{number(row['ci_low'])}, {number(row['ci_high'])}]"


def difference(row: pd.Series, name: str) -> str:
    """A mean difference and its p-value, as in `+0.012 p=0.125`."""
    if math.isnan(row[name]):
        return ""
    p = row[f"{name}_p"]
    return f"{row[name]:+.3f} " + ("" if math.isnan(p) else "p<0.001" if p < 0.001 else f"p={p:.3f}")


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
