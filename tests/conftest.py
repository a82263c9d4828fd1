"""What several test files share: reviews that are learnt at a glance, and the scripts as a user starts them."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is imported: so before any test is

ROOT = Path(__file__).parents[1]


def write_planted(folder, ratings=None, dimensions=16):
    """A file of reviews, and beside it an `embeddings.pt` whose vectors lie around one centre per rating."""
    generator = np.random.default_rng(0)
    if ratings is None:
        ratings = generator.integers(1, 6, size=400)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "hotels.csv"
    with file.open("w", newline="", encoding="utf-8") as lines:
        rows = [(f"review {number}", int(rating)) for number, rating in enumerate(ratings)]
        csv.writer(lines).writerows([("Review", "Rating"), *rows])
    centres = generator.normal(size=(max(ratings) + 1, dimensions))
    vectors = centres[np.asarray(ratings)] + 0.3 * generator.normal(size=(len(ratings), dimensions))
    torch.save(torch.from_numpy(vectors).float(), folder / "embeddings.pt")
    return file


def start(study, *arguments, python=(), **environment):
    """`python main.py ...` in the folder of a study, not waited for."""
    return subprocess.Popen(
        [sys.executable, *python, "main.py", *map(str, arguments)],
        cwd=ROOT / study,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def finished(process):
    """What a started script has printed, on stdout and on stderr, once it has ended well."""
    screen, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return screen, error


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """A planted file of 400 reviews, for tests that only read."""
    return write_planted(tmp_path_factory.mktemp("planted"))
