"""The Stanford Sentiment Treebank (Socher et al. 2013): from the official zip to sentences and ratings 1..5.

The treebank has one tree per line, written as in the Penn Treebank: `(3 (2 It) (4 (2 's) (3 fun)))`. The label of
the root, 0..4, is the sentiment of the sentence; the leaves are its tokens.
"""

import hashlib
import io
import re
import zipfile

from noisy_feedback.errors import InputError

MEMBERS = ("trees/train.txt", "trees/dev.txt", "trees/test.txt")
MAX_MEMBER_BYTES = 20_000_000  # the largest official file has about 2 MB; a crafted zip can expand without end
SENTENCES = 11_855
# SHA-256 of the ratings of all sentences in order, written as digits without anything between them.
RATINGS_SHA256 = "52ece8b2c4a1bdcc186bf50116f6e078a25695c7e1329b6586f422ff403b6550"
# SHA-256 of the CSV file that the published results were computed on.
CSV_SHA256 = "b940ad0c5bc7b9b478afa0f048015900a180f8112d891476c402681dd4c9f275"

PENN_ESCAPES = {
    "-LRB-": "(",
    "-RRB-": ")",
    "-LSB-": "[",
    "-RSB-": "]",
    "-LCB-": "{",
    "-RCB-": "}",
    r"\/": "/",
    r"\*": "*",
}
# Spaces and tabs only: `\s` would also split a token at the no-break space inside it, as in "9 1/2".
SYMBOL = re.compile(r"[ \t]*(?:\((?P<label>[^() \t]*)|(?P<close>\))|(?P<token>[^() \t]+))")


def read_treebank(content: bytes) -> list[tuple[str, int]]:
    """Sentences and ratings 1..5 of train, dev and test, one after the other, from the bytes of the official zip.

    A rating is the label of the tree's root plus 1. Errors: InputError where `content` is not such a zip.
    """
    reviews = []
    for member in MEMBERS:
        lines = read_member(content, member).split("\n")
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    label, tokens = parse_tree(line.rstrip("\r"))
                except InputError as error:
                    raise InputError(f"{member}, line {number}: {error}; fetch the official zip again") from None
                reviews.append((" ".join(map(plain_token, tokens)), label + 1))
    return reviews


def read_member(content: bytes, member: str) -> str:
    """The text of one file in the zip. Errors: InputError where it is missing, unreadable or far too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(member) as file:
            text = file.read(MAX_MEMBER_BYTES + 1)
    except KeyError:
        raise InputError(f"the zip holds no {member}; fetch the official zip again") from None
    except Exception as error:  # zipfile and its decompressors raise many kinds; to the user they are one
        raise InputError(f"not a readable zip ({str(error)[:200]}); fetch the official zip again") from None
    if len(text) > MAX_MEMBER_BYTES:
        raise InputError(f"{member}: more than {MAX_MEMBER_BYTES:,} bytes; fetch the official zip again")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{member}: not UTF-8 text (byte {error.start}); fetch the official zip again") from None


def parse_tree(line: str) -> tuple[int, list[str]]:
    """The root's label, 0..4, and the tokens of one tree. Errors: InputError where `line` is not one tree.

    A node is a label and either one token or one or more nodes. There is no recursion, so depth is no limit.
    """
    root, tokens = None, []
    depth, position, end = 0, 0, len(line.rstrip(" \t"))
    previous = ""  # kind of the last symbol
    while position < end:
        symbol = SYMBOL.match(line, position)
        assert symbol is not None  # every character belongs to a symbol
        kind = symbol.lastgroup or ""
        text = symbol[kind]
        if kind == "label":
            if text not in ("0", "1", "2", "3", "4"):
                raise InputError(f"the label {text[:20]!r} is not one of 0 to 4")
            if previous == "token" or (depth == 0 and root is not None):
                raise InputError(f"a second tree or misplaced '(' at character {symbol.end()}")
            root = int(text) if root is None else root
            depth += 1
        elif kind == "close":
            if depth == 0 or previous == "label":
                raise InputError(f"unbalanced ')' or empty node at character {symbol.end()}")
            depth -= 1
        else:
            if previous != "label":
                raise InputError(f"token {text[:20]!r} without a label of its own")
            tokens.append(text)
        previous, position = kind, symbol.end()
    if root is None or depth > 0:
        raise InputError(f"{depth} unclosed parentheses" if root is not None else "no tree")
    return root, tokens


def plain_token(token: str) -> str:
    """A token as it is written in ordinary text: without the escapes of the Penn Treebank."""
    for escape, plain in PENN_ESCAPES.items():
        token = token.replace(escape, plain)
    return single_encoded(token).replace("\N{NO-BREAK SPACE}", " ")


def single_encoded(token: str) -> str:
    """Repair text that was encoded as UTF-8 twice, as accents are in some copies of the treebank."""
    try:
        return token.encode("latin-1").decode("utf-8")
    except UnicodeError:  # the usual case: a letter such as "é" alone is not the UTF-8 of another one
        return token


def check_ratings(reviews: list[tuple[str, int]]) -> None:
    """Refuse sentences that are not the official ones in the official order. Errors: InputError."""
    digits = "".join(str(rating) for _, rating in reviews)
    if hashlib.sha256(digits.encode()).hexdigest() != RATINGS_SHA256:
        raise InputError(
            f"the ratings of these {len(reviews):,} sentences are not those of the {SENTENCES:,} of the treebank; "
            "nothing was written; fetch the official zip again"
        )
