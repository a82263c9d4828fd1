"""A file of comparisons, in any layout of docs/human_feedback.md -> one table of chosen and rejected texts."""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, compress, cycle, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisy_feedback.data.columns import check_texts, has_no_text, read_table, select_columns
from noisy_feedback.data.groups import MOST_IN_ONE_GROUP, group_dialogues
from noisy_feedback.errors import InputError

FORMAT = (
    "a preference data set has the columns chosen and rejected; --chosen-column and --rejected-column name others, and "
    "docs/human_feedback.md lists all layouts that are read"
)
WINNERS = {"a": 1, "1": 1, "b": -1, "2": -1, "tie": 0, "tie (bothbad)": 0, "bothbad": 0, "both_bad": 0}
STRENGTHS = {"-3": 1, "-2": 1, "-1": 1, "0": 0, "1": -1, "2": -1, "3": -1}
ONE_HOT = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}  # Chatbot Arena's at Kaggle
ANY_WINNER = dict.fromkeys(("winner", "preference", ", ".join(ONE_HOT)), WINNERS)
TWO_TEXTS: dict[tuple[str, str], dict[str, dict[str, int]]] = {  # the columns that may say which won, and their values
    ("text_a", "text_b"): ANY_WINNER,
    ("response_a", "response_b"): ANY_WINNER,
    ("conversation_a", "conversation_b"): ANY_WINNER,
    ("response1", "response2"): {**ANY_WINNER, "overall_preference": STRENGTHS},  # the latter is HelpSteer3's
    ("response_1", "response_2"): {**ANY_WINNER, "preference_strength": STRENGTHS},  # HelpSteer2's
    ("response_0", "response_1"): {"better_response_id": {"0": 1, "1": -1}},  # PKU-SafeRLHF's
    ("human_ref_A", "human_ref_B"): {"labels": {"1": 1, "0": -1}},  # SHP's
}
PROMPTS = {"overall_preference": "context", "labels": "history"}  # HelpSteer3's and SHP's, beside these winners
SCORES = [
    tuple(form.format(side=side, word=word) for side in ("chosen", "rejected"))
    for word in ("score", "rating")
    for form in ("{word}_{side}", "{side}_{word}", "{side}-{word}")
]
OBJECTS = re.compile(r"\[\s*\{\s*(['\"])\w+\1\s*:")  # the beginning of a list of them
ROLE = re.compile(r"(['\"])(role\1\s*:|from\1\s*:\s*['\"](?i:human|gpt|system|user|assistant)['\"])")
ROLES = {"human": "user", "gpt": "assistant"}  # in ShareGPT's messages and HH-RLHF's dialogues
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")  # of HH-RLHF


def read_comparisons(
    file: Path, frame: pd.DataFrame, names: Mapping[str, str | None], texts: Path | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """The comparisons of a file with these columns, in its order, and the names of its columns that are not used.

    `names` may name the columns of chosen, rejected, prompt, annotator and group; `texts` is a file whose columns id
    and text say what the ids in the comparisons stand for. The table's index counts the rows of the file from 0. Its
    columns: `chosen` and `rejected`, the texts with their prompts; `prompt`, what both sides begin with, or None;
    `opening_chosen` and `opening_rejected`, the user's first message, else the prompt, else the text; the truth values
    `conversation`, and `tie`, `undecided`, `empty` and `unanswered`, why a row is no comparison; and those of
    `annotator`, `group`, `pair`, `correct`, `wrong`, `score_chosen` and `score_rejected` that there are. Errors:
    InputError.
    """
    frame = one_winner_a_row(file, frame)
    if not len(frame):
        raise InputError(f"{file}: holds no comparison")
    given = list(map(str, frame.columns))
    there = set(given)
    sides, winner = find_sides(names, there)
    used = dict(zip(("chosen", "rejected"), sides, strict=True))
    usual = {name: (name,) for name in ("annotator", "pair", "correct" if "correct" in there else "wrong")}
    for role, candidates in {**usual, "prompt": ("prompt", PROMPTS.get(winner, "prompt")), "group": ()}.items():
        if name := names.get(role) or next((name for name in candidates if name in there), None):
            used[role] = name
    scores = next((columns for columns in SCORES if not winner and there.issuperset(columns)), ())
    used |= dict(zip(("score_chosen", "score_rejected"), scores, strict=False))
    wanted = dict.fromkeys([*used.values(), winner] if winner else used.values())
    frame = select_columns(file, frame, list(wanted), FORMAT, "comparison")
    unused = [name for name in given if name not in frame.columns]
    table = pd.DataFrame({role: frame[name] for role, name in used.items()})
    if texts is not None:
        text_of = read_texts(texts)
        for role in ("chosen", "rejected"):
            ids = frame[used[role]]
            table[role] = look_up(file, ids, as_ids(ids), text_of, f"an id in {texts}")
    elif sides == ("response_a", "response_b") and "prompt" in table:
        roles = ["prompt", "chosen", "rejected"]
        turns = [join_turns(*row) for row in zip(*(table[role] for role in roles), strict=True)]
        table[roles] = pd.DataFrame(turns, table.index, roles, object)
    for role in ("chosen", "rejected", "prompt"):
        if role in table:
            table[role] = read_cells(file, table[role].rename(used[role]))
    outcome = find_numbers(file, frame[winner], TWO_TEXTS[sides][winner]) if winner else np.ones(len(table))
    first, second = table["chosen"], table["rejected"]
    table["chosen"], table["rejected"] = first.where(outcome >= 0, second), second.where(outcome >= 0, first)
    table["tie"], table["undecided"] = outcome == 0, np.isnan(outcome)
    return put_together(table), unused


def rated_texts(file: Path, frame: pd.DataFrame, group_column: str | None) -> pd.DataFrame | None:
    """Both texts of each comparison, with their scores as ratings: columns of texts, ratings and groups.

    The groups are those of `group_column`, else of group_dialogues; no column where one holds most texts. The index
    counts the rows of the file. None where a file has no scores of chosen and rejected texts. Errors: InputError.
    """
    scores = next((names for names in SCORES if {"chosen", "rejected", *names} <= set(frame.columns)), None)
    if scores is None:
        return None
    table, _ = read_comparisons(file, frame, {"group": group_column})
    if group_column is None:
        table["group"] = group_dialogues(table)
    columns = ["chosen, rejected", ", ".join(scores), "group"]
    sides = (table[[side, f"score_{side}", "group"]] for side in ("chosen", "rejected"))
    both = pd.concat([side.mask(table["empty"]).set_axis(columns, axis=1) for side in sides])
    grouped = group_column is not None or table["group"].value_counts().iloc[0] <= MOST_IN_ONE_GROUP * len(table)
    return both[~both.map(str).duplicated()].sort_index(kind="stable")[columns[: 2 + grouped]]


def find_sides(names: Mapping[str, str | None], there: set[str]) -> tuple[tuple[str, str], str]:
    """The columns of the two texts, and the one that says which of them won; "" where the columns themselves do."""
    sides = (names.get("chosen") or "chosen", names.get("rejected") or "rejected")
    if not (names.get("chosen") or names.get("rejected") or there.issuperset(sides)):
        found = [(pair, name) for pair, winners in TWO_TEXTS.items() if there.issuperset(pair) for name in winners]
        if found:
            return next((layout for layout in found if layout[1] in there), found[0])
    return sides, ""


def one_winner_a_row(file: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each response of Argilla's export of a question `preference`; one column for the three of Kaggle's.

    Errors: InputError where responses and users differ in number.
    """
    lists = {"preference.responses": "preference", "preference.responses.users": "annotator"}
    if "preference.responses" in frame.columns:
        there = [name for name in lists if name in frame.columns]
        try:
            frame = frame.explode(there).rename(columns=lists)
        except ValueError:
            raise InputError(f"{file}: {' and '.join(map(repr, there))} must be lists of the same length") from None
    if set(ONE_HOT) <= set(frame.columns):
        won = frame[list(ONE_HOT)].map(lambda cell: str(cell).strip().lower() in ("1", "1.0", "true")).to_numpy()
        winner = [" and ".join(compress(ONE_HOT.values(), row)) for row in won]
        frame = frame.drop(columns=list(ONE_HOT)).assign(**{", ".join(ONE_HOT): winner})
    return frame


def find_numbers(file: Path, column: pd.Series, number_of: Mapping[str, float]) -> np.ndarray:
    """What the words of a column mean, however they are written; NaN where a cell is empty (J,). Errors: InputError."""
    keys = column.map(str).str.strip().str.lower()
    before = r"|^(model|text|response|conversation)_?" if number_of is WINNERS else ""
    keys = keys.str.replace(rf"\.0${before}", "", regex=True)
    return look_up(file, column, keys, number_of, f"one of {', '.join(number_of)}, or empty").to_numpy(dtype=float)


def look_up(file: Path, column: pd.Series, keys: pd.Series, meaning: Mapping[str, Any], expected: str) -> pd.Series:
    """What the keys of a column mean; an empty cell stays empty. Errors: InputError naming the first unknown one."""
    unknown = ~keys.isin(meaning.keys()) & ~column.map(has_no_text).astype(bool)
    if unknown.any():
        row, cell = column.index[unknown][0] + 1, str(column[unknown].iloc[0])[:100]
        raise InputError(f"{file}: {column.name!r} of comparison {row} is {cell!r}; it must be {expected}")
    return keys.map(meaning).astype(object)


# --- texts


def read_texts(file: Path) -> dict[str, Any]:
    """The texts of a file of columns id and text, by their ids. Errors: InputError, also where two have one id."""
    hint = "a file of texts has the columns id and text"
    table = select_columns(file, read_table(file, "text"), ("id", "text"), hint, "text")
    ids = as_ids(table["id"])
    if (again := ids.duplicated()).any():
        raise InputError(f"{file}: text {again.argmax() + 1} has the id {ids[again.argmax()][:100]!r} of another text")
    return dict(zip(ids, table["text"], strict=True))


def as_ids(column: pd.Series) -> pd.Series:
    """Ids as texts; where one is missing, parsers read integers as floats."""
    return column.astype(str).str.replace(r"^(\d+)\.0$", r"\1", regex=True)


def join_turns(*row: Any) -> Sequence[Any]:
    """Chatbot Arena's lists of strings, the turns of the user and of the two models, as two conversations."""
    prompt, *answers = lists = [parse(cell) for cell in row]
    if not all(isinstance(turns, list) and len(turns) == len(prompt) for turns in lists):
        return row
    speakers = ("user", "assistant")
    conversations = (chain.from_iterable(zip(prompt, turns, strict=True)) for turns in answers)
    return "", *(
        [{"role": role, "content": turn or ""} for role, turn in zip(cycle(speakers), turns, strict=False)]
        for turns in conversations
    )


def parse(cell: Any) -> Any:
    """A list that is written into a cell as JSON, or of objects as Python; anything else as it is."""
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    if not isinstance(cell, str) or not cell.lstrip().startswith("["):
        return cell
    for read in (json.loads, ast.literal_eval) if OBJECTS.match(cell.lstrip()) else (json.loads,):
        try:
            return read(cell.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return cell


def messages_of(cell: Any) -> list[tuple[str, str]] | None:
    """Role and text of each message of a conversation; a text is one without a role. None for anything else."""
    if has_no_text(cell):
        return []
    if isinstance(cell, str) and not (OBJECTS.match(cell.lstrip()) and ROLE.search(cell)):
        return turns_of(cell)
    try:
        messages = parse(cell)
        return [read_message(message) for message in ([messages] if isinstance(messages, dict) else messages)]
    except (AttributeError, TypeError, KeyError):
        return None


def read_message(message: Any) -> tuple[str, str]:
    """Role and text of a message, with `role` and `content` or as ShareGPT's.

    Errors: AttributeError, TypeError, KeyError for anything else.
    """
    # Parquet gives every message all keys of the column, None where there is none.
    role, content = ("role", "content") if message.get("role") is not None else ("from", "value")
    speaker = str.lower(message[role])
    return ROLES.get(speaker, speaker), text_of_content(message[content])


def turns_of(text: str) -> list[tuple[str, str]]:
    """The messages of a dialogue that is written as in HH-RLHF; any other text is a message without a role."""
    before, *parts = TURN.split(text.lstrip())
    if before or "Human" not in parts[:1] or "Assistant" not in parts[2::2]:
        return [("", text)]
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [read_message({"from": speaker, "value": said.strip()}) for speaker, said in turns]


def text_of_content(content: Any) -> str:
    """The text of a message: a string, or parts of which some are text. Errors: TypeError, KeyError for all else."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return "\n".join(part["text"] for part in parts if part["type"] == "text")


def read_cells(file: Path, column: pd.Series) -> pd.Series:
    """The messages of each cell of a column. Errors: InputError naming the first cell that is neither text nor any."""
    found = []
    for number, cell in zip(column.index + 1, column, strict=True):
        if (messages := messages_of(cell)) is None:
            raise InputError(
                f"{file}: comparison {number} is {repr(cell)[:100]}; it must be text, or a conversation: a list of "
                f"messages with role and content (column {column.name!r})"
            )
        found.append(messages)
    check_texts(file, pd.Series(map(join, found), column.index, object, column.name), "comparison")
    return pd.Series(found, column.index, object)


def join(messages: Iterable[tuple[str, str]]) -> str:
    """The texts of messages in lines."""
    return "\n".join(text for _, text in messages)


def put_together(table: pd.DataFrame) -> pd.DataFrame:
    """Replace messages by texts with their prompts, and find which are no texts or answers."""
    prompts: Iterable[Any] = table["prompt"] if "prompt" in table else ([] for _ in table.index)
    rows = []
    for given, *sides in zip(prompts, table["chosen"], table["rejected"], strict=True):
        while given and not given[-1][1].strip():  # "Assistant:", after which both answers begin
            given.pop()
        prompt, texts = join(given), [join(side) for side in sides]
        empty = any(not side or not side[-1][1].strip() for side in sides)
        unanswered = any(side and side[-1][0] not in ("", "assistant") for side in sides)
        if not given:
            same = takewhile(lambda turns: turns[0] == turns[1], zip(*(side[:-1] for side in sides), strict=False))
            prompt = join(turn for turn, _ in same)
        elif not all(begins(text, side, prompt) for text, side in zip(texts, sides, strict=True)):
            texts, sides = [f"{prompt}\n{text}" for text in texts], [[*given, *side] for side in sides]
        openings = [opening(side[:-1]) or prompt or text for text, side in zip(texts, sides, strict=True)]
        conversation = any(role for role, _ in chain(given, *(side[:-1] for side in sides)))
        rows.append((*texts, prompt or None, *openings, conversation, empty, unanswered))
    texts = ["chosen", "rejected", "prompt", "opening_chosen", "opening_rejected"]
    flags = ["conversation", "empty", "unanswered"]
    found = pd.DataFrame(rows, table.index, [*texts, *flags], object).astype(dict.fromkeys(flags, bool))
    return pd.concat([found, table.drop(columns=["chosen", "rejected", "prompt"], errors="ignore")], axis=1)


def begins(text: str, messages: Sequence[tuple[str, str]], prompt: str) -> bool:
    """Whether a text begins with the prompt, or a conversation has it before its last message."""
    return text.lstrip().startswith(prompt.strip()) or prompt in (message for _, message in messages[:-1])


def opening(messages: Iterable[tuple[str, str]]) -> str:
    """The first message of the user: all that continues a dialogue has it in common. Empty where there is none."""
    return next((text for role, text in messages if role in ("", "user") and text.strip()), "")
