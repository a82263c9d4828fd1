import struct
import zipfile

import pytest
import sst5

from noisy_feedback.errors import InputError
from tests import conftest

TRAIN = "(3 (2 It) (4 (2 's) (4 (2 a) (4 treat))))\n(0 (1 Dreadful) (2 .))\n"
DEV = "(2 (2 Plain) (2 words))\n"
TEST = "(4 (3 (2 Short) (2 ,)) (4 sweet))\n(1 Meh)\n"


def zip_of(train=TRAIN, dev=DEV, test=TEST, **options):
    """A zip in the official layout; a member that is None is missing."""
    files = {"train": train, "dev": dev, "test": test}
    return conftest.zip_of({f"trees/{name}.txt": text for name, text in files.items() if text is not None}, **options)


def sentence(tree):
    """What becomes of the text of a single tree."""
    (review,) = sst5.read_treebank(zip_of(tree, "", ""))
    return review[0]


def test_train_dev_and_test_follow_one_another_with_the_root_label_plus_1():
    assert sst5.read_treebank(zip_of()) == [
        ("It 's a treat", 4),
        ("Dreadful .", 1),
        ("Plain words", 3),
        ("Short , sweet", 5),
        ("Meh", 2),
    ]


SPELLINGS = {
    "-LRB-": "(",
    "-RCB-": "}",
    r"\*and\/or": "*and/or",
    "``": "``",
    "café": "café",
    "cafÃ©": "café",
    "voilÃ\N{NO-BREAK SPACE}": "voilà",
    "3\N{NO-BREAK SPACE}1\\/2": "3 1/2",
    "naïve…": "naïve…",
}


def test_tokens_are_spelled_as_in_ordinary_text():
    assert [sentence(f"(2 {token})") for token in SPELLINGS] == list(SPELLINGS.values())


NO_TREES = {
    "(3 (2 It) (4 's)": "1 unclosed",
    "(3 (2 It)) (4 's))": "second tree",
    "(3 It))": r"unbalanced '\)'",
    "(3 (2 It) is)": "'is' without a label",
    "plain text": "'plain' without a label",
    "(5 It)": "label '5'",
    "(٣ It)": "label '٣'",
}


def test_a_line_that_is_no_tree_is_named():
    for tree, says in NO_TREES.items():
        with pytest.raises(InputError, match=rf"^trees/dev.txt, line 2: .*{says}[^\n]*$"):
            sst5.read_treebank(zip_of(dev=DEV + tree))


ZIPS = {
    "empty": (b"", "not a readable zip"),
    "cut short": (zip_of()[:200], "not a readable zip"),
    "wrong checksum": (zip_of(compression=zipfile.ZIP_STORED).replace(b"treat", b"trick"), "not a readable zip"),
    "missing member": (zip_of(test=None), "no trees/test.txt"),
    "latin-1": (zip_of(train="(2 caf\xe9)".encode("latin-1")), r"trees/train.txt: not UTF-8 text \(byte 6\)"),
}


def test_a_zip_that_cannot_be_read_is_one_line_with_the_way_out():
    for content, says in ZIPS.values():
        with pytest.raises(InputError, match=rf"^[^\n]*{says}[^\n]*fetch the official zip again[^\n]*$"):
            sst5.read_treebank(content)


def test_a_member_that_expands_without_end_is_refused_whatever_size_it_claims(monkeypatch):
    monkeypatch.setattr(sst5, "MAX_MEMBER_BYTES", 1000)
    content = zip_of(test=TEST * 100)
    with pytest.raises(InputError, match=r"trees/test.txt: more than 1,000 bytes"):
        sst5.read_treebank(content)
    with pytest.raises(InputError):
        sst5.read_treebank(content.replace(struct.pack("<I", len(TEST * 100)), struct.pack("<I", 10)))
