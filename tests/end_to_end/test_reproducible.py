"""A first start, which embeds, and a second one, which reads the stored embeddings, give the same bytes."""

import random

import pandas as pd

from tests.conftest import files_of, only_folder, run_script

OPTIONS = ["--epochs-t", "3", "--epochs-f", "3", "--k", "2"]


def write_reviews(file):
    """Reviews of every length up to beyond the encoder's limit, so that its products have many shapes."""
    rng = random.Random(0)
    words = ["été", "room", "staff", "lovely", "dirty", "never", "again", "好", "breakfast", "loud", "view"]
    reviews = [(" ".join(rng.choices(words, k=2 * n + 1)), n % 5 + 1) for n in range(60)]
    rng.shuffle(reviews)
    file.parent.mkdir(parents=True)
    pd.DataFrame(reviews, columns=["Review", "Rating"]).to_csv(file, index=False, encoding="utf-8")


def test_a_second_start_with_the_stored_embeddings_gives_the_same_bytes(tmp_path, tiny_encoder, monkeypatch):
    # Drawing takes longer than everything else, and has a test of its own.
    monkeypatch.setattr("noisy_feedback.output.plots.save_figure", lambda _, file: file.write_bytes(b"figure"))
    file = tmp_path / "data" / "hôtels.csv"
    write_reviews(file)
    command = ["--path", file, "--model_name", tiny_encoder, *OPTIONS, "--ratio", 0.3]
    assert ", computed now\n" in run_script("multiclass/main.py", [*command, "--output", tmp_path / "first"])
    (stored,) = (file.parent / "embeddings").glob("*/*.safetensors")
    before = stored.read_bytes()
    assert ", stored beside the data\n" in run_script("multiclass/main.py", [*command, "--output", tmp_path / "second"])
    first, second = only_folder(tmp_path / "first"), only_folder(tmp_path / "second")
    assert first.name == second.name
    assert files_of(first) == files_of(second)
    assert len(files_of(first)) == 7
    assert stored.read_bytes() == before
