"""What cannot work is refused before the long work, in one line that says which run it is."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from noisy_feedback import prepare
from noisy_feedback.code_version import CODE_VERSION
from noisy_feedback.config import LABELS, NOISES, SWEEP_AXES, Config, grid
from noisy_feedback.data.dataset import split_of
from noisy_feedback.data.embeddings import read_embeddings_pt
from noisy_feedback.data.reviews import SAMPLE_FILE
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import noise
from noisy_feedback.files import sha256_of
from noisy_feedback.output import records
from tests.conftest import options, pooled, run_script, write_separable

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
        raise AssertionError("the long work has begun")

    monkeypatch.setattr(prepare, "load_embeddings", fail)


def sweep_of(config, **axes):
    values = {axis: [getattr(config, axis)] for axis in SWEEP_AXES}
    return grid(config, values | {"seed": [1]} | axes)


def test_a_data_set_is_read_with_its_embeddings(make_config, capsys):
    dataset = prepare.prepare([make_config()])
    assert dataset.embeddings.shape == (100, 16)
    assert dataset.scale.tolist() == [1, 2, 3, 4, 5]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["reviews", "parts", "warning", "embeddings"]


def test_reviews_are_read_as_the_options_say(tmp_path):
    rows = [("b", 1, "x"), ("", 2, "x"), *((text, 3, text) for text in "aacdefghij")]
    pd.DataFrame(rows, columns=["Text", "Stars", "Hotel"]).to_csv(tmp_path / "hotels.csv", index=False)
    config = Config("multiclass", path=tmp_path / "hotels.csv", text_column="Text", rating_column="Stars")
    reviews = prepare.load_reviews(replace(config, drop_empty=True, group_column="Hotel"))
    assert (reviews.texts, reviews.scale.tolist()) == (list("baacdefghij"), [1, 3])
    assert reviews.groups.tolist() == [0, 1, 1, *range(2, 10)]
    assert prepare.load_reviews(replace(config, drop_empty=True, drop_duplicates=True)).texts == list("bacdefghij")


def test_exactly_the_recorded_embeddings_are_taken(make_config, tiny_encoder):
    config = make_config(model_name=str(tiny_encoder))
    stored = prepare.prepare([replace(config, pc=False)]).embeddings
    given = read_embeddings_pt(config.path.parent / "embeddings.pt", 100)
    assert torch.equal(prepare.prepare([config]).embeddings, stored)
    assert torch.equal(prepare.prepare([config], given.info.sha256).embeddings, given.vectors)


def test_of_a_folder_the_file_is_named(tmp_path, capsys):
    file = write_separable(tmp_path, EVERY_RATING)
    file.rename(tmp_path / SAMPLE_FILE)
    prepare.load_reviews(Config("multiclass", path=tmp_path))
    assert "running on the bundled sample of made-up reviews" in capsys.readouterr().out


def test_warnings_about_the_data_are_printed(make_config, capsys):
    prepare.prepare([make_config(sorted(EVERY_RATING), k=1, protocol="multiclass")])
    assert "warning    the ratings of the training and the test part differ by" in capsys.readouterr().out
    prepare.prepare([make_config(sorted(EVERY_RATING), k=1, shuffle=True)])
    assert "sorted" not in capsys.readouterr().out


# --- no comparisons


def test_a_k_that_the_scale_has_not_enough_ratings_for_is_refused(make_config, never_embeds):
    with pytest.raises(InputError, match=r"--k 5: .* 6 different ratings, and there are 5; k must be 1 to 4"):
        prepare.prepare([make_config(k=5)])


def test_a_fine_tuning_part_without_comparisons_is_refused(make_config, never_embeds):
    with pytest.raises(InputError, match="--k 2: no list of 3 different ratings can be made"):
        prepare.prepare([make_config([1] * 25 + [2] * 20 + [3] * 50 + [4, 5] * 2, k=2)])


def test_parts_other_than_fine_tuning_need_no_comparisons(make_config):
    prepare.prepare([make_config([1] * 50 + [1, 2, 3, 4, 5] * 8 + [1] * 10, k=4)])


def test_ratings_that_noise_has_made_equal_are_refused(make_config, never_embeds, monkeypatch):
    monkeypatch.setattr(noise, "uniform", lambda reviews, ratio, rng: np.zeros_like(reviews.ratings))
    with pytest.raises(InputError, match="no list of 2 different ratings can be made"):
        prepare.prepare([make_config(k=1)])


def test_ratings_that_are_never_three_apart_make_no_pairs(make_config, never_embeds):
    with pytest.raises(InputError, match="no pair of ratings exactly 3 stars apart"):
        prepare.prepare([make_config([1, 2, 3] * 30 + [4] * 10, protocol="binary")])


def good_and_bad_seed(n, rows):
    """A seed that puts these of n shuffled rows in the fine-tuning part, and a later one that does not."""
    good = [set(rows) <= set(split_of(Config("binary", shuffle=True, seed=s), n).fine_tuning) for s in range(30)]
    return [first := good.index(True), good.index(False, first)]


def test_the_run_of_a_sweep_that_cannot_be_made_is_named(make_config, never_embeds):
    seeds = good_and_bad_seed(24, [0, 1])
    with pytest.raises(InputError, match=rf"no pair .* \(seed {seeds[1]}, uniform noise, ratio 0\)"):
        prepare.prepare(sweep_of(make_config([1, 4] + [2, 3] * 11, protocol="binary", shuffle=True), seed=seeds))


def test_without_fine_tuning_nothing_needs_to_be_comparable(make_config):
    prepare.prepare([make_config(k=5, epochs_f=0)])


# --- flip rates


@pytest.mark.parametrize(
    ("noise", "ratio", "says"),
    [
        ("reversed", 0.5, "--loss robust: a flip rate of 0.5 leaves nothing to learn; it must be below 0.5"),
        ("uniform", 1.0, "--loss robust: a flip rate of .* leaves nothing to learn"),
    ],
)
def test_noise_that_leaves_nothing_to_learn_for_the_robust_loss_is_refused(
    make_config, never_embeds, noise, ratio, says
):
    with pytest.raises(InputError, match=says):
        prepare.prepare([make_config(loss="robust", noise=noise, ratio=ratio)])


def test_the_run_of_a_sweep_with_nothing_to_learn_is_named(make_config, never_embeds):
    runs = sweep_of(make_config(), loss=["study", "robust"], noise=["uniform", "reversed"], ratio=[0.0, 0.6])
    with pytest.raises(InputError, match=r"a flip rate of 0.6 .* \(seed 1, reversed noise, ratio 0.6\)"):
        prepare.prepare(runs)


def test_the_flip_rate_is_that_of_the_ratings_to_learn_from(make_config, monkeypatch):
    given = []
    monkeypatch.setattr(prepare, "fine_tuning_objective", lambda config, feedback, priors: given.append(priors))
    prepare.prepare([make_config([1, 1, 2, 5] * 10 + EVERY_RATING[:60], loss="robust", ratio=0.2)])
    assert given[0] == pytest.approx([0.5, 0.25, 0, 0, 0.25])


def test_a_flip_rate_that_is_given_makes_the_robust_loss_possible(make_config):
    prepare.prepare([make_config(loss="robust", noise="reversed", ratio=0.6, flip_rate=0.1)])


@pytest.mark.parametrize("noise", NOISES)
def test_every_kind_of_noise_implies_a_flip_rate_of_its_own(make_config, noise):
    prepare.prepare([make_config(loss="robust", noise=noise, ratio=0.2)])


@pytest.mark.parametrize("loss", ["study", "hinge", "dr-dpo"])
def test_a_flip_rate_that_the_loss_does_not_take_is_refused(make_config, never_embeds, loss):
    with pytest.raises(InputError, match=f"--flip-rate: --loss {loss} takes none; leave it out"):
        prepare.prepare([make_config(loss=loss, flip_rate=0.1)])


def test_a_flip_rate_that_one_loss_of_a_sweep_takes_is_fine(make_config):
    config = make_config(flip_rate=0.1)
    prepare.prepare(sweep_of(config, loss=["study", "robust"]))


@pytest.mark.parametrize("loss", ["study", "robust"])
def test_an_estimated_flip_rate_is_fine_with_any_loss_and_noise(make_config, loss):
    prepare.prepare([make_config(loss=loss, noise="redrawn-off-scale", ratio=1.0, flip_rate="estimated")])


# --- comparisons that people made


@pytest.fixture
def human(tmp_path, make_config):
    """Configurations on comparisons of texts: numbers of reviews, of which 50 to 89 are fine-tuning, or new texts."""

    def human(*pairs, correct=True, **more):
        file = tmp_path / "judged.jsonl"
        texts = [
            {side: f"review {text}" for side, text in zip(("chosen", "rejected"), pair, strict=True)} for pair in pairs
        ]
        known = {} if correct is None else {"correct": correct}
        file.write_text("".join(json.dumps(text | known) + "\n" for text in texts))
        return make_config(protocol="human", comparisons=file, **{"loss": "hinge", "flip_rate": "estimated", **more})

    return human


PAIRS = [(50 + n, 70 + n) for n in range(12)]


def test_judgements_are_read_with_the_reviews_and_said_by_part(human, capsys):
    dataset = prepare.prepare([human(*PAIRS, (41, 42), (0, 50))])
    assert dataset.judgements.chosen.tolist() == [*range(50, 62), 41, 0]
    lines = capsys.readouterr().out.splitlines()
    assert "judgements 14 of 14 pairs from judged.jsonl" in lines
    assert "           12 fine-tuning, 1 validation, 0 test; 1 left out: texts in two parts, or in training" in lines


def test_comparisons_that_are_all_outside_the_fine_tuning_part_are_refused(human, never_embeds):
    with pytest.raises(InputError, match=r"judged\.jsonl: no comparison has both texts in the fine-tuning part"):
        prepare.prepare([human((0, 1), (41, 42))])


@pytest.mark.parametrize("labels", LABELS)
def test_labels_that_need_the_truth_are_refused_where_it_is_not_known(human, never_embeds, labels):
    says = f"--labels {labels}: " if labels in ("gold", "flipped") else "the long work has begun"
    with pytest.raises((InputError, AssertionError), match=says):
        prepare.prepare([human(*PAIRS, correct=None, labels=labels)])


def test_the_studys_loss_needs_the_ratings_of_chosen_texts(human, never_embeds):
    with pytest.raises(
        InputError, match="--loss study needs the rating of the chosen text, and 2 chosen texts are not"
    ):
        prepare.prepare([human(*PAIRS, (1000, 50), (1001, 51), (52, 1002), loss="study")])


def test_a_text_that_is_only_rejected_needs_no_rating(human, monkeypatch):
    monkeypatch.setattr(prepare, "load_text_embeddings", lambda *_: None)
    prepare.prepare([human(*PAIRS, (52, 1002), loss="study")])


def test_texts_that_are_in_no_review_are_embedded_as_the_reviews_are(human, tiny_encoder):
    config = human(*PAIRS, (52, 1002), model_name=str(tiny_encoder), pooling="cls")
    dataset = prepare.prepare([replace(config, pc=False)])
    texts = [*(f"review {row}" for row in range(100)), "review 1002"]
    assert torch.allclose(dataset.embeddings, pooled(tiny_encoder, texts, "cls"), atol=1e-5)


def test_the_run_of_a_sweep_that_people_made_no_comparison_for_is_named(human, never_embeds):
    seeds = good_and_bad_seed(100, [50, 51])
    runs = sweep_of(human((50, 51), shuffle=True), seed=seeds)
    with pytest.raises(InputError, match=rf"no comparison has both .* \(seed {seeds[1]}, labels all, ratio 0\)"):
        prepare.prepare(runs)


def test_without_fine_tuning_nothing_needs_to_be_compared(human):
    prepare.prepare([human((0, 1), epochs_f=0)])


def test_an_export_that_cannot_be_written_is_refused_first(make_config, never_embeds, tmp_path):
    with pytest.raises(InputError, match=r"^--export .*comparisons\.csv: ends with neither"):
        prepare.prepare([make_config([1] * 100, export=tmp_path / "comparisons.csv")])


def test_an_export_onto_the_comparisons_or_the_reviews_of_a_folder_is_refused(human, never_embeds, tmp_path):
    config = human(*PAIRS)
    reviews = config.path.rename(config.path.with_name(SAMPLE_FILE))
    (tmp_path / "reviews.jsonl").hardlink_to(reviews)
    for export in (config.comparisons, tmp_path / "reviews.jsonl"):
        with pytest.raises(InputError, match=r"^--export .*: would replace .*, which this run reads"):
            prepare.prepare([replace(config, path=reviews.parent, export=export)])


# --- --name


@pytest.fixture(params=["main.py", "config.py"])
def named(request, make_config, tmp_path):
    """A configuration whose --name a result has, of a run or of a sweep."""
    config = make_config(name="mine", output=tmp_path / "results", epochs_t=1, epochs_f=1)
    command = options(config.path, config.output, "--name", "mine", "--epochs-t", 1, "--epochs-f", 1)
    more = [] if request.param == "main.py" else ["--ratio", 0, "--seeds", config.seed]
    run_script(f"multiclass/{request.param}", [*command, *more])
    return config


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("head", "scalar", "head 'categorical', this command has 'scalar'"),
        ("hidden", (8,), r"hidden \[64, 32\], this command has \[8\]"),
        ("lists", 50, "lists None, this command has 50"),
    ],
)
def test_a_name_of_other_options_is_refused_before_embedding(named, never_embeds, name, value, says):
    with pytest.raises(InputError, match=f"^--name mine: .*mine holds a result with {says}; choose another name$"):
        prepare.prepare([replace(named, **{name: value})])


def test_a_name_of_other_reviews_is_refused_before_embedding(named, never_embeds):
    named.path.write_text(named.path.read_text().replace("review 0,", "review zero,"))
    with pytest.raises(InputError, match=f"with data '[0-9a-f]+', this command has '{sha256_of(named.path)}'"):
        prepare.prepare([named])


def test_a_name_of_other_code_is_refused_before_embedding(named, never_embeds, monkeypatch):
    monkeypatch.setattr(records, "CODE_VERSION", "another")
    with pytest.raises(InputError, match=f"with code '{CODE_VERSION}', this command has 'another'"):
        prepare.prepare([named])


def test_a_name_of_other_comparisons_is_refused_before_embedding(human, never_embeds, tmp_path):
    config = human(*PAIRS, name="mine", output=tmp_path)
    record = {"config": records.config_record(config), "data": {"sha256": sha256_of(config.path)}}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text(
        json.dumps({**record, "judgements": {"sha256": "ab12"}, "versions": records.versions()})
    )
    with pytest.raises(InputError, match=f"with judgements 'ab12', this command has '{sha256_of(config.comparisons)}'"):
        prepare.prepare([config])


def test_the_name_of_a_result_of_the_same_options_and_reviews_is_taken_again(named):
    prepare.prepare([named])


# --- groups


def test_a_seed_whose_groups_leave_a_part_empty_is_refused_though_another_seed_comes_first(tmp_path, never_embeds):
    """Of groups of 20, 6, 6 and 8 reviews, some orders fill every part."""
    hotels = [*"a" * 20, *"b" * 6, *"c" * 6, *"d" * 8]
    file = tmp_path / "hotels.csv"
    file.write_text("Review,Rating,Hotel\n" + "".join(f"r{n},{n % 2},{hotel}\n" for n, hotel in enumerate(hotels)))
    config = Config("multiclass", path=file, group_column="Hotel", shuffle=True)
    with pytest.raises(InputError, match=r"--group-column: 4 groups leave the .* part empty; .*, or another seed$"):
        prepare.prepare(sweep_of(config, seed=range(12)))
