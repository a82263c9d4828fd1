"""A saved rating model rates as the run that saved it did, with its own encoder and no other."""

import json
import random
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from noisy_feedback import RatingModel
from noisy_feedback.config import DEFAULT_ENCODER
from noisy_feedback.data.embeddings import EmbeddingsInfo
from noisy_feedback.data.reviews import read_reviews
from noisy_feedback.data.splits import split_dataset
from noisy_feedback.errors import InputError
from noisy_feedback.learning.model import init_model
from tests.conftest import only_folder, options, pooled, run_script

TEXT = "abc def"


@pytest.fixture(scope="module")
def reviews_file(tmp_path_factory):
    """200 reviews of letters, more of them early in the alphabet where the rating is low, rated 1, 2, 4 or 5."""
    rng = random.Random(0)
    ratings = [rng.choice((1, 2, 4, 5)) for _ in range(200)]
    texts = [" ".join(rng.choices("abcdefghijkl"[rating : rating + 7], k=12)) for rating in ratings]
    file = tmp_path_factory.mktemp("texts") / "letters.csv"
    pd.DataFrame({"Review": texts, "Rating": ratings}).to_csv(file, index=False)
    return file


POOLING = {"categorical": "cls", "scalar": "model"}  # by head


@pytest.fixture(scope="module", params=POOLING)
def embedded_run(request, reviews_file, tiny_encoder, tmp_path_factory):
    """The folder of a run that embedded its reviews, or found them embedded."""
    output = tmp_path_factory.mktemp("results")
    arguments = ["--path", reviews_file, "--output", output, "--epochs-t", 20, "--epochs-f", 6, "--k", 2]
    encoder = ["--model_name", tiny_encoder, "--pooling", POOLING[request.param]]
    run_script("multiclass/main.py", [*arguments, *encoder, "--head", request.param])
    return only_folder(output)


@pytest.fixture(scope="module")
def vectors(reviews_file, tiny_encoder, embedded_run):
    pooling = json.loads((embedded_run / "run.json").read_text())["encoder"]["pooling"]
    return pooled(tiny_encoder, read_reviews(reviews_file).texts, {"model": "mean"}.get(pooling, pooling))


@pytest.fixture
def model(embedded_run, tiny_encoder):
    """The model of the best epoch, with the folder of its encoder."""
    return RatingModel.load(embedded_run / "model_best.safetensors", encoder=tiny_encoder)


# --- rating


@pytest.mark.parametrize("stage", ["before", "best", "last"])
def test_every_saved_model_rates_as_the_run_did(embedded_run, reviews_file, vectors, stage):
    reviews = read_reviews(reviews_file)
    rows = split_dataset(len(reviews.texts)).test
    rated = RatingModel.load(embedded_run / f"model_{stage}.safetensors").rate_embeddings(vectors[rows])
    error = np.abs(rated - reviews.scale[reviews.ratings[rows]]).mean()
    found = json.loads((embedded_run / "run.json").read_text())
    assert error == pytest.approx(found[stage]["mean_absolute_error"], abs=1e-6)


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda texts: pd.Series(texts, index=range(20, 0, -1))])
def test_texts_are_rated_as_their_embeddings_are(reviews_file, model, vectors, kind):
    texts = read_reviews(reviews_file).texts[:20]
    assert np.allclose(model.rate(kind(texts)), model.rate_embeddings(vectors[:20]), atol=1e-3)


def test_texts_that_the_encoder_cuts_are_counted_in_a_warning(model):
    fits, cut = "a " * 62, "a " * 63  # and two tokens that mark start and end
    with pytest.warns(UserWarning, match=r"^2 of 3 texts were cut at the encoder's limit of 64 tokens$") as warned:
        rated = model.rate([cut, fits, cut + "b"])
    assert warned[0].filename == __file__
    assert np.allclose(rated, rated[0], atol=1e-4)
    with warnings.catch_warnings(action="error"):
        model.rate([fits])


def test_the_model_is_a_plain_torch_sequential(embedded_run, model, vectors):
    tensors = load_file(embedded_run / "model_best.safetensors")
    sizes = [tensors[f"{layer}.weight"].shape for layer in (0, 2, 4)]
    first, second, third = (torch.nn.Linear(n_in, n_out) for n_out, n_in in sizes)
    module = torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU(), third)
    module.load_state_dict(tensors)
    with torch.no_grad():
        output = module(vectors).double()
    if output.shape[1] == 1:
        expected = np.interp(output[:, 0].numpy(), range(4), [1, 2, 4, 5])
        inside = (output[:, 0] > 0) & (output[:, 0] < 3)
        assert inside.sum() > 20
    else:
        expected, inside = output.softmax(-1).numpy() @ [1, 2, 4, 5], slice(None)
    assert np.allclose(model.rate_embeddings(vectors)[inside], expected[inside], atol=1e-5)


def small_model(pooling="cls", **info):
    """A model with random weights, of 4 dimensions and 3 ratings."""
    made_from = EmbeddingsInfo("bert", "0123", pooling, "library", "ab", "cpu")
    mlp, encoder = init_model((4, 5, 3), np.random.default_rng(0)), replace(made_from, **info)
    return RatingModel(mlp, [1, 2, 4], encoder, encoder.model)


def test_what_is_no_list_of_texts_is_refused():
    for texts in ("fine", {TEXT}, {0: TEXT}, iter([TEXT]), pd.DataFrame([TEXT]), np.array([[TEXT]])):
        with pytest.raises(InputError, match=f"^rate takes a list of texts, not {type(texts).__name__}; "):
            small_model().rate(texts)
    with pytest.raises(InputError, match=r"^rate: text 2 is None; it must be text, without lone surrogates"):
        small_model().rate([TEXT, None])
    assert small_model().rate([]).shape == (0,)  # and needs no encoder


# --- the encoder


def test_another_encoder_than_that_of_training_is_refused(embedded_run, model):
    hub = small_model(model=DEFAULT_ENCODER, revision="0" * 40, pooling="model")
    with pytest.raises(InputError, match=f"encoder {DEFAULT_ENCODER}: revision 0{{40}} is neither on this machine nor"):
        hub.rate([TEXT])
    model.info = replace(model.info, revision="0" * 64)
    for other in (model, RatingModel.load(str(embedded_run / "model_best.safetensors"))):  # the latter names no folder
        with pytest.raises(InputError, match=r"revision .{64} is neither .*; name its folder, with unchanged files"):
            other.rate([TEXT])


def test_without_a_known_encoder_the_way_to_rate_is_named(separable_reviews, tmp_path):
    run_script("multiclass/main.py", options(separable_reviews, tmp_path))
    model = RatingModel.load(only_folder(tmp_path) / "model_best.safetensors")
    with pytest.raises(InputError, match=r"embeddings.pt, which does not say which .* call rate_embeddings"):
        model.rate([TEXT])
    assert model.rate_embeddings(torch.load(separable_reviews.parent / "embeddings.pt")).shape == (400,)


# --- loading

NO_MODEL = r"not a model of this project; give a run's model_best\.safetensors"


def test_what_is_no_model_is_refused_with_the_way_out(embedded_run, tmp_path):
    file = tmp_path / "model.safetensors"
    with safe_open(embedded_run / "model_best.safetensors", framework="pt") as stored:
        right = stored.metadata()
    tensors = load_file(embedded_run / "model_best.safetensors")
    other = [None, {"format": "pt"}, *({"noisy_feedback": text} for text in ("{", "[]", '{"scale": [1]}', "[" * 10**5))]
    wrong = [(tensors, metadata) for metadata in other]
    wrong.append((tensors | {"2.weight": torch.zeros(32, 63)}, right))  # weights that do not fit together
    for given, metadata in wrong:
        save_file(given, file, metadata=metadata)
        with pytest.raises(InputError, match=NO_MODEL):
            RatingModel.load(file)
    for name in ("run.json", "no-such-file", "."):
        with pytest.raises(InputError, match=NO_MODEL):
            RatingModel.load(embedded_run / name)
