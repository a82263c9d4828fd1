"""A file of comparisons, in any layout of docs/human_feedback.md -> one table of chosen and rejected texts."""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, compress, cycle, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisy_feedback.data.columns import check_texts, first_missing, has_no_text, listed, read_table, select_columns
from noisy_feedback.errors import InputError

FORMAT = "--chosen-column and --rejected-column name the texts; docs/human_feedback.md lists all layouts that are read"
SIDES = ("chosen", "rejected")
EMPTY = "with an empty text"  # why a row is no comparison
ONE_HOT = ("winner_model_a", "winner_model_b", "winner_tie")  # Chatbot Arena's at Kaggle
ANY_WINNER = ("winner", "preference")
TWO_TEXTS = {  # and the columns that may say which won
    ("text_a", "text_b"): ANY_WINNER,
    ("response_a", "response_b"): ANY_WINNER,
    ("conversation_a", "conversation_b"): ANY_WINNER,
    ("response1", "response2"): (*ANY_WINNER, "overall_preference"),  # the latter is HelpSteer3's
    ("response_1", "response_2"): (*ANY_WINNER, "preference_strength"),  # HelpSteer2's
    ("response_0", "response_1"): ("better_response_id",),  # PKU-SafeRLHF's
    ("human_ref_A", "human_ref_B"): ("labels",),  # SHP's
}
WINNERS = {"a": 1, "1": 1, "model_a": 1, "b": -1, "2": -1, "model_b": -1}  # 1: the first text won
WINNERS |= dict.fromkeys(("tie", "both_bad", "bothbad", "tie (bothbad)"), 0)
STRENGTHS = {"-3": 1, "-2": 1, "-1": 1, "0": 0, "1": -1, "2": -1, "3": -1}
OUTCOMES = {  # of other columns than ANY_WINNER
    "overall_preference": STRENGTHS,
    "preference_strength": STRENGTHS,
    "better_response_id": {"0": 1, "1": -1},
    "labels": {"1": 1, "0": -1},
}
TRUTHS = {
    "correct": {"true": 1, "false": 0, "1": 1, "0": 0},
    "wrong": {"true": 0, "false": 1, "1": 0, "0": 1},  # in a file that --export has written
}
USUAL = {"wrong": "correct"} | {name: name for name in ("correct", "prompt", "annotator", "pair")}  # names and roles
PROMPTS = {"overall_preference": "context", "labels": "history"}  # HelpSteer3's and SHP's, beside these winners
SCORES = {
    form.format(side=side, word=word): f"score_{side}"
    for side in SIDES
    for word in ("rating", "score")  # the last that is there counts
    for form in ("{side}-{word}", "{side}_{word}", "{word}_{side}")
}
OBJECTS = re.compile(r"\[\s*\{\s*(['\"])\w+\1\s*:")  # the beginning of a list of them
ROLE = re.compile(r"(['\"])(role\1\s*:|from\1\s*:\s*['\"](?i:human|gpt|system|user|assistant)['\"])")
ROLES = {"human": "user", "gpt": "assistant"}  # in ShareGPT's messages
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")  # of HH-RLHF
Messages = list[tuple[str, str]]  # role and text of each


def read_comparisons(
    file: Path, frame: pd.DataFrame, names: Mapping[str, str | None], texts: Path | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """The comparisons of a file with these columns, in its order, and the names of its columns that are not used.

    `names` may name the columns of chosen, rejected, prompt, annotator and group; `texts` is a file whose columns id
    and text say what the ids in the comparisons stand for. The table's index counts the rows of the file from 0, its
    columns are those of read_row. Errors: InputError.
    """
    frame = one_winner_a_row(file, frame)
    if not len(frame):
        raise InputError(f"{file}: holds no comparison")
    columns = find_columns(names, set(frame.columns))
    unused = [str(name) for name in frame.columns if name not in columns.values()]
    table = select_columns(file, frame, list(columns.values()), FORMAT, "comparison").set_axis(list(columns), axis=1)
    if texts is not None:
        table = with_texts(file, table, texts)
    meanings: dict[str, Mapping[str, Any]] = {}
    if winner := columns.get("winner"):
        by_name = {columns["chosen"].lower(): 1, columns["rejected"].lower(): -1}
        meanings["winner"] = by_name | OUTCOMES.get(winner, WINNERS)
    if truth := columns.get("correct"):
        meanings["correct"] = TRUTHS[truth]
    rows = []
    for number, cells in zip(table.index + 1, table.to_dict("records"), strict=True):
        try:
            rows.append(read_row(cells, columns, meanings))
        except InputError as error:
            raise InputError(f"{file}: comparison {number}: {error}") from None
    table = pd.DataFrame(rows, table.index, dtype=object)
    for side in SIDES:
        check_texts(file, table[side], "comparison")
    return table, unused


def find_columns(names: Mapping[str, str | None], there: set[str]) -> dict[str, str]:
    """The columns of a file by their roles: those that `names` names, and those of a layout that are `there`."""
    columns = {side: side for side in SIDES} | {role: name for role, name in names.items() if name}
    if not (names.get("chosen") or names.get("rejected") or there.issuperset(SIDES)):
        found = [(*pair, winner) for pair, winners in TWO_TEXTS.items() if there.issuperset(pair) for winner in winners]
        best = max(found, key=lambda layout: layout[-1] in there, default=())
        columns |= dict(zip((*SIDES, "winner"), best, strict=False))
    others = {PROMPTS.get(columns["winner"]): "prompt"} if "winner" in columns else SCORES
    return {role: name for name, role in (others | USUAL).items() if name in there} | columns


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
        winner = [" and ".join(compress(("model_a", "model_b", "tie"), row)) for row in won]
        frame = frame.drop(columns=list(ONE_HOT)).assign(winner=winner)
    return frame


def with_texts(file: Path, table: pd.DataFrame, texts: Path) -> pd.DataFrame:
    """The comparisons with the texts that their ids stand for, of the file `texts` with the columns id and text.

    Errors: InputError, also for an unknown id, and where two texts have one id.
    """
    hint = "a file of texts has the columns id and text"
    known = select_columns(texts, read_table(texts, "text"), ("id", "text"), hint, "text")
    known["id"] = known["id"].map(as_id)
    if (again := known["id"].duplicated()).any():
        row = again.argmax()
        raise InputError(f"{texts}: text {row + 1} has the id {known['id'][row][:100]!r} of another text")
    for side in SIDES:
        ids = table[side][~table[side].map(has_no_text)].map(as_id)
        if (unknown := ~ids.isin(known["id"])).any():
            row, name = ids.index[unknown][0] + 1, ids[unknown].iloc[0][:100]
            raise InputError(f"{file}: comparison {row}: {texts} has no text with the id {name!r}")
        table = table.assign(**{side: ids.map(known.set_index("id")["text"])})  # NaN where there is no id
    return table


# --- one row


def read_row(
    cells: dict[Any, Any], columns: Mapping[str, str], meanings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """One comparison from its cells by their roles, whose names in the file are `columns`; the other cells stay.

    `chosen` and `rejected` are the texts with their prompts, `prompt` what both begin with, or None; `openings` the two
    first messages of the user, else the prompt, else the texts; `conversation` says whether there are several messages;
    `correct` is 1, 0 or None; `invalid` says why the row is no comparison, or is None. `meanings` are those of the
    words of a role. Errors: InputError, which names neither file nor row.
    """
    missing = first_missing({role: cells[role] for role in ("annotator", "group", "pair") if role in cells})
    cells |= {role: look_up(cells[role], meaning, columns[role]) for role, meaning in meanings.items()}
    outcome = cells.pop("winner", 1)
    turns = read_turns(cells) if columns["chosen"] == "response_a" else None
    given, *sides = turns or [read_cell(cells.get(role), columns.get(role)) for role in ("prompt", *SIDES)]
    if outcome == -1:
        sides.reverse()
    answers = [side[-1] if side else ("", "") for side in sides]
    prompt, texts, sides = with_prompt(given, sides)
    reasons = {
        "tied": outcome == 0,
        "without a winner": outcome is None,
        EMPTY: not all(text.strip() for _, text in answers),
        "whose conversation does not end with the assistant": any(role not in ("", "assistant") for role, _ in answers),
        "of texts that are the same but for case and white space": len(
            {" ".join(text.casefold().split()) for text in texts}
        )
        == 1,
    }
    openings = [opening(side[:-1]) or prompt or text for text, side in zip(texts, sides, strict=True)]
    return cells | {
        **dict(zip(SIDES, texts, strict=True)),
        "prompt": prompt or None,
        "openings": openings,
        "conversation": any(role for role, _ in chain(given, *(side[:-1] for side in sides))),
        "invalid": next((reason for reason, applies in reasons.items() if applies), missing),
    }


def look_up(cell: Any, meaning: Mapping[str, Any], column: str) -> Any:
    """What a word means, however it is written; None where a cell is empty. Errors: InputError for an unknown word."""
    if has_no_text(cell):
        return None
    if (word := as_id(str(cell).strip().lower())) not in meaning:
        raise InputError(f"{column!r} is {str(cell)[:100]!r}; it must be empty or one of {listed(meaning)}")
    return meaning[word]


def as_id(cell: Any) -> str:
    """An id as text; where one is missing, parsers read integers as floats."""
    return re.sub(r"^(-?\d+)\.0$", r"\1", str(cell))


def read_turns(cells: Mapping[str, Any]) -> list[Messages] | None:
    """Chatbot Arena's lists of strings, the turns of the user and of the two models, as conversations; else None."""
    asked, *answers = lists = [parse(cells.get(role)) for role in ("prompt", *SIDES)]
    if not all(isinstance(turns, list) and len(turns) == len(asked) for turns in lists):
        return None
    if not all(isinstance(turn, str | None) for turn in chain(*lists)):  # messages, which are read as such
        return None
    conversations = (chain.from_iterable(zip(asked, turns, strict=True)) for turns in answers)
    roles = ("user", "assistant")
    return [[], *([(role, turn or "") for role, turn in zip(cycle(roles), turns)] for turns in conversations)]


def read_cell(cell: Any, column: str | None) -> Messages:
    """Role and text of each message of a conversation; a text is one without a role. Errors: InputError for others."""
    if has_no_text(cell):
        return []
    if isinstance(cell, str) and not (OBJECTS.match(cell.lstrip()) and ROLE.search(cell)):
        return turns_of(cell)
    try:
        messages = parse(cell)
        return [read_message(message) for message in ([messages] if isinstance(messages, dict) else messages)]
    except (AttributeError, TypeError, KeyError):
        must = "it must be text, or a conversation: a list of messages with role and content"
        raise InputError(f"{column!r} is {repr(cell)[:100]}; {must}") from None


def parse(cell: Any) -> Any:
    """A list that is written into a cell as JSON or by Python; anything else as it is."""
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        for read in (json.loads, ast.literal_eval) if OBJECTS.match(cell.lstrip()) else (json.loads,):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                return read(cell.strip())
    return cell


def read_message(message: Any) -> tuple[str, str]:
    """Role and text of a message, with `role` and `content` or as ShareGPT's; the text is a string, or in parts.

    Errors: AttributeError, TypeError, KeyError for anything else.
    """
    # Parquet gives every message all keys of the column, None where there is none.
    role, content = ("role", "content") if message.get("role") is not None else ("from", "value")
    speaker, said = str.lower(message[role]), message[content]
    parts = [{"type": "text", "text": said}] if isinstance(said, str) else said
    return ROLES.get(speaker, speaker), "\n".join(part["text"] for part in parts if part["type"] == "text")


def turns_of(text: str) -> Messages:
    """The messages of a dialogue that is written as in HH-RLHF; any other text is a message without a role."""
    before, *parts = TURN.split(text.lstrip())
    if before or "Human" not in parts[:1] or "Assistant" not in parts[2::2]:
        return [("", text)]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [(roles[speaker], said.strip()) for speaker, said in zip(parts[::2], parts[1::2], strict=True)]


def join(messages: Iterable[tuple[str, str]]) -> str:
    """The texts of messages in lines."""
    return "\n".join(text for _, text in messages)


def with_prompt(given: Messages, sides: list[Messages]) -> tuple[str, list[str], list[Messages]]:
    """What both sides begin with: the given prompt, else the messages that they share; their texts, and messages."""
    while given and not given[-1][1].strip():  # "Assistant:", after which both answers begin
        given.pop()
    prompt, texts = join(given), [join(side) for side in sides]
    if not given:
        same = takewhile(lambda turns: turns[0] == turns[1], zip(*(side[:-1] for side in sides), strict=False))
        prompt = join(turn for turn, _ in same)
    elif not all(begins(text, side, prompt) for text, side in zip(texts, sides, strict=True)):
        return prompt, [f"{prompt}\n{text}" for text in texts], [[*given, *side] for side in sides]
    return prompt, texts, sides


def begins(text: str, messages: Sequence[tuple[str, str]], prompt: str) -> bool:
    """Whether a text begins with the prompt, or a conversation has it before its last message."""
    return text.lstrip().startswith(prompt.strip()) or prompt in (message for _, message in messages[:-1])


def opening(messages: Iterable[tuple[str, str]]) -> str:
    """The first message of the user: all that continues a dialogue has it in common. Empty where there is none."""
    return next((text for role, text in messages if role in ("", "user") and text.strip()), "")
