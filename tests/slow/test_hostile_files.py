"""Reviews, embeddings and models that somebody has damaged, or made to do harm: a right result or one line, no more.

`--thorough N` tries N times as many files.
"""

import gzip
import json
import random
import shutil
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from noisy_feedback.data.columns import FORMATS
from noisy_feedback.data.embeddings import embed, find_embeddings, find_embeddings_by_sha256
from noisy_feedback.data.encoder import find_encoder, load_encoder
from noisy_feedback.data.reviews import read_reviews
from noisy_feedback.errors import InputError
from tests.conftest import content_of
from tests.end_to_end.test_bad_input import Attack

pytestmark = pytest.mark.slow

TRAPS = ["", "", " ", "\n", '"', "'", ",", "\t", ";", "\\", "\\n", "NA", "null", "1e5", "#"]
PLANES = [(0x20, 0x7E), (0xA0, 0xD7FF), (0xE000, 0xFFFD), *((p << 16, (p << 16) + 0xFFFD) for p in range(1, 17))]


@contextmanager
def seconds(limit):
    """What takes longer than this hangs: the alarm ends the tests."""
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)


def damaged(content, chance):
    """The content with one thing done to it."""
    first, last = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    before, between, after = content[:first], content[first:last], content[last:]
    bits = bytes(byte ^ 1 << chance.randrange(8) for byte in between[:8])
    inserted = chance.choice([chance.randbytes(chance.choice([1, 4, 64])), "\xe9t\xe9\r\n\"',;\t".encode("latin-1")])
    done = {
        "cut": before,
        "other bits": before + bits[:1] + between[1:] + after,
        "other bytes": before + bits + between[8:] + after,
        "zeros": before + bytes(len(between)) + after,
        "twice": before + between + between + after,
        "without": before + after,
        "swapped": after + between + before,
        "more": before + inserted + between + after,
    }
    return done[chance.choice(list(done))]


def assert_short(error):
    """The message of an error is there, and no longer than a reader takes in."""
    assert 0 < len(" ".join(str(error).split())) < 1000


# --- reviews


def random_text(chance):
    """Letters of every plane of Unicode, with what formats trip over in between."""
    parts = []
    for _ in range(chance.randint(1, 8)):
        first, last = chance.choice(PLANES)
        parts.append("".join(chr(chance.randint(first, last)) for _ in range(chance.randint(1, 5))))
        parts.append(chance.choice(TRAPS))
    return "x" + "".join(parts)


def random_reviews(chance):
    count, scale = chance.randint(10, 30), chance.choice([[1, 2, 3, 4, 5], [0, 1], [-3, 7, 2**52], list(range(11))])
    texts = [random_text(chance) for _ in range(count)]
    if chance.random() < 0.02:
        texts[0] = random_text(chance) * 100_000
    ratings = [chance.choice(scale) for _ in range(count)]
    ratings[:2] = scale[:2]
    return texts, ratings


def test_whatever_is_done_to_a_file_of_reviews_it_is_read_right_or_refused_in_one_line(tmp_path, thorough):
    chance = random.Random(thorough)
    read = refused = 0
    for case in range(400 * thorough):
        texts, ratings = random_reviews(chance)
        suffix, untouched = chance.choice(FORMATS), case % 4 == 0
        rows = [{"Review": text, "Rating": rating} for text, rating in zip(texts, ratings, strict=True)]
        content = content_of(rows, suffix)
        for _ in range(0 if untouched else chance.randint(1, 3)):
            content = damaged(content or b"x", chance)
        if chance.random() < 0.2:
            suffix, content = f"{suffix}.gz", gzip.compress(content, 1)
            content = content if untouched or chance.random() < 0.5 else damaged(content, chance)
        file = tmp_path / f"reviews{suffix}"
        file.write_bytes(content)
        try:
            with seconds(30):
                found = read_reviews(file)
        except InputError as error:
            assert not untouched, (file.name, content[:500], error)
            assert_short(error)
            refused += 1
        else:
            assert len(found.texts) == len(found.ratings) >= 10
            assert all(isinstance(text, str) and text.strip() and text.encode() for text in found.texts)
            assert (np.unique(found.ratings) == np.arange(len(found.scale))).all()
            assert (np.diff(found.scale) > 0).all()
            if untouched:
                assert found.texts == texts
                assert found.scale[found.ratings].tolist() == ratings
            read += 1
        file.unlink()
    assert read > 100
    assert refused > 100


# --- stored embeddings

TEXTS = [f"good {letter}" for letter in "abcdefghijkl"]


def test_whatever_is_done_to_stored_embeddings_they_are_the_right_ones_or_none(tmp_path, tiny_encoder, thorough):
    encoder = find_encoder(str(tiny_encoder), "mean")
    expected = embed(TEXTS, encoder, tmp_path, "cpu")
    (file,) = tmp_path.glob("*/*.safetensors")
    content, chance, used = file.read_bytes(), random.Random(thorough), 0
    for _ in range(1000 * thorough):
        with seconds(30):
            found = find_embeddings(TEXTS, encoder, tmp_path, "cpu")
            same = find_embeddings_by_sha256(TEXTS, tmp_path, tmp_path / "embeddings.pt", expected.info.sha256)
        for each in (found, same):
            assert each is None or torch.equal(each.vectors, expected.vectors)
            assert each is None or (each.truncated, each.max_tokens) == (0, 64)
        used += (found, same) != (None, None)
        file.write_bytes(damaged(content, chance))
    assert 0 < used < 100 * thorough  # nothing was done where two equal places were exchanged


# --- models that want to run code


def edit(folder, name, **changes):
    file = folder / name
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **changes}))


def modules(folder, *kinds):
    paths = ["", *(f"{n}_part" for n in range(1, len(kinds)))]
    listed = [{"idx": n, "name": str(n), "path": paths[n], "type": kind} for n, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(listed))
    for path in paths[1:]:
        (folder / path).mkdir()


OURS = "sentence_transformers.models."


def pickled_weights(folder, ran):
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings": Attack(ran)}, folder / "pytorch_model.bin")


def dense_with_code(folder, ran):
    modules(folder, OURS + "Transformer", OURS + "Pooling", OURS + "Dense")
    edit(folder / "1_part", "config.json", embedding_dimension=16, pooling_mode="mean")
    dense = {"in_features": 16, "out_features": 4, "bias": True, "activation_function": "attack.Model"}
    edit(folder / "2_part", "config.json", **dense)
    torch.save({"linear.weight": Attack(ran)}, folder / "2_part" / "pytorch_model.bin")


MAP = {"AutoConfig": "attack.Config", "AutoModel": "attack.Model"}
WANTS_CODE = {
    "a module of its own": lambda folder, ran: modules(folder, "attack.Model"),
    "a configuration of its own": lambda folder, ran: edit(folder, "config.json", model_type="attack", auto_map=MAP),
    "a model of its own": lambda folder, ran: edit(folder, "config.json", auto_map={"AutoModel": "attack.Model"}),
    "a tokenizer of its own": lambda folder, ran: edit(
        folder, "tokenizer_config.json", tokenizer_class="Attack", auto_map={"AutoTokenizer": ["attack.Model", None]}
    ),
    "pickled weights": pickled_weights,
    "an activation of its own": dense_with_code,
}


@pytest.mark.parametrize("name", WANTS_CODE)
def test_a_model_folder_that_wants_to_run_code_runs_none(tmp_path, tiny_encoder, name, monkeypatch):
    folder, ran = shutil.copytree(tiny_encoder, tmp_path / "model"), tmp_path / "ran"
    touch = f"open({str(ran)!r}, 'w')\n"
    code = f"{touch}class Model:\n    def __init__(self, *_, **__): {touch}Config = Model\n"
    (folder / "attack.py").write_text(code)
    monkeypatch.syspath_prepend(folder)  # at its worst: Python would find the code by its name
    WANTS_CODE[name](folder, ran)
    try:
        load_encoder(find_encoder(str(folder), "model"), "cpu").encode(["good"])
    except InputError as error:
        assert_short(error)
    assert not ran.exists()
