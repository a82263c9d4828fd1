"""Which embeddings a command uses, on which device, and what is said of where they come from."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import (
    JudgementsInfo,
    Provenance,
    ReviewsInfo,
    choose_device,
    load_embeddings,
    load_text_embeddings,
    make_dataset,
    split_of,
)
from noisy_feedback.data.embeddings import Embeddings, EmbeddingsInfo, embed
from noisy_feedback.data.encoder import find_encoder
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.reviews import read_reviews, split_dataset
from noisy_feedback.errors import InputError
from noisy_feedback.rng import rng_for
from tests.conftest import pooled, write_separable


@pytest.fixture
def place(tmp_path, tiny_encoder):
    """Reviews with an `embeddings.pt`, and the configuration of a run on them with the tiny encoder."""
    file = write_separable(tmp_path / "data", [1, 2, 3, 4, 5] * 8)
    return SimpleNamespace(
        folder=file.parent,
        reviews=read_reviews(file),
        given=torch.load(file.parent / "embeddings.pt"),
        config=Config("multiclass", path=file, model_name=str(tiny_encoder)),
        given_only=Config("multiclass", path=file, model_name=str(tiny_encoder), pc=True),
    )


def load(place, config, sha256=None):
    return load_embeddings(config, place.reviews, "cpu", iter, sha256)


def store(place):
    """Embed the reviews with the tiny encoder, as a first run does."""
    encoder = find_encoder(place.config.model_name, "model")
    return embed(place.reviews.texts, encoder, place.folder, "hotels", "cpu")


# --- the four parts


def test_the_parts_are_in_the_order_of_the_file():
    splits = split_of(Config("multiclass"), 50)
    for part, expected in zip(splits.by_name().values(), split_dataset(50).by_name().values(), strict=True):
        assert (part == expected).all()


def test_shuffled_parts_depend_on_the_seed_and_hold_every_row_once():
    one, again, other = (split_of(Config("multiclass", shuffle=True, seed=seed), 50) for seed in (1, 1, 2))
    assert (one.train == again.train).all()
    assert set(one.train) != set(other.train)
    for splits in (one, other):
        parts = list(splits.by_name().values())
        assert [len(part) for part in parts] == [20, 5, 20, 5]
        assert sorted(np.concatenate(parts)) == list(range(50))


def test_groups_stay_in_one_part_and_are_shuffled_by_the_seed():
    groups = np.arange(200) // 4
    in_order, one, again, other = (
        split_of(Config("multiclass", shuffle=shuffle, seed=seed), 200, groups)
        for shuffle, seed in ((False, 1), (True, 1), (True, 1), (True, 2))
    )
    assert (in_order.train == np.arange(80)).all()
    assert (one.train == again.train).all()
    assert len({tuple(splits.train) for splits in (in_order, one, other)}) == 3
    for splits in (one, other):
        assert sum(len(set(groups[rows])) for rows in splits.by_name().values()) == 50


def test_without_groups_rows_are_shuffled_as_they_always_were():
    found = split_of(Config("multiclass", shuffle=True, seed=3), 50).train
    assert (found == rng_for(3, "split").permutation(50)[:20]).all()


# --- texts that are in no review


def judgements_of(folder, *texts):
    none = np.empty(0, dtype=np.int64)
    return Judgements("judged.jsonl.gz", folder, "ef", list(texts), none, none, none, None, [], None)


def load_texts(place, judgements, config, **reviews):
    info = replace(EmbeddingsInfo("bert", "1", config.pooling, "library", "ab", "cpu"), **reviews)
    return load_text_embeddings(config, judgements, info, "cpu", iter)


def test_where_every_text_is_a_review_nothing_is_embedded(place, tmp_path):
    assert load_texts(place, judgements_of(tmp_path), place.config) is None


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_other_texts_are_embedded_once_as_the_reviews_are_and_stored_beside_their_file(place, tmp_path, pooling):
    judgements = judgements_of(tmp_path, "one", "another")
    config = replace(place.config, pooling=pooling)
    embeddings = load_texts(place, judgements, config)
    assert torch.allclose(embeddings.vectors, pooled(config.model_name, judgements.texts, pooling), atol=1e-5)
    assert (tmp_path / "embeddings").is_dir()
    again = load_texts(place, judgements, replace(config, pc=True))  # --pc: it must be stored
    assert torch.equal(again.vectors, embeddings.vectors)


def test_texts_that_may_not_be_embedded_are_refused(place, tmp_path):
    with pytest.raises(InputError, match=r"^--pc: 2 texts of judged.jsonl.gz are not among the reviews, and have no"):
        load_texts(place, judgements_of(tmp_path, "one", "another"), place.given_only)


def test_given_embeddings_of_the_reviews_fit_no_other_texts(place, tmp_path):
    with pytest.raises(InputError, match=r"^--pc: 1 texts .* does not say by which encoder to embed them$"):
        load_texts(place, judgements_of(tmp_path, "one"), place.given_only, pooling=None)


# --- embeddings


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_without_stored_embeddings_they_are_computed_and_stored(place, pooling):
    config = replace(place.config, pooling=pooling)
    embeddings, how = load(place, config)
    assert how == "computed now"
    assert torch.allclose(embeddings.vectors, pooled(config.model_name, place.reviews.texts, pooling), atol=1e-5)
    again, how = load(place, config)
    assert how == "stored beside the data"
    assert torch.equal(again.vectors, embeddings.vectors)
    assert again.info == embeddings.info


def test_given_embeddings_are_used_when_asked_for(place):
    embeddings, how = load(place, place.given_only)
    assert how == f"read from {place.folder / 'embeddings.pt'}"
    assert torch.equal(embeddings.vectors, place.given)
    assert embeddings.info.model == "embeddings.pt"
    assert embeddings.info.pooling is None


def test_stored_embeddings_go_before_given_ones_and_that_is_said(place):
    stored = store(place)
    embeddings, how = load(place, place.given_only)
    assert torch.equal(embeddings.vectors, stored.vectors)
    assert how == "stored beside the data (not embeddings.pt: remove embeddings/ to use it)"


@pytest.mark.parametrize("which", ["stored", "given"])
@pytest.mark.parametrize("only", [True, False])
def test_the_embeddings_of_an_earlier_result_are_found_by_their_content(place, which, only):
    expected = store(place) if which == "stored" else load(place, place.given_only)[0]
    store(place)
    config = place.given_only if only else place.config
    embeddings, how = load(place, config, expected.info.sha256)
    assert how == "the recorded ones"
    assert embeddings.info == expected.info
    assert torch.equal(embeddings.vectors, expected.vectors)


def test_where_the_recorded_embeddings_are_gone_the_next_best_are_used(place):
    assert load(place, place.given_only, "0" * 64)[1] == f"read from {place.folder / 'embeddings.pt'}"


def test_embeddings_that_may_not_be_computed_and_are_not_there_are_refused(place):
    (place.folder / "embeddings.pt").unlink()
    with pytest.raises(
        InputError, match=r"--pc: no stored embeddings of hotels.csv by .* \(pooling model\) and no .*embeddings.pt"
    ):
        load(place, place.given_only)
    assert not (place.folder / "embeddings").exists()


@pytest.mark.parametrize("what", ["pooling", "texts", "encoder"])
def test_embeddings_of_something_else_are_not_used(place, tiny_encoder, tmp_path, what):
    store(place)
    (place.folder / "embeddings.pt").unlink()
    encoder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    (encoder / "more.txt").write_text("another revision")
    changes = {"pooling": {"pooling": "cls"}, "texts": {}, "encoder": {"model_name": str(encoder)}}
    if what == "texts":
        place.reviews.texts[0] += "."
    config = Config("multiclass", path=place.config.path, pc=True, **{"model_name": str(tiny_encoder), **changes[what]})
    with pytest.raises(InputError, match="no stored embeddings"):
        load(place, config)


# --- devices


def test_the_cpu_is_the_default(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(Config("multiclass")) == "cpu"
    assert capsys.readouterr().out == ""


def test_without_a_gpu_the_cpu_is_used_and_that_is_said(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(Config("multiclass", use_cuda=True)) == "cpu"
    assert capsys.readouterr().out == "no GPU found: running on the CPU\n"


def test_a_gpu_that_cannot_compute_is_refused(monkeypatch):
    def no_kernel(*_, **__):
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old card")
    monkeypatch.setattr(torch, "zeros", no_kernel)
    with pytest.raises(InputError, match=r"--use-cuda: an old card cannot compute with torch .*no kernel image"):
        choose_device(Config("multiclass", use_cuda=True))


# --- provenance


def test_a_dataset_says_what_it_was_made_from(place):
    info = EmbeddingsInfo("bert", "1", "cls", "library", "ab", "cpu")
    dataset = make_dataset(place.reviews, Embeddings(place.given, info, 0, None), "cpu")
    reviews = ReviewsInfo("hotels.csv", 40, [1, 2, 3, 4, 5], place.reviews.sha256)
    assert dataset.provenance == Provenance(reviews, info, "cpu")
    assert dataset.embeddings.device.type == "cpu"
    assert (dataset.ratings == place.reviews.ratings).all()


def test_a_dataset_with_judgements_has_the_vectors_and_texts_of_both(place, tmp_path):
    info = EmbeddingsInfo("bert", "1", "cls", "library", "ab", "cpu")
    judgements = judgements_of(tmp_path, "one", "another")
    others = Embeddings(torch.ones(2, place.given.shape[1]), replace(info, sha256="cd"), 0, None)
    dataset = make_dataset(place.reviews, Embeddings(place.given, info, 0, None), "cpu", judgements, others)
    assert torch.equal(dataset.embeddings, torch.cat([place.given, others.vectors]))
    assert dataset.texts == [*place.reviews.texts, "one", "another"]
    assert dataset.judgements is judgements
    assert dataset.provenance.encoder == info
    assert dataset.provenance.judgements == JudgementsInfo("judged.jsonl.gz", 0, "ef", "cd")
    assert np.concatenate(list(dataset.split(Config("human")).by_name().values())).tolist() == list(range(40))


def test_a_datasets_split_is_of_its_reviews_alone(place, tmp_path):
    info = EmbeddingsInfo("bert", "1", "cls", "library", "ab", "cpu")
    reviews = replace(place.reviews, groups=np.arange(40) // 2)
    judgements = judgements_of(tmp_path, "one")
    dataset = make_dataset(reviews, Embeddings(place.given, info, 0, None), "cpu", judgements)
    found = dataset.split(Config("human", shuffle=True, seed=1))
    assert (found.train == split_of(Config("human", shuffle=True, seed=1), 40, reviews.groups).train).all()
