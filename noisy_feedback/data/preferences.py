"""A file of human comparisons -> judgements of pairs of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from noisy_feedback.data.columns import read_table, without_invalid
from noisy_feedback.data.layouts import as_id, read_comparisons
from noisy_feedback.errors import InputError
from noisy_feedback.files import sha256_of

MOST_IN_ONE_GROUP = 0.5  # of all comparisons: beyond it no split by groups has parts of about the right sizes


@dataclass(frozen=True)
class Judgements:
    """J judgements, in the order of the file: somebody preferred the text `chosen` to the text `rejected`.

    Texts are numbered: first the reviews, by their rows, then `texts`, which are in none.
    """

    name: str
    folder: Path
    sha256: str
    texts: list[str]
    chosen: np.ndarray
    rejected: np.ndarray
    pairs: np.ndarray  # (J,) numbers of the pairs of texts
    annotators: np.ndarray | None  # (J,) places in annotator_names
    annotator_names: list[str]
    correct: np.ndarray | None  # (J,) whether the judgement agrees with the truth: 1, 0, or NaN where it is not known
    groups: np.ndarray  # (J,) numbers of what a split keeps in one part
    prompts: np.ndarray  # (J,) numbers of what both texts begin with; -1: nothing
    conversations: bool = False  # some texts are several messages
    dropped: dict[str, int] = field(default_factory=dict)  # rows that were left out, by reason
    unused: list[str] = field(default_factory=list)  # columns of the file
    texts_sha256: str | None = None  # of the file of texts, if there is one
    cut_alike: int = 0  # judgements that were left out since the encoder cuts their texts to the same

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

    `names` and `texts` are as in read_comparisons; `drop_invalid` leaves out rows that are no comparisons. A text that
    is among the `reviews` takes its first row. Errors: InputError.
    """
    table, unused = read_comparisons(file, read_table(file, "comparison"), names, texts)
    drop = set(table["invalid"]) if drop_invalid else ()
    table, dropped = without_invalid(file, table, drop, "comparison", "--drop-invalid leaves them out")
    if not len(table):
        raise InputError(f"{file}: --drop-invalid leaves no comparison")
    chosen, rejected = table["chosen"], table["rejected"]
    known = set(reviews)
    others = list(dict.fromkeys(text for text in (*chosen, *rejected) if text not in known))
    row_of = {text: row for row, text in reversed([*enumerate([*reviews, *others])])}  # the first row of equal reviews
    better, worse = (column.map(row_of).to_numpy(dtype=np.int64) for column in (chosen, rejected))
    annotators = table["annotator"].map(as_id).astype("category").cat if "annotator" in table else None
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
        correct=truth_of(file, table["correct"], better, worse, pairs) if "correct" in table else None,
        groups=number(table["group"].astype(str)) if "group" in table else group_dialogues(table),
        prompts=number(table["prompt"]),
        conversations=bool(table["conversation"].any()),
        dropped=dropped,
        unused=unused,
        texts_sha256=None if texts is None else sha256_of(texts),
    )


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


def truth_of(file: Path, correct: pd.Series, better: np.ndarray, worse: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The truth (J,), also of judgements without one whose pair has a judgement with it.

    Errors: InputError where two judgements of a pair cannot both be as they say.
    """
    known = correct.to_numpy(dtype=float)
    truly_better = pd.Series(np.where(known == 1, better, worse)).mask(np.isnan(known))
    of_pair = truly_better.groupby(pairs).transform("first")  # the first that is known
    contradicts = (truly_better.notna() & (truly_better != of_pair)).to_numpy()
    if contradicts.any():
        row, way_out = correct.index[contradicts][0] + 1, "correct one of them"
        raise InputError(
            f"{file}: comparison {row} contradicts what an earlier one of its pair says is true; {way_out}"
        )
    return np.where(of_pair.isna(), np.nan, better == of_pair)


def group_dialogues(table: pd.DataFrame) -> np.ndarray:
    """Group numbers (J,): what continues one dialogue, at whatever depth, or shares a prompt or text, is one group."""
    openings = pd.factorize(table["openings"].explode())[0].reshape(-1, 2)
    return components(*openings.T)


def components(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Group numbers (J,), in the order of the rows: rows are in one group if shared numbers connect them."""
    from scipy.sparse import coo_array  # half a second, which runs without human comparisons do without
    from scipy.sparse.csgraph import connected_components

    count = int(max(first.max(), second.max())) + 1
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(count, count))
    return pd.factorize(connected_components(graph, directed=False)[1][first])[0].astype(np.int64)
