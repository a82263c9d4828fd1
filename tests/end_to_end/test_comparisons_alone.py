"""`human` with --comparisons alone: a reward model from preference data without ratings."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from noisy_feedback import RatingModel
from tests.conftest import content_of, only_folder, reproduced, run_script

PAIRS, DIMENSIONS = 400, 6
pytestmark = pytest.mark.usefixtures("quick_sweeps")


@pytest.fixture(scope="module")
def preferences(tmp_path_factory):
    """Comparisons of texts with planted rewards, every pair judged twice, one judgement in ten wrong; embeddings.pt."""
    folder, rng = tmp_path_factory.mktemp("preferences"), np.random.default_rng(0)
    x = rng.normal(size=(2 * PAIRS, DIMENSIONS))
    reward = x @ rng.normal(size=DIMENSIONS)
    rows, wrong = [], []
    for pair in rng.permutation(PAIRS):
        better, worse = sorted((2 * pair, 2 * pair + 1), key=lambda text: -reward[text])
        for _ in range(2):
            wrong.append(rng.random() < 0.1)
            rows.append((worse, better) if wrong[-1] else (better, worse))
    file = folder / "preferences.csv"
    table = pd.DataFrame([[f"text {text}" for text in row] for row in rows], columns=["chosen", "rejected"])
    table.to_csv(file, index=False)
    order = list(dict.fromkeys([*(row[0] for row in rows), *(row[1] for row in rows)]))  # as the texts are numbered
    torch.save(torch.from_numpy(x[order]).float(), folder / "embeddings.pt")
    return file, np.array(wrong), x, reward


def options(file, output, *more):
    return ["--comparisons", file, "--pc", "--epochs-t", 8, "--epochs-f", 5, "--output", output, *more]


@pytest.fixture(scope="module")
def run(preferences, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    screen = run_script("human/main.py", options(preferences[0], output, "--export", output / "audited.jsonl"))
    return output, screen


def test_a_reward_is_learned_that_orders_unseen_texts(run, preferences):
    output, screen = run
    found = json.loads((only_folder(output) / "run.json").read_text())
    for stage in ("before", "best", "last"):
        assert found[stage]["preference_accuracy"] > 0.75  # of judgements of which a tenth is wrong
        low, high = found[stage]["preference_interval"]
        assert low < found[stage]["preference_accuracy"] < high
        assert found[stage]["accuracy"] is None
        assert found[stage]["confusion_matrix"] == []
    assert found["comparisons"]["attainable_accuracy"] == pytest.approx(0.9, abs=0.05)
    assert found["majority"]["preference_accuracy"] == 0.5
    assert "no model can expect more than" in screen
    assert not any(word in screen for word in ("stars", "kappa", "confusion", "macro", "reviews"))


def test_the_saved_model_gives_rewards_that_agree_with_the_planted_ones(run, preferences):
    model = RatingModel.load(only_folder(run[0]) / "model_last.safetensors")
    _, _, x, reward = preferences
    rewards = model.rate_embeddings(torch.from_numpy(x))
    assert np.corrcoef(rewards, reward)[0, 1] > 0.7


def test_every_comparison_is_exported_with_a_probability_from_models_that_have_not_seen_it(run, preferences, tmp_path):
    file, wrong, *_ = preferences
    table = pd.read_json(run[0] / "audited.jsonl", lines=True)
    assert table[["chosen", "rejected"]].equals(pd.read_csv(file))
    assert table["cross_fitted"].all()
    assert table["chosen_rating"].isna().all()
    assert table["p_wrong"][wrong].mean() > table["p_wrong"][~wrong].mean() + 0.2
    # They are trained for as many epochs as the best model was: the options may allow for more.
    epochs = json.loads((only_folder(run[0]) / "run.json").read_text())["best_epochs"]["training"]
    run_script("human/main.py", options(file, tmp_path, "--export", tmp_path / "audited.jsonl", "--epochs-t", epochs))
    assert epochs < 8 and (tmp_path / "audited.jsonl").read_bytes() == (run[0] / "audited.jsonl").read_bytes()


def test_a_sweep_reverses_comparisons_and_its_cell_is_the_single_run(run, preferences, tmp_path):
    screen = run_script("human/config.py", options(preferences[0], tmp_path, "--seeds", 84, 1, "--ratio", 0, 0.4))
    runs = pd.read_csv(only_folder(tmp_path) / "runs.csv").set_index(["seed", "ratio"])
    found = json.loads((only_folder(run[0]) / "run.json").read_text())
    for stage in ("before", "best", "last"):
        assert runs.loc[(84, 0.0), f"{stage}_preference_accuracy"] == found[stage]["preference_accuracy"]
    assert runs.loc[84, "last_preference_accuracy"][0.0] > runs.loc[84, "last_preference_accuracy"][0.4] - 0.05
    assert runs["last_macro_f1"].isna().all()
    assert "test preference accuracy" in screen
    assert "macro F1" not in screen


def test_a_result_is_reproduced_to_the_last_bit(run, tmp_path):
    assert "all files match" in reproduced(only_folder(run[0]), "--output", tmp_path)


def test_reviews_without_comparisons_of_them_and_missing_files_are_refused(preferences, tmp_path, capsys):
    texts = ["--comparisons", preferences[0], "--texts", "nope.csv"]
    for given in (["--path", tmp_path], ["--comparisons", "nope.csv"], texts):
        run_script("human/main.py", [*given, "--output", tmp_path / "results"], status=2)
        says = "with --comparisons" if tmp_path in given else "error: nope.csv: no such file or directory ("
        assert says in capsys.readouterr().err


# --- conversations that are longer than the encoder reads


@pytest.fixture(scope="module")
def long_conversations(tiny_encoder, tmp_path_factory):
    """A run on 60 dialogues that differ after more tokens than the encoder reads; their texts."""
    folder = tmp_path_factory.mktemp("conversations")
    rows = []
    for n in range(60):
        asked = {"role": "user", "content": f"{'abc ' * 30} {chr(97 + n // 3)}"}
        answers = {"chosen": f"yes {chr(97 + n % 3)}", "rejected": "no"}
        rows.append({side: [asked, {"role": "assistant", "content": answer}] for side, answer in answers.items()})
    (folder / "talk.jsonl").write_bytes(content_of(rows, ".jsonl"))
    given = ["--comparisons", folder / "talk.jsonl", "--model_name", tiny_encoder, "--epochs-t", 2, "--epochs-f", 2]
    run_script("human/main.py", [*given, "--output", folder / "run"])
    return only_folder(folder / "run"), [f"{'abc ' * 30} {letter}\nno" for letter in "adg"]


def test_a_run_that_cuts_on_the_left_is_reproduced(long_conversations, tmp_path):
    folder, _ = long_conversations
    record = json.loads((folder / "run.json").read_text())
    assert record["encoder"]["truncate"] == "left"
    assert record["judgements"]["check"]["cut_alike"] == 0
    assert "all files match" in reproduced(folder, "--output", tmp_path)


@pytest.mark.filterwarnings("ignore:.* texts were cut")
def test_its_model_cuts_on_the_left_too(long_conversations, tiny_encoder):
    folder, texts = long_conversations
    model = RatingModel.load(folder / "model_best.safetensors", tiny_encoder)
    assert len({*model.rate(texts)}) == 3
    for change in (lambda text: text[-100:], lambda text: f"zz {text}"):  # all of 62 tokens remains
        assert np.allclose(model.rate([change(text) for text in texts]), model.rate(texts), atol=1e-5)
