"""A file of comparisons that people made -> judgements of pairs of texts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisy_feedback.data.columns import check_texts, has_no_text, read_columns, read_content
from noisy_feedback.errors import InputError

TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
OPTIONAL = ("prompt", "annotator", "pair", "correct", "wrong")
FORMAT = "a preference data set has the columns chosen and rejected: docs/human_feedback.md"


@dataclass(frozen=True)
class Judgements:
    """J judgements, in the order of the file: somebody preferred the text `chosen` to the text `rejected`.

    Texts are numbered: first the reviews, by their rows, then `texts`, which are in none. `pairs` (J,) numbers the
    pairs of texts, `annotators` (J,) are places in `annotator_names`, `correct` (J,) says whether the judgement agrees
    with the truth: 1, 0, or NaN where that is not known.
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
    groups: np.ndarray | None = None  # (J,) numbers of the prompts, where there are any


def read_judgements(file: Path, reviews: Sequence[str]) -> Judgements:
    """Read comparisons in the preference format of TRL, from a .csv, .tsv, .jsonl or .parquet file, gzipped or not.

    `chosen` and `rejected` are texts, or conversations as lists of role and content, whose contents are joined; a
    `prompt` goes in front of both. A text that is among the `reviews` takes its first row. Errors: InputError for what
    cannot be read, missing columns, texts that are empty or the same, and columns `annotator`, `pair` and `correct`
    that hold something else than their names say.
    """
    if not file.is_file():
        raise InputError(f"--comparisons {file}: no such file; {FORMAT}")
    content = read_content(file)
    table = read_columns(file, content, ("chosen", "rejected"), OPTIONAL, FORMAT, "comparison")
    if not len(table):
        raise InputError(f"{file}: holds no comparison")
    chosen, rejected = (texts_of(file, table, side) for side in ("chosen", "rejected"))
    same = (chosen == rejected).to_numpy()
    if same.any():
        raise InputError(f"{file}: comparison {same.argmax() + 1} compares a text with itself; remove it")
    row_of: dict[str, int] = {}
    for row, text in enumerate(reviews):
        row_of.setdefault(text, row)
    others = dict.fromkeys(text for text in (*chosen, *rejected) if text not in row_of)
    row_of |= {text: len(reviews) + number for number, text in enumerate(others)}
    better, worse = (texts.map(row_of).to_numpy(dtype=np.int64) for texts in (chosen, rejected))
    annotators, names = annotators_of(file, table)
    pairs = pairs_of(file, table, better, worse)
    correct = None
    if "correct" in table:
        correct = truth_of(file, table["correct"])
    elif "wrong" in table:  # a file that --export has written
        correct = 1 - truth_of(file, table["wrong"])
    if correct is not None:
        correct = truth_of_pairs(file, better, pairs, correct)
    sha256 = hashlib.sha256(content).hexdigest()
    return Judgements(file.name, file.parent, sha256, list(others), better, worse, pairs, annotators, names, correct)


def texts_of(file: Path, table: pd.DataFrame, side: str) -> pd.Series:
    """The texts of one side (J,), with their prompts. Errors: InputError naming the first that is none."""
    texts = table[side].map(plain_text)
    empty = texts.map(has_no_text).to_numpy(dtype=bool)
    if empty.any():
        raise InputError(
            f"{file}: comparison {empty.argmax() + 1} has no text (column {side!r}); remove or complete it"
        )
    check_texts(file, texts, "comparison")
    if "prompt" not in table:
        return texts
    prompts = table["prompt"].map(plain_text)
    check_texts(file, prompts, "comparison")
    return pd.Series([f"{prompt}\n{text}" if prompt else text for prompt, text in zip(prompts, texts, strict=True)])


def plain_text(value: Any) -> Any:
    """A text as it is; the contents of a conversation, joined by line breaks; anything else as it is, to be refused."""
    if not isinstance(value, (list, np.ndarray)):
        return value
    try:
        return "\n".join(message["content"] for message in value if isinstance(message["role"], str))
    except (TypeError, KeyError):
        return value


def annotators_of(file: Path, table: pd.DataFrame) -> tuple[np.ndarray | None, list[str]]:
    """Places (J,) in the sorted names, and the names. Errors: InputError for what is neither text nor whole number."""
    if "annotator" not in table:
        return None, []
    given = table["annotator"].tolist()
    some_missing = any(map(has_no_text, given))
    for number, value in enumerate(given, start=1):
        # Where one is missing, parsers read whole numbers as floats.
        whole = isinstance(value, (int, np.integer)) or (
            some_missing and isinstance(value, float) and value.is_integer()
        )
        if has_no_text(value) or not (isinstance(value, str) or whole) or isinstance(value, bool):
            raise InputError(
                f"{file}: the annotator of comparison {number} is {str(value)[:100]!r}; every one needs a name or a "
                "whole number, or remove the column 'annotator'"
            )
    names, places = np.unique(np.array(list(map(str, given)), dtype=object), return_inverse=True)
    return places.astype(np.int64), names.tolist()


def pairs_of(file: Path, table: pd.DataFrame, better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Numbers (J,) of the pairs, in the order of their first judgements: the column `pair`, or else the same two texts.

    Errors: InputError where judgements of one pair are of different texts.
    """
    texts = number_pairs(better, worse)
    if "pair" not in table:
        return texts
    missing = table["pair"].map(has_no_text).to_numpy(dtype=bool)
    if missing.any():
        raise InputError(f"{file}: comparison {missing.argmax() + 1} has no pair; complete or remove the column 'pair'")
    pairs = pd.factorize(table["pair"].astype(str))[0].astype(np.int64)
    first = texts[np.unique(pairs, return_index=True)[1]]
    if (wrong := first[pairs] != texts).any():
        raise InputError(
            f"{file}: comparison {wrong.argmax() + 1} has other texts than the first of its pair "
            f"{str(table['pair'].iloc[wrong.argmax()])[:100]!r}; correct or remove the column 'pair'"
        )
    return pairs


def number_pairs(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Numbers (J,) of the pairs of two numbered texts, whichever is the better, in the order of their first row."""
    low, high = np.minimum(better, worse), np.maximum(better, worse)
    return pd.factorize(low * (high.max() + 1) + high)[0].astype(np.int64)


def truth_of(file: Path, column: pd.Series) -> np.ndarray:
    """A column of truth values (J,): 1, 0, NaN where a cell is empty. Errors: InputError naming the first other."""
    known = [float("nan") if has_no_text(value) else TRUTH.get(str(value).strip().lower()) for value in column]
    for number, value in enumerate(known, start=1):
        if value is None:
            raise InputError(
                f"{file}: {column.name!r} of comparison {number} is {str(column.iloc[number - 1])[:100]!r}; "
                "it must be true, false or empty"
            )
    return np.array(known, dtype=float)


def truth_of_pairs(file: Path, better: np.ndarray, pairs: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """The truth (J,), also of judgements without one whose pair has a judgement with it.

    Errors: InputError naming the second of two judgements of a pair that cannot both be as `correct` says.
    """
    known = np.flatnonzero(~np.isnan(correct))
    reference = np.full(pairs.max() + 1, -1)
    reference[pairs[known[::-1]]] = known[::-1]  # the first judgement of each pair whose truth is known
    of_pair = reference[pairs]
    agrees = better == better[of_pair]
    truth = np.where(of_pair < 0, np.nan, np.where(agrees, correct[of_pair], 1 - correct[of_pair]))
    contradicts = ~np.isnan(correct) & (truth != correct)
    if contradicts.any():
        row = int(contradicts.argmax())
        raise InputError(
            f"{file}: 'correct' of comparison {row + 1} contradicts comparison {of_pair[row] + 1}, "
            "which is of the same pair"
        )
    return truth


def components(judgements: Judgements) -> np.ndarray:
    """Numbers (J,) of the groups of judgements whose texts are connected by judgements."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    texts = max(judgements.chosen.max(), judgements.rejected.max()) + 1
    edges = coo_array((np.ones(len(judgements.chosen)), (judgements.chosen, judgements.rejected)), shape=(texts, texts))
    return pd.factorize(connected_components(edges, directed=False)[1][judgements.chosen])[0]
