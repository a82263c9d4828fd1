"""What cannot work is refused before anything expensive runs, in one line that says which run it is."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from noisy_feedback.config import LABELS, NOISES, Config, grid
from noisy_feedback.data import dataset as data
from noisy_feedback.data.dataset import choose_device, load_embeddings, split_of
from noisy_feedback.data.reviews import SAMPLE_FILE
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import noise
from noisy_feedback.prepare import prepare
from tests.conftest import content_of, pooled, write_separable

EVERY_RATING = [1, 2, 3, 4, 5] * 20


@pytest.fixture
def make_config(tmp_path):
    """Configurations on a file with the given ratings."""

    def make_config(ratings=EVERY_RATING, protocol="multiclass", **more):
        return Config(protocol, path=write_separable(tmp_path / "data", ratings), pc=True, **more)

    return make_config


@pytest.fixture
def never_embeds(monkeypatch):
    """No embedding is read or computed."""

    def fail(*_):
        raise AssertionError("embedding has begun")

    monkeypatch.setattr(data, "load_embeddings", fail)


def sweep_of(config, **axes):
    return grid({**vars(config), "seed": [1], **axes})


def test_a_data_set_is_read_with_its_embeddings_and_what_is_odd_about_it_is_said(make_config, capsys):
    assert prepare([make_config()]).embeddings.shape == (100, 16)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["reviews", "parts", "warning", "embeddings"]
    prepare([make_config(sorted(EVERY_RATING), k=1)])
    assert "warning    the ratings of the training and the test part differ by" in capsys.readouterr().out
    prepare(sweep_of(make_config(sorted(EVERY_RATING), k=1, shuffle=True), seed=[1, 2, 3]))
    screen = capsys.readouterr().out
    assert "differ by" not in screen
    assert "ratings with fewer than 100 reviews" in screen


def test_reviews_are_read_and_split_as_the_options_say_from_the_file_of_a_folder(tmp_path, tiny_encoder, capsys):
    rows = zip(["b", "", *"aacdefghij"], [1, 2] + [3] * 10, "xxaacccfghij", strict=True)
    pd.DataFrame(rows, columns=["Text", "Stars", "Hotel"]).to_csv(tmp_path / SAMPLE_FILE, index=False)
    config = Config("multiclass", path=tmp_path, text_column="Text", rating_column="Stars", drop_empty=True)
    config = replace(config, model_name=str(tiny_encoder), epochs_f=0)
    grouped = replace(config, group_column="Hotel")
    dataset = prepare([grouped])
    assert (dataset.texts, dataset.scale.tolist()) == (list("baacdefghij"), [1, 3])
    assert dataset.groups.tolist() == [0, 1, 1, 2, 2, 2, *range(3, 8)]
    parts = dataset.split(grouped).part_of_rows()
    assert len({*zip(dataset.groups, parts, strict=True)}) == 8  # 40 % of the rows would end within a group
    assert "running on the bundled sample of made-up reviews" in capsys.readouterr().out
    assert prepare([replace(config, drop_duplicates=True)]).texts == list("bacdefghij")


# --- no comparisons

FEW = {  # ratings and options from which no comparison can be made, and what is said
    "ratings on the scale": (EVERY_RATING, {"k": 5}, r"--k 5: .* 6 different ratings, and there are 5; k must be 1 to"),
    "ratings in the part": ([1] * 25 + [2] * 20 + [3] * 50 + [4, 5] * 2, {"k": 2}, "--k 2: no list of 3 different rat"),
    "stars": ([1, 2, 3] * 30 + [4] * 10, {"protocol": "binary"}, "no pair of ratings exactly 3 stars apart"),
}


def test_a_fine_tuning_part_without_comparisons_is_refused(make_config, never_embeds, monkeypatch):
    for ratings, more, says in FEW.values():
        with pytest.raises(InputError, match=says):
            prepare([make_config(ratings, **more)])
    equal = noise.RatingNoise(lambda reviews, ratio, rng: np.zeros_like(reviews.ratings), None)
    monkeypatch.setitem(noise.RATING_NOISE, "uniform", equal)
    with pytest.raises(InputError, match="no list of 2 different ratings can be made"):
        prepare([make_config(k=1)])


def test_other_parts_need_no_comparisons_and_without_fine_tuning_none_does(make_config, human):
    prepare([make_config([1] * 50 + [1, 2, 3, 4, 5] * 8 + [1] * 10, k=4)])
    prepare([make_config(k=5, epochs_f=0)])
    prepare([human((0, 1), epochs_f=0)])


def test_the_run_of_a_sweep_without_comparisons_is_named(make_config, human, never_embeds):
    rated = partial(make_config, [1, 4] + [2, 3] * 11, protocol="binary")
    for make, n, rows, says in ((rated, 24, {0, 1}, "no pair"), (partial(human, (50, 51)), 100, {50, 51}, "no compar")):
        config = make(shuffle=True)
        good = [rows <= set(split_of(Config("binary", shuffle=True, seed=s), n).fine_tuning) for s in range(100)]
        seeds = [first := good.index(True), bad := good.index(False, first), good.index(True, bad)]
        with pytest.raises(InputError, match=rf"{says}.* \(seed {bad}, labels all, uniform noise, ratio 0\)"):
            prepare(sweep_of(config, seed=seeds, ratio=[0.0, 0.8]))  # with more noise there are pairs


# --- flip rates


def test_the_run_of_a_sweep_with_nothing_to_learn_is_named(make_config, never_embeds):
    runs = sweep_of(make_config(), loss=["study", "robust"], noise=["uniform", "reversed"], ratio=[0.0, 0.6])
    says = r"--loss robust: a flip rate of 0.6 leaves nothing .* \(seed 1, labels all, reversed noise, ratio 0.6\)"
    with pytest.raises(InputError, match=says):
        prepare(runs)


def test_a_flip_rate_that_is_given_estimated_or_implied_by_the_noise_is_taken_by_a_loss_that_needs_one(make_config):
    prepare([make_config(loss="robust", noise="reversed", ratio=0.6, flip_rate=0.1)])
    prepare(sweep_of(make_config(flip_rate=0.1), loss=["study", "robust"]))
    prepare([make_config(loss="robust", noise=NOISES[-1], ratio=1.0, flip_rate="estimated")])
    prepare(sweep_of(make_config(loss="robust", ratio=0.2), noise=list(NOISES[:-1])))
    with pytest.raises(InputError, match=f"--noise {NOISES[-1]} has no transition matrix"):
        prepare([make_config(loss="robust", noise=NOISES[-1], ratio=0.2)])
    with pytest.raises(InputError, match="--flip-rate: --loss study takes none; leave it out"):
        prepare(sweep_of(make_config(flip_rate=0.1), loss=["study", "re-po"]))


# --- human comparisons


@pytest.fixture
def human(tmp_path, make_config):
    """Configurations on comparisons of texts: numbers of reviews, of which 50 to 89 are fine-tuning, or new texts."""

    def human(*pairs, correct=True, **more):
        file = tmp_path / "judged.jsonl"
        rows = [{"chosen": f"review {better}", "rejected": f"review {worse}"} for better, worse in pairs]
        known = {} if correct is None else {"correct": correct}
        file.write_bytes(content_of([row | known for row in rows], ".jsonl"))
        return make_config(protocol="human", comparisons=file, **{"loss": "hinge", "flip_rate": "estimated", **more})

    return human


PAIRS = [(50 + n, 70 + n) for n in range(12)]


def test_judgements_are_read_with_the_reviews_and_said_by_part(human, capsys):
    dataset = prepare([human(*PAIRS, (41, 42), (0, 50))])
    assert dataset.judgements.chosen.tolist() == [*range(50, 62), 41, 0]
    lines = capsys.readouterr().out.splitlines()
    assert "judgements 14 of 14 pairs from judged.jsonl" in lines
    assert "           12 fine-tuning, 1 validation; 1 left out: texts in two parts, or in training" in lines


def test_human_comparisons_that_cannot_be_learned_from_are_refused(human, never_embeds):
    with pytest.raises(InputError, match=r"judged\.jsonl: no comparison has both texts in the fine-tuning part"):
        prepare([human((0, 1), (41, 42))])
    with pytest.raises(InputError, match="--loss study needs the rating of the chosen text, and 2 chosen texts are"):
        prepare([human(*PAIRS, (1000, 50), (1001, 51), (52, 1002), loss="study")])
    for labels in LABELS:
        says = f"--labels {labels}: " if labels in ("gold", "flipped") else "embedding has begun"
        with pytest.raises((InputError, AssertionError), match=says):
            prepare([human(*PAIRS, correct=None, labels=labels)])


def test_texts_that_are_in_no_review_are_embedded_as_the_reviews_are(human, tiny_encoder):
    config = human(*PAIRS, (52, 1002), model_name=str(tiny_encoder), pooling="cls", loss="study")  # no rating is needed
    dataset = prepare([replace(config, pc=False)])
    texts = [*(f"review {row}" for row in range(100)), "review 1002"]
    assert torch.allclose(dataset.embeddings, pooled(tiny_encoder, texts, "cls"), atol=1e-5)


def test_an_export_that_cannot_be_written_or_would_replace_an_input_is_refused_first(human, never_embeds, tmp_path):
    config = human((0, 1))
    with pytest.raises(InputError, match=r"^--export: with --epochs-f 0 there are no comparisons to write"):
        prepare([replace(config, export=tmp_path / "c.jsonl", epochs_f=0)])
    reviews = config.path.rename(config.path.with_name(SAMPLE_FILE))
    (tmp_path / "reviews.jsonl").hardlink_to(reviews)
    (tmp_path / "texts.jsonl").touch()
    for export in (config.comparisons, tmp_path / "reviews.jsonl", tmp_path / "texts.jsonl"):
        with pytest.raises(InputError, match=r"^--export .*: would replace .*, which this run reads"):
            prepare([replace(config, path=reviews.parent, texts=tmp_path / "texts.jsonl", export=export)])


# --- groups


def test_a_seed_whose_groups_leave_a_part_empty_is_refused_though_another_seed_comes_first(tmp_path, never_embeds):
    """Of groups of 20, 6, 6 and 8 reviews, some orders fill every part."""
    hotels = [*"a" * 20, *"b" * 6, *"c" * 6, *"d" * 8]
    file = tmp_path / "hotels.csv"
    file.write_text("Review,Rating,Hotel\n" + "".join(f"r{n},{n % 2},{hotel}\n" for n, hotel in enumerate(hotels)))
    config = Config("multiclass", path=file, group_column="Hotel", shuffle=True)
    with pytest.raises(InputError, match=r"--group-column: too few groups \(4\): .* \(seed [1-9]"):
        prepare(sweep_of(config, seed=[*range(12)]))


# --- texts that the encoder cuts to the same


@pytest.fixture
def conversations(tmp_path, tiny_encoder):
    """Configurations on 30 dialogues, judged twice; in all but ten the answers come after what the encoder reads."""

    def conversations(form=lambda question, answer: question + answer, **more):
        file = tmp_path / "talk.jsonl"
        questions = [f"{'abc'[n % 3]} " * (80 if n >= 10 else 5) + "klmnopqrst"[n % 10] for n in range(30)]
        rows = [{"chosen": form(question, "yes"), "rejected": form(question, "no")} for question in questions]
        file.write_bytes(content_of(rows * 2, ".jsonl"))
        given = {"path": None, "head": "scalar", "loss": "bradley-terry"} | more
        return Config("human", comparisons=file, model_name=str(tiny_encoder), split="comparisons", **given)

    return conversations


def talk(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_of_conversations_the_end_is_read_where_that_keeps_more_apart(conversations, capsys):
    dataset = prepare([conversations(talk)])
    assert dataset.provenance.encoder.truncate == "left"
    assert len(dataset.judgements.chosen) == 60
    assert "40 texts cut at the encoder's limit of 64 tokens, on the left (--truncate)" in capsys.readouterr().out
    again = prepare([conversations(talk, pc=True)])
    assert again.provenance == dataset.provenance


@pytest.mark.parametrize("form", [talk, lambda question, answer: f"{question} {answer}"])
def test_comparisons_whose_texts_become_the_same_are_left_out_and_counted(conversations, capsys, form):
    side = {"truncate": "right"} if form is talk else {}  # of texts the beginning is read
    dataset = prepare([conversations(form, **side)])
    found = dataset.judgements
    assert dataset.provenance.encoder.truncate == "right"
    assert sorted({*found.chosen, *found.rejected}) == sorted([*range(10), *range(30, 40)])
    assert found.pairs.tolist() == [*range(10)] * 2
    assert dataset.provenance.judgements.check["cut_alike"] == 40
    assert "40 comparisons left out: the encoder cuts their texts to the same" in capsys.readouterr().out
    again = prepare([conversations(form, pc=True, **side)])
    assert again.provenance == dataset.provenance


def test_where_every_comparison_is_cut_to_the_same_the_way_out_is_named(conversations):
    with pytest.raises(InputError, match=r"the two texts of every comparison to the same; --truncate left keeps"):
        prepare([conversations(lambda question, answer: f"{'a ' * 90} {question} {answer}")])


# --- embeddings and devices


@pytest.fixture
def config(tmp_path, tiny_encoder):
    """The configuration of a run on 40 reviews, beside which there is an `embeddings.pt`, with the tiny encoder."""
    file = write_separable(tmp_path / "data", [1, 2, 3, 4, 5] * 8)
    return Config("multiclass", path=file, model_name=str(tiny_encoder), pooling="cls")


def load(config, last="review 39"):
    texts = [*(f"review {row}" for row in range(39)), last]
    embeddings, how = load_embeddings(config, texts, config.path.parent, "cpu", iter)
    if "embeddings.pt" not in embeddings.info.model:
        assert torch.allclose(embeddings.vectors, pooled(config.model_name, texts, "cls"), atol=1e-5)
    return embeddings, how


def test_new_texts_are_embedded_and_stored_and_the_screen_says_which(config, tmp_path):
    for folder in (None, tmp_path / "store"):
        config = replace(config, embeddings=folder)
        embeddings, how = load(config)
        assert how == "computed now"
        again, how = load(config)
        assert how == (f"stored in {folder}" if folder else "stored beside the data")
        assert torch.equal(again.vectors, embeddings.vectors)
        assert list((folder or config.path.parent / "embeddings").glob("*/*.safetensors"))
    assert load(config, "another")[1] == "1 of 40 computed now"


def test_given_embeddings_are_used_when_asked_for_unless_some_are_stored(config):
    file = config.path.parent / "embeddings.pt"
    embeddings, how = load(replace(config, pc=True))
    assert how == f"read from {file}"
    assert torch.equal(embeddings.vectors, torch.load(file))
    stored, _ = load(config)
    embeddings, how = load(replace(config, pc=True))
    assert how == "stored beside the data (not embeddings.pt: remove embeddings/ to use it)"
    assert torch.equal(embeddings.vectors, stored.vectors)


def test_the_cpu_is_the_default_and_used_where_there_is_no_gpu_which_is_said(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(Config("multiclass")) == "cpu"
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(Config("multiclass", use_cuda=True)) == "cpu"
    assert capsys.readouterr().out == "no GPU found: running on the CPU\n"
