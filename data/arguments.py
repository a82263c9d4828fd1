"""UKPConvArg1 (Habernal and Gurevych 2016, ACL, P16-1150): from a zip of its repository to ratings and comparisons.

The corpus has arguments on 32 topics, the sides of 16 web debates. `UKPConvArg1-Ranking-CSV` has the arguments of each
topic with their rank scores (a lower score is better). `UKPConvArg1-full-XML` has pairs of arguments of each topic, the
judgements of five crowd workers on every pair, and its gold label, which MACE estimates from them.
"""

import io
import math
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Hashable
from pathlib import PurePosixPath

import pandas as pd
from sst5 import read_member

from noisy_feedback.errors import InputError

RANKINGS = "UKPConvArg1-Ranking-CSV"
PAIRS = "UKPConvArg1-full-XML"
COUNTS = {"arguments": 1_052, "judgements": 55_255, "pairs": 12_792, "workers": 3_716}
OTHER = {"a1": "a2", "a2": "a1"}  # the other argument of a pair; a label can also be "equal"


def read_corpus(content: bytes) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Arguments and judgements from the bytes of a zip that holds the two folders, wherever they lie in it.

    Returns:
        - arguments, sorted by topic: Review (the text), Rating (1..5, see `ratings_from_scores`), Topic;
        - judgements: chosen, rejected (texts), annotator, correct (is it the gold label?), Topic, pair (0, 1, ...).
          Left out are judgements "equal" and pairs whose gold label is "equal" or missing.

    A topic is called as its file is in the folder it comes from. Errors: InputError where `content` is not such a zip.
    """
    arguments = read_arguments(content)
    return arguments.reset_index(drop=True), read_judgements(content, arguments["Review"].to_dict())


def read_arguments(content: bytes) -> pd.DataFrame:
    """Review, Rating and Topic of every argument; the index is its id. Errors: InputError."""
    rows = []
    for member in members(content, RANKINGS, ".csv"):
        ranking = read_ranking(member, read_member(content, member))
        ratings = ratings_from_scores([score for _, score, _ in ranking])
        for (name, _, text), rating in sorted(zip(ranking, ratings, strict=True)):
            rows.append((name, text, rating, PurePosixPath(member).stem))
    arguments = pd.DataFrame(rows, columns=["id", "Review", "Rating", "Topic"]).set_index("id")
    if arguments.index.has_duplicates:
        name = arguments.index[arguments.index.duplicated()][0]
        raise InputError(f"{RANKINGS}: argument {name[:40]!r} occurs twice; fetch the official zip again")
    return arguments


def read_judgements(content: bytes, texts: dict[Hashable, str]) -> pd.DataFrame:
    """The judgements of all pairs, see `read_corpus`; `texts` are the arguments by id. Errors: InputError."""
    rows = []
    pairs = 0
    for member in members(content, PAIRS, ".xml"):
        for pair in read_pairs(member, read_member(content, member)):
            gold = label(pair, "goldLabel")
            if gold not in OTHER:
                continue
            for judgement in pair.iterfind("mTurkAssignments/mTurkAssignment"):
                value = label(judgement, "value")
                if value in OTHER:
                    chosen, rejected = (text_of(pair, side, texts, member) for side in (value, OTHER[value]))
                    worker = label(judgement, "turkID")
                    rows.append((chosen, rejected, worker, value == gold, PurePosixPath(member).stem, pairs))
            pairs += 1
    judgements = pd.DataFrame(rows, columns=["chosen", "rejected", "annotator", "correct", "Topic", "pair"])
    return judgements.astype(dict.fromkeys(["chosen", "rejected", "annotator", "Topic"], "category"))


def members(content: bytes, folder: str, suffix: str) -> list[str]:
    """The zip's files directly in a folder of this name, sorted. Errors: InputError where there are none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except Exception as error:  # zipfile raises many kinds; to the user they are one
        raise InputError(f"not a readable zip ({str(error)[:200]}); fetch the official zip again") from None
    found = [name for name in names if PurePosixPath(name).match(f"{folder}/[!.]*{suffix}")]
    if not found:
        raise InputError(
            f"the zip holds no {folder}/*{suffix}; make a zip of the folders {PAIRS} and {RANKINGS}, "
            "unpacked if they are archives themselves, and give it with --zip FILE"
        )
    return sorted(found)


def read_ranking(member: str, text: str) -> list[tuple[str, float, str]]:
    """Id, rank score and text of a topic's arguments: tab-separated, below a line of names. Errors: InputError."""
    ranking = []
    for number, line in enumerate(text.split("\n")[1:], start=2):
        if not line.strip():
            continue
        try:
            name, score, argument = line.rstrip("\r").split("\t")
            if not math.isfinite(float(score)):
                raise ValueError
        except ValueError:
            raise InputError(
                f"{member}, line {number}: not an id, a rank score and a text; fetch the official zip again"
            ) from None
        ranking.append((name, float(score), argument.replace("<br/>", "\n")))
    return ranking


def ratings_from_scores(scores: list[float]) -> list[int]:
    """Ratings 1..5 of a topic's arguments: the quintile of the rank of the score, the lowest scores rated 5.

    Of equal scores the first is the lower. The quintiles are bounded as in pandas.qcut, at (n - 1) i / 5.
    """
    ratings = [0] * len(scores)
    for rank, row in enumerate(sorted(range(len(scores)), key=scores.__getitem__)):
        ratings[row] = 5 - max(0, (5 * rank - 1) // max(1, len(scores) - 1))
    return ratings


def read_pairs(member: str, text: str) -> list[ET.Element]:
    """The pairs in a topic's XML file. Errors: InputError where it is not XML, or could expand without end."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{member}: declares a document type or entities; fetch the official zip again")
    try:
        return ET.fromstring(text).findall("annotatedArgumentPair")
    except ET.ParseError as error:
        raise InputError(f"{member}: not readable XML ({error}); fetch the official zip again") from None


def text_of(pair: ET.Element, side: str, texts: dict[Hashable, str], member: str) -> str:
    """The text of a pair's argument `side`, a1 or a2, as in the ranking. Errors: InputError where it is not there."""
    name = label(pair, f"arg{side[1]}/id")
    if name not in texts:
        raise InputError(f"{member}: argument {name[:40]!r} is not in {RANKINGS}; fetch the official zip again")
    return texts[name]


def label(element: ET.Element, path: str) -> str:
    """The text at `path` without surrounding spaces; empty where there is none."""
    return element.findtext(path, "").strip()


def check_counts(arguments: pd.DataFrame, judgements: pd.DataFrame) -> None:
    """Refuse a corpus of another size than the official one. Errors: InputError."""
    found = {
        "arguments": len(arguments),
        "judgements": len(judgements),
        "pairs": judgements["pair"].nunique(),
        "workers": judgements["annotator"].nunique(),
    }
    if found != COUNTS:
        wrong = ", ".join(
            f"{found[name]:,} {name}, not {COUNTS[name]:,}" for name in COUNTS if found[name] != COUNTS[name]
        )
        raise InputError(f"the corpus has {wrong}; nothing was written; fetch the official zip again")
