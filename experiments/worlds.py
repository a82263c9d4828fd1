"""What can the audit know? Planted judgements whose truth is known, by people who err in different ways.

    python experiments/worlds.py

A world has pairs of items, so many judgements of each, annotators or none, and a model whose log-odds of the pairs have
a given standard deviation; the first item of a pair is better with the probability that the model gives it. Printed
are, over draws, the true and the estimated flip rate, the mean ends of its 95 % interval, in what share of the draws
that holds the truth and an estimate is offered, how many of the judgements with p_wrong below 0.02 are wrong, and in
what share of the intervals of the annotators hold their reliability.
"""

import multiprocessing
import sys
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import expit
from sweeps import integer_from, make_parser, print_table, run_script
from tqdm import tqdm

from noisy_feedback.feedback.audit import audit_comparisons

SURE = 0.02  # of p_wrong


@dataclass(frozen=True)
class World:
    """How judgements come about, and what the audit is given."""

    pairs: int
    each: int  # judgements of a pair
    annotators: int = 0  # 0: nobody knows who judged
    errors: str = "even"
    model: float = 1.0  # standard deviation of the model's log-odds
    tails: int = 0  # degrees of freedom of their t distribution; 0: a normal one
    known_orders: float = np.inf  # on which the model was calibrated
    overconfidence: float = 1.0  # the model's log-odds are multiplied by it
    majority: bool = False  # the majority of each pair is audited, from the judgements behind it


WORLDS = {
    "right model, several each": World(3000, 5, 200),
    "one judgement a pair": World(3000, 1),
    "one a pair, the model knows nothing": World(300, 1, model=0.0, known_orders=0),
    "one a pair, a weak model": World(300, 1, model=0.3, known_orders=100),
    "hard pairs": World(3000, 5, 200, "hard"),
    "hard pairs, three each, no annotators": World(3000, 3, 0, "hard"),
    "people err as Bradley-Terry says": World(3000, 5, 200, "bradley-terry"),
    "one judgement an annotator": World(1000, 5, 5000, "guessers"),
    "five judgements an annotator": World(1000, 5, 1000, "guessers"),
    "fifty judgements an annotator": World(1000, 5, 100, "guessers"),
    "most annotators turn the scale round": World(1000, 5, 100, "reversed"),
    "the two columns are exchanged": World(3000, 3, 0, "exchanged"),
    "two a pair, no annotators": World(3000, 2),
    "sixty pairs, three each": World(60, 3),
    "one judgement a pair; no known order": World(3000, 1, known_orders=0),
    "one judgement a pair; 1,000 known orders": World(3000, 1, known_orders=1000),
    "right model, several each; no known order": World(3000, 5, 200, known_orders=0),
    "hard pairs; no known order": World(3000, 5, 200, "hard", known_orders=0),
    "five each, log-odds 1.3 times too large; no known order": World(3000, 5, known_orders=0, overconfidence=1.3),
    "five each, log-odds 1.3 times too large; 100 known orders": World(3000, 5, known_orders=100, overconfidence=1.3),
    "errors where the model is unsure, one a pair": World(3000, 1, 0, "unsure"),
    "errors where the model is unsure, two a pair": World(3000, 2, 0, "unsure"),
    "errors where the model is unsure, five a pair": World(3000, 5, 0, "unsure"),
    "errors where the model is unsure, one a pair; 1,000 known orders": World(3000, 1, 0, "unsure", known_orders=1000),
    "some more errors where the model is unsure, one a pair": World(3000, 1, 0, "less sure"),
    "more errors where the model is sure, one a pair": World(3000, 1, 0, "sure"),
    "errors change with the model in a step, one a pair": World(3000, 1, 0, "step"),
    "heavy tails, some more errors where the model is unsure, one a pair": World(3000, 1, 0, "less sure", tails=3),
    "heavy tails, errors where the model is unsure, one a pair": World(3000, 1, 0, "unsure", tails=3),
    "heavy tails, errors change with the model in a step, one a pair": World(3000, 1, 0, "step", tails=3),
    "majority: right model, several each": World(3000, 5, 200, majority=True),
    "majority: hard pairs": World(3000, 5, 200, "hard", majority=True),
}


def reliabilities(world: World, rng: np.random.Generator) -> np.ndarray:
    """P(right) of each annotator (A,): 0.8, or a fifth who guess, or most who turn the scale round."""
    found = np.full(world.annotators, 0.8)
    if world.errors in ("guessers", "reversed"):
        share, bad = (0.2, 0.5) if world.errors == "guessers" else (0.6, 0.1)
        found = np.where(rng.random(world.annotators) < share, bad, 0.9)
    return found


def draw(task: tuple[str, int]) -> tuple[float, ...]:
    """True and estimated rate, interval, holds, known, wrong of the sure ones, annotators' intervals that hold."""
    name, seed = task
    world, rng = WORLDS[name], np.random.default_rng(seed)
    log_odds = world.model * (rng.standard_t(world.tails, world.pairs) if world.tails else rng.normal(size=world.pairs))
    first_is_better = rng.random(world.pairs) < expit(log_odds)
    pair = np.repeat(np.arange(world.pairs), world.each)
    people = rng.permutation(np.arange(len(pair)) % world.annotators) if world.annotators else None
    reliability = reliabilities(world, rng)
    right_of_pair = {
        "hard": np.where(rng.random(world.pairs) < 0.1, 0.3, 0.9),
        "bradley-terry": expit(np.abs(rng.normal(0, 2, world.pairs))),
        "unsure": 0.5 + 0.4 * np.minimum(np.abs(log_odds), 2) / 2 + 0.1,
        "less sure": 0.73 + 0.1 * np.minimum(np.abs(log_odds), 2) / 2,
        "sure": 0.9 - 0.2 * np.minimum(np.abs(log_odds), 2) / 2,
        "step": np.where(np.abs(log_odds) < 0.5, 0.6, 0.9),
        "exchanged": np.full(world.pairs, 0.15),
    }.get(world.errors, np.full(world.pairs, 0.8))
    right_with = reliability[people] if world.errors in ("guessers", "reversed") else right_of_pair[pair]
    right = rng.random(len(pair)) < right_with
    prefers_first = first_is_better[pair] == right
    p_first = expit(world.overconfidence * log_odds)[pair]
    rows = np.arange(len(pair))
    if world.majority:  # each has five judgements, so there is no tie
        votes = np.bincount(pair, np.where(prefers_first, 1, -1))
        _, rows = np.unique(np.where(prefers_first == (votes[pair] > 0), pair, -1), return_index=True)
        rows = rows[-world.pairs :]
    better = np.where(prefers_first, 2 * pair, 2 * pair + 1)
    prior = np.where(prefers_first, p_first, 1 - p_first)
    found = audit_comparisons(prior, better, pair, people, rows if world.majority else None, world.known_orders)
    wrong = ~right[rows]
    holds = found.flip_rate_low <= wrong.mean() <= found.flip_rate_high
    sure = found.p_wrong < SURE
    own = np.nan
    if found.annotators is not None and np.ptp(right_of_pair) == 0 and not np.isnan(found.annotators.low).all():
        own = float(((found.annotators.low <= reliability) & (reliability <= found.annotators.high)).mean())
    return (
        *(wrong.mean(), found.estimated_flip_rate, found.flip_rate_low, found.flip_rate_high, holds, found.known),
        *(wrong[sure].sum(), sure.sum(), own),
    )


def work(given: Namespace) -> None:
    tasks = list(product(WORLDS, range(given.draws)))
    with ProcessPoolExecutor(given.processes, multiprocessing.get_context("spawn")) as pool:
        found = np.array(list(tqdm(pool.map(draw, tasks, chunksize=4), total=len(tasks), desc="draws")), dtype=float)
    rows = []
    for name, of_world in zip(WORLDS, found.reshape(len(WORLDS), given.draws, -1), strict=True):
        true, estimate, low, high, holds, known, sure_and_wrong, sure, _ = of_world.mean(0)
        hold = of_world[:, -1]
        cells = [f"{true:.3f}", f"{estimate:.3f}", f"{low:.3f} to {high:.3f}", f"{holds:.2f}", f"{known:.2f}"]
        cells.append(f"{sure_and_wrong / sure:.3f}" if sure else "")
        rows.append([name, *cells, "" if np.isnan(hold).all() else f"{np.nanmean(hold):.2f}"])
    columns = ["world", "wrong in truth", "estimate", "interval", "holds", "known", f"wrong of `p_wrong` < {SURE}"]
    print(f"mean of {given.draws} draws")
    print_table([*columns, "reliabilities hold"], rows)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--draws", type=integer_from(2), default=20, metavar="N", help="of each world")
    parser.add_argument("--processes", type=integer_from(1), default=2, metavar="N", help="at once (default: 2)")
    sys.exit(run_script(parser, work))
