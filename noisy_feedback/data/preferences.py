"""A file of human comparisons -> judgements of pairs of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from noisy_feedback.data.columns import has_no_text, read_table
from noisy_feedback.data.groups import group_dialogues
from noisy_feedback.data.layouts import as_ids, find_numbers, read_comparisons
from noisy_feedback.errors import InputError
from noisy_feedback.files import sha256_of

TRUTH = {"true": 1, "false": 0, "1": 1, "0": 0}


@dataclass(frozen=True)
class Judgements:
    """J judgements, in the order of the file: somebody preferred the text `chosen` to the text `rejected`.

    Texts are numbered: first the reviews, by their rows, then `texts`, which are in none. `pairs` (J,) numbers the
    pairs of texts, `annotators` (J,) are places in `annotator_names`, `correct` (J,) says whether the judgement agrees
    with the truth: 1, 0, or NaN where that is not known. `groups` (J,) numbers what a split keeps in one part: the
    values of a column that the user named, else dialogues, prompts, or what shared texts connect. `prompts` (J,)
    numbers what both texts begin with; -1: nothing. `conversations`: some texts are several messages. `dropped` counts
    the rows that were left out, by reason; `unused` are columns of the file. `texts_sha256` is that of the file of
    texts, if there is one. `cut_alike` counts those that were left out since the encoder cuts their texts to the same.
    """

    name: str
    folder: Path
    sha256: str
    texts: list[str]
    chosen: np.ndarray
    rejected: np.ndarray
    pairs: np.ndarray
    annotators: np.ndarray | None
    annotator_names: list[str]
    correct: np.ndarray | None
    groups: np.ndarray
    prompts: np.ndarray
    conversations: bool = False
    dropped: dict[str, int] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    texts_sha256: str | None = None
    cut_alike: int = 0

    def without(self, alike: np.ndarray) -> "Judgements":
        """All but those (J,) whose texts the encoder cuts to the same; texts keep their numbers."""
        kept: dict[str, Any] = {name: rows[~alike] for name, rows in vars(self).items() if isinstance(rows, np.ndarray)}
        kept |= {name: number(kept[name]) for name in ("pairs", "groups")}
        return replace(self, **kept, cut_alike=int(alike.sum()))


def read_judgements(
    file: Path,
    reviews: Sequence[str],
    names: Mapping[str, str | None] = MappingProxyType({}),
    texts: Path | None = None,
    drop_invalid: bool = False,
) -> Judgements:
    """Read comparisons in any layout of docs/human_feedback.md, from every kind of file that holds reviews.

    `names` may name the columns of chosen, rejected, prompt, annotator and group, `texts` is a file of the texts whose
    ids are compared. `drop_invalid` leaves out ties, texts that are empty or equal, and judgements without an
    annotator. A text that is among the `reviews` takes its first row. Errors: InputError for what cannot be read,
    missing columns, such rows without `drop_invalid`, and columns `pair` and `correct` that hold something else than
    their names say.
    """
    table, unused = read_comparisons(file, read_table(file, "comparison"), names, texts)
    table, dropped = without_invalid(file, table, drop_invalid)
    chosen, rejected = table["chosen"], table["rejected"]
    known = set(reviews)
    others = list(dict.fromkeys(text for text in (*chosen, *rejected) if text not in known))
    row_of = {text: row for row, text in reversed([*enumerate([*reviews, *others])])}  # the first row of equal reviews
    better, worse = (column.map(row_of).to_numpy(dtype=np.int64) for column in (chosen, rejected))
    annotators = as_ids(table["annotator"]).astype("category").cat if "annotator" in table else None
    pairs = pairs_of(file, table, better, worse)
    return Judgements(
        name=file.name,
        folder=file.parent,
        sha256=sha256_of(file),
        texts=others,
        chosen=better,
        rejected=worse,
        pairs=pairs,
        annotators=None if annotators is None else annotators.codes.to_numpy(np.int64),
        annotator_names=[] if annotators is None else list(annotators.categories),
        correct=truth_of(file, table, better, pairs),
        groups=number(table["group"].astype(str)) if "group" in table else group_dialogues(table),
        prompts=number(table["prompt"]),
        conversations=bool(table["conversation"].any()),
        dropped=dropped,
        unused=unused,
        texts_sha256=None if texts is None else sha256_of(texts),
    )


def without_invalid(file: Path, table: pd.DataFrame, drop: bool) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows that are comparisons, and how many others there are, by the first reason that applies to them.

    Errors: InputError where there are others and `drop` is not set, and where nothing else is there.
    """
    words = pd.concat([table["chosen"], table["rejected"]]).map(lambda text: " ".join(text.casefold().split()))
    reasons = {
        "tied": table["tie"],
        "without a winner": table["undecided"],
        "with an empty text": table["empty"],
        "whose conversation does not end with the assistant": table["unanswered"],
        "of texts that are the same but for case and white space": np.equal(*np.split(pd.factorize(words)[0], 2)),
    }
    known = (name for name in ("annotator", "group", "pair") if name in table)
    reasons |= {f"without {name}": table[name].map(has_no_text).astype(bool) for name in known}
    flags = pd.DataFrame({reason: np.asarray(which) for reason, which in reasons.items()}, table.index)
    bad = flags.any(axis=1)
    reason_of = flags[bad].idxmax(axis=1)  # the first that applies
    counts = {reason: int((reason_of == reason).sum()) for reason in reasons if (reason_of == reason).any()}
    if counts and not drop:
        found = ", ".join(
            f"{count:,} {reason} (the first is comparison {reason_of.index[reason_of == reason][0] + 1})"
            for reason, count in counts.items()
        )
        unusable = f"{bad.sum():,} of {len(table):,} comparisons cannot be used: {found}"
        raise InputError(f"{file}: {unusable}; --drop-invalid leaves them out")
    if bad.all():
        raise InputError(f"{file}: --drop-invalid leaves no comparison")
    return table[~bad], counts


def pairs_of(file: Path, table: pd.DataFrame, better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Numbers (J,) of the pairs, in the order of their first judgements: the column `pair`, or else the same two texts.

    Errors: InputError where judgements of one pair are of different texts.
    """
    texts = number_pairs(better, worse)
    if "pair" not in table:
        return texts
    pairs = number(table["pair"].astype(str))
    first = texts[np.unique(pairs, return_index=True)[1]]
    if (wrong := first[pairs] != texts).any():
        row, name = table.index[wrong][0] + 1, str(table["pair"][wrong].iloc[0])[:100]
        way_out = "correct or remove the column 'pair'"
        raise InputError(f"{file}: comparison {row} has other texts than the first of its pair {name!r}; {way_out}")
    return pairs


def number(values: pd.Series | np.ndarray) -> np.ndarray:
    """Numbers (J,) of equal values, in the order of their first rows; -1 for what is missing."""
    return pd.factorize(values)[0].astype(np.int64)


def number_pairs(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Numbers (J,) of the pairs of two numbered texts, whichever is the better, in the order of their first row."""
    low, high = np.minimum(better, worse), np.maximum(better, worse)
    return number(low * (high.max() + 1) + high)


def truth_of(file: Path, table: pd.DataFrame, better: np.ndarray, pairs: np.ndarray) -> np.ndarray | None:
    """The truth (J,), also of judgements without one whose pair has a judgement with it; None without such a column.

    Errors: InputError where a cell is none, and where two judgements of a pair cannot both be as they say.
    """
    name = next((name for name in ("correct", "wrong") if name in table), None)
    if name is None:
        return None
    correct = find_numbers(file, table[name], TRUTH)
    if name == "wrong":  # a file that --export has written
        correct = 1 - correct
    first = np.unique(pairs, return_index=True)[1]
    as_first = better == better[first][pairs]
    first_is_right = pd.Series(np.where(as_first, correct, 1 - correct))
    of_pair = first_is_right.groupby(pairs).transform("first")  # the first that is known
    contradicts = first_is_right.notna() & (first_is_right != of_pair)
    if contradicts.any():
        raise InputError(
            f"{file}: {name!r} of comparison {table.index[int(contradicts.argmax())] + 1} contradicts an earlier "
            "comparison of the same pair; correct one of them"
        )
    return np.where(as_first, of_pair, 1 - of_pair)
