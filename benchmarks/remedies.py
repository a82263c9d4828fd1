"""Which loss and anchor stand 30 epochs of noisy feedback? Chosen on validation data, then judged on test data.

    python benchmarks/remedies.py --data sst5.csv tripadvisor_hotel_reviews.csv --output remedies

First every candidate on some seeds, each data set, k = 1, 2, 3 and binary, every noise ratio: the choice falls on the
candidate whose validation macro F1 at the last epoch, less that of the trained model, has the highest mean over all of
them. Then the study's loss and the chosen candidate on 20 other seeds: the paired change of test metrics from before
fine-tuning to its last epoch. Finished runs are kept in the output folder: the same command goes on where it was.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
CANDIDATES = ("sigmoid", "bradley-terry", "conservative")
ANCHORS = ("0.3", "1", "3")
CHOICE_SEEDS = [str(seed) for seed in range(101, 109)]
JUDGED_SEEDS = [str(seed) for seed in range(1, 21)]
STUDIES = {
    "k = 1": ("multiclass", "1"),
    "k = 2": ("multiclass", "2"),
    "k = 3": ("multiclass", "3"),
    "binary": ("binary",),
}
COMBINATION = ["preference_loss", "anchor"]


def sweep(
    data: Path, study: str, output: Path, seeds: list[str], losses: tuple[str, ...], anchors: tuple[str, ...]
) -> Path:
    """Run (or find) one sweep of `config.py`; its folder."""
    folder, *k = STUDIES[study]
    command = [
        sys.executable,
        "config.py",
        "--path",
        str(data.resolve()),
        "--shuffle",
        "--output",
        str(output.resolve()),
    ]
    command += ["--seeds", *seeds, "--loss", *losses, "--anchor", *anchors, *(["--k", *k] if k else [])]
    print(f"{data.stem}, {study}: {', '.join(losses)} with anchor {', '.join(anchors)}", file=sys.stderr)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    told = subprocess.run(command, cwd=ROOT / folder, check=True, text=True, stdout=subprocess.PIPE, env=environment)
    (line,) = (line for line in told.stdout.splitlines() if line.startswith("results "))
    return Path(line.split(maxsplit=1)[1])


def validation_change(folder: Path) -> pd.DataFrame:
    """Per combination and ratio, over seeds: validation macro F1 at the last epoch less that of the trained model."""
    curves = pd.read_csv(folder / "curves.csv")
    runs = pd.read_csv(folder / "runs.csv")
    training = curves[curves["phase"] == "training"].set_index(["seed", "epoch"])["validation_macro_f1"]
    tuning = curves[curves["phase"] == "fine-tuning"]
    last = tuning[tuning["epoch"] == tuning["epoch"].max()]
    last = last.merge(runs[["seed", *COMBINATION, "ratio", "best_training_epoch"]], on=["seed", *COMBINATION, "ratio"])
    before = training.loc[list(zip(last["seed"], last["best_training_epoch"], strict=True))].to_numpy()
    last = last.assign(change=last["validation_macro_f1"] - before)
    return last.groupby([*COMBINATION, "ratio"], as_index=False)["change"].mean()


def choose(data: list[Path], output: Path) -> tuple[str, str]:
    """The loss and the anchor with the highest mean validation change."""
    changes = [
        validation_change(sweep(file, study, output / "choice", CHOICE_SEEDS, CANDIDATES, ANCHORS)).assign(
            data=file.stem, study=study
        )
        for file in data
        for study in STUDIES
    ]
    by_candidate = pd.concat(changes).groupby(COMBINATION)["change"].agg(["mean", "min"])
    print("validation macro F1, last epoch less trained model: mean and worst over data, studies and ratios")
    print(by_candidate.sort_values("mean", ascending=False).to_string(float_format="{:+.4f}".format))
    best = by_candidate["mean"].reset_index().nlargest(1, "mean").iloc[0]
    print(f"chosen: --loss {best['preference_loss']} --anchor {best['anchor']:g}\n")
    return str(best["preference_loss"]), f"{best['anchor']:g}"


def judge(data: list[Path], output: Path, loss: str, anchor: str) -> None:
    """The test metrics' change of the study's loss and of the chosen setting, with its 95 % paired interval."""
    worse = better = 0
    settings = {"the study's loss": ("study", "0"), "the chosen setting": (loss, anchor)}
    for what, setting in settings.items():
        print(f"{what}: change of test macro F1 and kappa from before fine-tuning to its last epoch, 20 seeds")
        for file in data:
            for study in STUDIES:
                folder = sweep(file, study, output / "judged", JUDGED_SEEDS, (setting[0],), (setting[1],))
                summary = pd.read_csv(folder / "summary.csv")
                for metric in ("macro_f1", "quadratic_weighted_kappa"):
                    rows = summary[(summary["stage"] == "last") & (summary["metric"] == metric)]
                    cells = [f"{r.change:+.3f} [{r.change_low:+.3f}, {r.change_high:+.3f}]" for r in rows.itertuples()]
                    print(f"| {file.stem.partition('_')[0]} | {study} | {metric} | {' | '.join(cells)} |")
                    if what == "the chosen setting":
                        worse += int((rows["change_high"] < 0).sum())
                        better += int((rows[rows["ratio"] <= 0.4]["change_low"] > 0).sum())
        print()
    judged = len(data) * len(STUDIES) * 2
    print(
        f"chosen setting: worse than before (interval below 0) in {worse} of {5 * judged} cells; "
        f"better (interval above 0) in {better} of {3 * judged} cells with noise 0 to 0.4"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files of reviews")
    parser.add_argument("--output", type=Path, required=True, help="folder for the sweeps")
    arguments = parser.parse_args()
    if missing := [str(file) for file in arguments.data if not file.is_file()]:
        parser.error(f"--data {' '.join(missing)}: no such file")
    judge(arguments.data, arguments.output, *choose(arguments.data, arguments.output))
