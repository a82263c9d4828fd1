"""What several test files share: small data sets, and the scripts as a user starts them."""

import contextlib
import gzip
import io
import json
import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings

from noisy_feedback import reproduce
from noisy_feedback.config import SWEEP_AXES
from noisy_feedback.data.preferences import Judgements, components, number_pairs
from noisy_feedback.errors import InputError
from noisy_feedback.output.records import without_nan

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is imported: so before any test is

settings.register_profile("any speed", deadline=None)
settings.load_profile("any speed")
torch.set_num_threads(1)  # a second thread makes small tensors slower, much so on a busy machine

ROOT = Path(__file__).parents[1]
SMALL = ("--epochs-t", "6", "--epochs-f", "6")  # epochs that are enough for most tests


def write_separable(folder, ratings=None, dimensions=16):
    """A file of 400 reviews, with an `embeddings.pt` in which the ratings are well separated; returns the file."""
    rng = np.random.default_rng(0)
    if ratings is None:
        ratings = rng.integers(1, 6, size=400)
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"Review": [f"review {row}" for row in range(len(ratings))], "Rating": ratings})
    frame.to_csv(folder / "hotels.csv", index=False)
    centres = rng.normal(size=(max(ratings) + 1, dimensions))
    vectors = centres[np.asarray(ratings)] + 0.3 * rng.normal(size=(len(ratings), dimensions))
    torch.save(torch.from_numpy(vectors).float(), folder / "embeddings.pt")
    return folder / "hotels.csv"


def write_overlapping(folder, rows=1000):
    """A file of reviews whose embeddings predict the rating with errors, so that noise in feedback can do harm."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    ratings = rng.choice(5, size=rows, p=[0.1, 0.1, 0.15, 0.3, 0.35])
    position = ratings[:, None] + 0.8 * rng.normal(size=(rows, 1))
    vectors = position * rng.normal(size=(1, 16)) + 0.3 * rng.normal(size=(rows, 16))
    frame = pd.DataFrame({"Review": [f"review {n}" for n in range(rows)], "Rating": ratings + 1})
    frame.to_csv(folder / "reviews.csv", index=False)
    torch.save(torch.from_numpy(vectors).float(), folder / "embeddings.pt")
    return folder / "reviews.csv"


@pytest.fixture(scope="session")
def separable_reviews(tmp_path_factory):
    """The file of `write_separable`, for tests that only read."""
    return write_separable(tmp_path_factory.mktemp("separable"))


@pytest.fixture(scope="session")
def overlapping_reviews(tmp_path_factory):
    """The file of `write_overlapping`, for tests that only read."""
    return write_overlapping(tmp_path_factory.mktemp("overlapping"))


@pytest.fixture(scope="module")
def quick_sweeps():
    """One process for a sweep, and figures that take no time to draw: both take longer than a small sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("noisy_feedback.processes.available_cores", lambda: 1)
        patch.setattr("noisy_feedback.output.plots.save_figure", lambda _, file: file.write_bytes(b"figure"))
        yield


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """A BERT of random weights that knows letters, in a folder: it loads and embeds at once."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **shape)).save_pretrained(folder)
    return folder


def pooled(folder, texts, pooling):
    """Embeddings (n, d) by transformers and a pooling in plain torch; "model" is that of all-MiniLM-L6-v2."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**tokens).last_hidden_state
    if pooling == "cls":
        return states[:, 0]
    mask = tokens["attention_mask"].unsqueeze(-1)
    mean = (states * mask).sum(1) / mask.sum(1)
    return mean if pooling == "mean" else torch.nn.functional.normalize(mean)


def judgements_of(orders, **more):
    """Judgements of (better, worse) numbers of texts, in pairs and groups by their texts."""
    chosen, rejected = np.array(orders).T
    fields = {"name": "judged.csv", "folder": Path(), "sha256": "", "texts": [], "chosen": chosen, "rejected": rejected}
    fields |= {"pairs": number_pairs(chosen, rejected), "annotators": None, "annotator_names": [], "correct": None}
    fields |= {"groups": components(chosen, rejected), "prompts": np.full(len(chosen), -1)}
    return Judgements(**fields | more)


def content_of(rows, suffix):
    """The content of a file of rows (dicts), of the kind that the suffix names; gzipped where it ends in .gz."""
    if suffix.endswith(".gz"):
        return gzip.compress(content_of(rows, suffix.removesuffix(".gz")))
    if suffix in (".json", ".jsonl"):
        lines = [json.dumps(row) for row in rows]
        return (f"[{', '.join(lines)}]" if suffix == ".json" else "\n".join(lines)).encode()
    table = pd.DataFrame(rows)
    if suffix == ".parquet":
        return table.to_parquet()
    return table.to_csv(index=False, sep="," if suffix == ".csv" else "\t").encode()


def zip_of(files, compression=zipfile.ZIP_DEFLATED):
    """A zip of texts by their names."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def message_of(folder, name, read, *given, **options):
    """The message, one line without the file's name at its beginning, with which `read` refuses the file `name`."""
    with pytest.raises(InputError) as error:
        read(*given, **options)
    message = str(error.value)
    assert message.startswith(f"{folder / name}: ")
    assert "\n" not in message
    return message.removeprefix(f"{folder / name}: ")


def options(reviews, output, *more):
    """The options of a small run or sweep on given embeddings."""
    return [str(part) for part in ("--path", reviews, "--pc", "--output", output, *SMALL, *more)]


def run_script(script, arguments, status=0):
    """Run `multiclass/main.py` or another script in this process, which saves seconds; returns what it prints."""
    path, out = ROOT / script, io.StringIO()
    with (
        mock.patch.object(sys, "argv", [path.name, *map(str, arguments)]),
        contextlib.chdir(path.parent),
        contextlib.redirect_stdout(out),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == status, out.getvalue()
    return out.getvalue()


def reproduced(folder, *more, status=0):
    """Call `python -m noisy_feedback.reproduce` in this process; returns what it prints."""
    out = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["reproduce", str(folder), *map(str, more)]),
        contextlib.redirect_stdout(out),
    ):
        assert reproduce.main() == status, out.getvalue()
    return out.getvalue()


def start_script(script, *arguments, **environment):
    """Start `python main.py ...` in the script's folder; does not wait."""
    path = ROOT / script
    return subprocess.Popen(
        [sys.executable, path.name, *map(str, arguments)],
        cwd=path.parent,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def output_of(process):
    """What a started script has printed, on stdout and on stderr, after it has ended with status 0."""
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out, error


def only_folder(output):
    """The one results folder in `output`."""
    (folder,) = (path for path in Path(output).iterdir() if path.is_dir() and not path.name.startswith("."))
    return folder


def files_of(folder):
    """The content of every file below a folder by its path there; without locks and temporary files."""
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def assert_same_cell(sweep, single):
    """The run that a sweep's folder keeps of the arguments of a single run has its numbers, bit for bit."""
    expected = json.loads((single / "run.json").read_text())
    axes = {axis: expected["config"][axis] for axis in SWEEP_AXES}
    kept = [json.loads(file.read_text()) for file in sweep.glob("runs/*.json")]
    (cell,) = (content for content in kept if content["axes"] == axes)
    for part in ("noise", "comparisons", "audit", "best_epochs", "majority", "before", "best", "last"):
        assert without_nan(cell[part]) == expected[part], part
    curves = pd.read_csv(single / "curves.csv")
    in_cell = pd.DataFrame([*cell["training"], *cell["fine_tuning"]])
    assert np.array_equal(in_cell.to_numpy(), curves[list(in_cell.columns)].to_numpy(), equal_nan=True)


def pytest_addoption(parser):
    parser.addoption("--thorough", type=int, default=1, metavar="N", help="N times as many faults and hostile files")


@pytest.fixture(scope="session")
def thorough(request):
    return request.config.getoption("--thorough")
