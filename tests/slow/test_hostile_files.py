"""Reviews, embeddings and models that somebody has damaged, or made to do harm: a right result or one line, no more.

`--thorough N` tries N times as many files.
"""

import gzip
import hashlib
import io
import json
import random
import shutil
import signal
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch

from noisy_feedback.data.columns import FORMATS
from noisy_feedback.data.embeddings import embed, find_embeddings, find_embeddings_by_sha256
from noisy_feedback.data.encoder import find_encoder, load_encoder
from noisy_feedback.data.reviews import read_reviews
from noisy_feedback.errors import InputError
from tests.end_to_end.test_bad_input import Attack

pytestmark = pytest.mark.slow

TRAPS = ["", "", " ", "\n", '"', "'", ",", "\t", ";", "\\", "\\n", "NA", "null", "1e5", "#"]
PLANES = [(0x20, 0x7E), (0xA0, 0xD7FF), (0xE000, 0xFFFD), *((p << 16, (p << 16) + 0xFFFD) for p in range(1, 17))]


@contextmanager
def seconds(limit):
    """What takes longer than this hangs."""

    def give_up(*_):
        raise AssertionError(f"hangs: {limit} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


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


def one_line(error):
    text = str(error.value if hasattr(error, "value") else error)
    assert text.strip()
    assert len(" ".join(text.split())) < 1000


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


def written(texts, ratings, form, chance):
    """The file's content, in one of the ways in which it may be written."""
    frame = pd.DataFrame({"Review": texts, "Rating": ratings, "Else": chance.choice(["", "x", 'a "b", c'])})
    frame = frame[chance.sample(list(frame.columns), 3)]
    if form == ".parquet":
        file = io.BytesIO()
        frame.to_parquet(file)
        return file.getvalue()
    if form.startswith(".json"):
        plain = chance.random() < 0.5
        lines = [json.dumps(row, ensure_ascii=plain) for row in frame.to_dict("records")]
        array, end = form == ".json" and chance.random() < 0.5, chance.choice(["\n", "\r\n"])
        text = f"[{','.join(lines)}]" if array else end.join(lines) + chance.choice(["", "\n"])
    else:
        separator = "\t" if form == ".tsv" else ","
        text = frame.to_csv(index=False, sep=separator, lineterminator=chance.choice(["\n", "\r\n"]), quoting=1)
    return text.encode(chance.choice(["utf-8", "utf-8-sig"]))


def test_whatever_is_done_to_a_file_of_reviews_it_is_read_right_or_refused_in_one_line(tmp_path, thorough):
    chance = random.Random(thorough)
    read = refused = 0
    for case in range(400 * thorough):
        texts, ratings = random_reviews(chance)
        form, zipped, untouched = chance.choice(FORMATS), chance.random() < 0.2, case % 4 == 0
        content = written(texts, ratings, form, chance)
        if not untouched:
            for _ in range(chance.randint(1, 3)):
                content = damaged(content or b"x", chance)
        file = tmp_path / f"reviews{form}{'.gz' if zipped else ''}"
        content = gzip.compress(content, 1) if zipped else content
        if zipped and chance.random() < 0.5 and not untouched:
            content = damaged(content, chance)
        file.write_bytes(content)
        try:
            with seconds(30):
                found = read_reviews(file)
        except InputError as error:
            assert not untouched, (file.name, content[:500], error)
            one_line(error)
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


@pytest.fixture
def stored(tmp_path, tiny_encoder):
    """The tiny encoder, the one file of its store in `tmp_path`, and the vectors in it."""
    encoder = find_encoder(str(tiny_encoder), "mean")
    vectors = embed(TEXTS, encoder, tmp_path, "cpu").vectors
    (file,) = tmp_path.glob("*/*.safetensors")
    return encoder, file, vectors


def assert_right_or_none(stored, folder):
    """Whether the store's vectors are found, by both ways to find them; no others are."""
    encoder, _, vectors = stored
    sha256 = hashlib.sha256(vectors.numpy().data).hexdigest()
    with seconds(30):
        both = [
            find_embeddings(TEXTS, encoder, folder, "cpu"),
            find_embeddings_by_sha256(TEXTS, folder, folder / "embeddings.pt", sha256),
        ]
    for found in both:
        assert found is None or torch.equal(found.vectors, vectors)
        assert found is None or (found.truncated, found.max_tokens) == (0, 64)
    return both != [None, None]


def test_whatever_is_done_to_stored_embeddings_they_are_the_right_ones_or_none(tmp_path, stored, thorough):
    content, chance = stored[1].read_bytes(), random.Random(thorough)
    assert assert_right_or_none(stored, tmp_path)
    used = 0
    for _ in range(1000 * thorough):
        stored[1].write_bytes(damaged(content, chance))
        used += assert_right_or_none(stored, tmp_path)
    assert used < 100 * thorough  # nothing was done where two equal places were exchanged


# --- models that want to run code


def edit(folder, name, **changes):
    file = folder / name
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **changes}))


def modules(folder, *kinds):
    listed = [
        {"idx": n, "name": str(n), "path": f"{n}_part" if n else "", "type": kind} for n, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    for n in range(1, len(kinds)):
        (folder / f"{n}_part").mkdir()


OURS = "sentence_transformers.models."


def pickled_weights(folder, ran):
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings": Attack(ran)}, folder / "pytorch_model.bin")


def dense_with_code(folder, ran):
    modules(folder, OURS + "Transformer", OURS + "Pooling", OURS + "Dense")
    edit(folder / "1_part", "config.json", embedding_dimension=16, pooling_mode="mean")
    edit(
        folder / "2_part", "config.json", in_features=16, out_features=4, bias=True, activation_function="attack.Model"
    )
    torch.save({"linear.weight": Attack(ran)}, folder / "2_part" / "pytorch_model.bin")


WANTS_CODE = {
    "a module of its own": lambda folder, ran: modules(folder, "attack.Model"),
    "a configuration of its own": lambda folder, ran: edit(
        folder,
        "config.json",
        model_type="attack",
        auto_map={"AutoConfig": "attack.Config", "AutoModel": "attack.Model"},
    ),
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
        one_line(error)
    assert not ran.exists()
