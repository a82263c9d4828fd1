"""Make `sample_hotel_reviews.csv` and `sample_comparisons.csv`: made-up data, the same bytes at every run.

A guest has an overall impression, and an opinion of each aspect of the hotel that varies around it. The text mentions
3 to 6 aspects, in words of five strengths. The rating follows from the impression, the opinions of the aspects
mentioned, and a random part that the text does not show. So the text predicts the rating only in part, as in real
reviews. The ratings are distributed as in the TripAdvisor data set (Alam, Ryu and Lee 2016).

The comparisons are judgements of pairs of these reviews by made-up annotators. An annotator chooses the review with
the higher rating with a probability of their own, the reliability.

    python data/make_sample.py
"""

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path

FILE = Path(__file__).with_name("sample_hotel_reviews.csv")
COMPARISONS_FILE = FILE.with_name("sample_comparisons.csv")
ROWS = 3000
SEED = 84
TRIPADVISOR_RATINGS = (1421, 1793, 2184, 6039, 9054)  # reviews with 1, 2, ... 5 stars, of 20,491

COMPARISONS_SEED = 1952
PLANTED_RELIABILITIES = {  # probability that the annotator chooses the review with the higher rating
    **{f"careful-{number}": 0.95 for number in (1, 2, 3)},
    **{f"usual-{number}": 0.85 for number in (1, 2, 3, 4, 5)},
    **{f"careless-{number}": 0.65 for number in (1, 2, 3)},
    "confused-1": 0.10,  # takes one answer for the other
}
JUDGEMENTS_PER_PAIR = 3
BLOCK_ROWS = 300
# First row of a block: its pairs. Without shuffling the first block is for validation, the last for the test, and those
# between them for fine-tuning; the reviews of a pair are of one block, so every pair is in one part.
PAIRS_PER_BLOCK = {1200: 100, 1500: 150, 1800: 150, 2100: 150, 2400: 150, 2700: 100}

# For each aspect: its names in a review, and opinions from worst to best.
# fmt: off
ASPECTS: dict[str, tuple[list[str], list[list[str]]]] = {
    "room": (["the room", "our room", "the suite", "the twin room"], [
        ["was filthy with mould on the walls", "was a dark, smelly box", "had stains on everything"],
        ["was small and worn out", "was tired, with peeling paint", "was not properly cleaned"],
        ["was basic but acceptable", "was ordinary for the area", "was smaller than in the pictures, but fine"],
        ["was clean and comfortable", "was bright and well kept", "was roomy with a decent desk"],
        ["was spotless and beautifully furnished", "was stunning, with a huge balcony", "was the best we ever had"]]),
    "bed": (["the bed", "the mattress", "my bed", "the king bed"], [
        ["had bugs in it", "was broken and had dirty sheets", "felt like a plank, I got no sleep at all"],
        ["sagged in the middle", "was hard, with flat pillows", "creaked at every move"],
        ["was all right", "was a bit firm for my taste", "did its job"],
        ["was comfortable", "had good pillows", "gave us a good rest"],
        ["was heavenly", "was so soft that we overslept", "was the most comfortable of my life"]]),
    "staff": (["the staff", "the people at reception", "the front desk", "the concierge"], [
        ["were rude and shouted at us", "lied to us about the booking", "laughed at our complaint"],
        ["were slow and indifferent", "seemed annoyed by questions", "forgot our requests twice"],
        ["were correct, no more", "did what they had to", "were polite but busy"],
        ["were friendly", "were helpful with directions", "checked us in quickly with a smile"],
        ["were wonderful and knew our names", "went far beyond what we asked", "could not have been kinder"]]),
    "breakfast": (["breakfast", "the morning buffet", "the breakfast room"], [
        ["was inedible", "made my husband ill", "was stale bread and cold coffee, a disgrace"],
        ["was poor and repetitive", "ran out by nine", "was overpriced for what it was"],
        ["was standard", "was fine if you like toast", "had the usual things"],
        ["was varied and fresh", "was tasty, with good coffee", "had plenty of fruit"],
        ["was superb, with eggs made to order", "was a feast every morning", "was worth the trip alone"]]),
    "location": (["the location", "the neighbourhood", "the spot"], [
        ["felt dangerous at night", "was in the middle of a building site", "was miles from where they claim"],
        ["was far from everything", "was on an ugly main road", "needed a taxi each time"],
        ["was a fair walk from the centre", "was neither good nor bad", "was near a bus stop"],
        ["was convenient for the metro", "was close to good restaurants", "was handy for the museums"],
        ["was perfect, steps from the old town", "was unbeatable, right on the beach", "was ideal for seeing it all"]]),
    "noise": (["at night it", "the floor", "the street side"], [
        ["was so loud that we left a day early", "had a disco below until five", "was unbearable, doors slamming"],
        ["was noisy, with thin walls", "let us hear the lift all night", "was loud from traffic"],
        ["had some noise, as in any city", "was bearable with earplugs", "was average for a city hotel"],
        ["was mostly quiet", "was calm after ten", "was quieter than expected"],
        ["was wonderfully quiet", "was silent as the countryside", "was so peaceful that we slept like babies"]]),
    "bathroom": (["the bathroom", "the shower", "the bath"], [
        ["was disgusting, with hair in the drain", "flooded and nobody came", "had no hot water for three days"],
        ["was old and cramped", "had weak pressure", "had a broken lock"],
        ["was simple but worked", "was small, as usual here", "could do with new tiles"],
        ["was modern and clean", "had good pressure", "had nice soaps"],
        ["was pure luxury", "was marble, with a giant tub", "was gorgeous, with a rain shower"]]),
    "price": (["the price", "what we paid", "the rate"], [
        ["was a rip-off", "was outrageous, with hidden fees", "was doubled at check-out"],
        ["was too high for this", "was not good value", "did not match the quality"],
        ["was about what you expect", "was reasonable for the season", "was in line with others"],
        ["was good value", "was fair for the comfort", "was a pleasant surprise"],
        ["was an incredible bargain", "was worth every penny and more", "was unbelievable for such quality"]]),
    "pool": (["the pool", "the spa", "the gym"], [
        ["was green and closed", "smelled of sewage", "had broken glass around it"],
        ["was crowded and cold", "was tiny and badly kept", "had few working machines"],
        ["was there, we hardly used it", "was small but usable", "was what you expect"],
        ["was clean and warm", "was a nice extra", "was relaxing after a long day"],
        ["was magnificent", "was a paradise, we never wanted to leave it", "was breathtaking, on the roof"]]),
    "wifi": (["the wifi", "the internet", "the connection"], [
        ["never worked and cost a fortune", "was a scam", "failed every single day"],
        ["was slow", "kept dropping", "only worked in the lobby"],
        ["was okay for mail", "worked most of the time", "was average"],
        ["was fast enough", "was free and reliable", "worked well in the room"],
        ["was excellent everywhere", "was lightning fast", "was flawless for work"]]),
}
# fmt: on
OPENINGS = [
    "We stayed for {n} nights in {month}.",
    "Came here for a conference in {month}.",
    "A {n} night stay with the family.",
    "Booked {n} nights through an agency.",
    "My second visit, {n} nights this time.",
    "Stopped over on a road trip in {month}.",
    "We picked this place after reading other reviews.",
    "A weekend for our anniversary in {month}.",
]
MONTHS = ["January", "March", "April", "June", "July", "August", "September", "October", "December"]
CONTRASTS = ["On the other hand,", "However,", "Still,", "That said,", "But"]
ADDITIONS = ["Also,", "And", "Besides,", "In addition,"]


class PortableRandom:
    """Random choices from `random.random()` alone, the one method whose numbers no version of Python changes."""

    def __init__(self, seed: int) -> None:
        self.generator = random.Random(seed)

    def uniform(self) -> float:
        return self.generator.random()

    def choice(self, options: list[str]) -> str:
        return options[int(self.uniform() * len(options))]

    def integer(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def normal(self) -> float:
        """A nearly normal number of mean 0 and variance 1: the sum of twelve uniform numbers, minus its mean."""
        return sum(self.uniform() for _ in range(12)) - 6

    def shuffled(self, options: list[str]) -> list[str]:
        return sorted(options, key=lambda _: self.uniform())


def make_reviews(rows: int = ROWS, seed: int = SEED) -> list[tuple[str, int]]:
    """`rows` texts, each with its rating 1..5."""
    rng = PortableRandom(seed)
    texts, scores = [], []
    for _ in range(rows):
        impression = rng.normal()
        opinions = {aspect: impression + 0.7 * rng.normal() for aspect in ASPECTS}
        mentioned = rng.shuffled(list(ASPECTS))[: rng.integer(3, 6)]
        not_in_text = 0.25 * rng.normal()
        deviation = sum(opinions[aspect] - impression for aspect in mentioned) / len(mentioned)
        scores.append(impression + deviation + not_in_text)
        texts.append(write_review(rng, {aspect: opinions[aspect] for aspect in mentioned}))
    return list(zip(texts, ratings_from_scores(scores), strict=True))


def write_review(rng: PortableRandom, opinions: dict[str, float]) -> str:
    """An opening and one sentence for each aspect in `opinions`, in that order."""
    sentences = [rng.choice(OPENINGS).format(n=rng.integer(2, 9), month=rng.choice(MONTHS))]
    previous = None
    for aspect, opinion in opinions.items():
        names, by_strength = ASPECTS[aspect]
        strength = min(4, max(0, round(2.6 + 1.1 * opinion)))
        sentence = f"{rng.choice(names)} {rng.choice(by_strength[strength])}."
        if previous is not None and rng.uniform() < 0.4:
            joiner = rng.choice(CONTRASTS if (strength - 2) * (previous - 2) < 0 else ADDITIONS)
            sentence = f"{joiner} {sentence}"
        sentences.append(sentence[0].upper() + sentence[1:])
        previous = strength
    return " ".join(sentences)


def ratings_from_scores(scores: list[float]) -> list[int]:
    """Ratings 1..5 by rank of the score, distributed as in the TripAdvisor data set."""
    by_score = sorted(range(len(scores)), key=scores.__getitem__)
    ratings = [0] * len(scores)
    total, cumulative = sum(TRIPADVISOR_RATINGS), 0
    start = 0
    for rating, count in enumerate(TRIPADVISOR_RATINGS, start=1):
        cumulative += count
        end = round(len(scores) * cumulative / total)
        for row in by_score[start:end]:
            ratings[row] = rating
        start = end
    return ratings


def make_comparisons(
    reviews: list[tuple[str, int]], seed: int = COMPARISONS_SEED
) -> list[tuple[str, str, str, int, bool]]:
    """Judgements of pairs of different ratings: texts chosen and rejected, annotator, number of the pair, correct.

    No pair is drawn twice. The annotators of a pair are different ones.
    """
    rng = PortableRandom(seed)
    judgements = []
    drawn: set[tuple[int, int]] = set()
    for start, pairs in PAIRS_PER_BLOCK.items():
        goal = len(drawn) + pairs
        while len(drawn) < goal:
            better, worse = (rng.integer(start, start + BLOCK_ROWS - 1) for _ in range(2))
            if reviews[better][1] <= reviews[worse][1] or (better, worse) in drawn:
                continue
            for annotator in rng.shuffled(list(PLANTED_RELIABILITIES))[:JUDGEMENTS_PER_PAIR]:
                correct = rng.uniform() < PLANTED_RELIABILITIES[annotator]
                chosen, rejected = (better, worse) if correct else (worse, better)
                judgements.append((reviews[chosen][0], reviews[rejected][0], annotator, len(drawn), correct))
            drawn.add((better, worse))
    return judgements


def to_csv(reviews: list[tuple[str, int]]) -> bytes:
    """A CSV file with the columns Review and Rating."""
    return csv_bytes([("Review", "Rating"), *reviews])


def comparisons_to_csv(judgements: list[tuple[str, str, str, int, bool]]) -> bytes:
    """A CSV file with the columns chosen, rejected, annotator, pair and correct."""
    return csv_bytes([("chosen", "rejected", "annotator", "pair", "correct"), *judgements])


def csv_bytes(rows: Sequence[tuple[object, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


if __name__ == "__main__":
    made_up = make_reviews()
    FILE.write_bytes(to_csv(made_up))
    print(f"{FILE.name}: {ROWS:,} reviews")
    comparisons = make_comparisons(made_up)
    COMPARISONS_FILE.write_bytes(comparisons_to_csv(comparisons))
    print(f"{COMPARISONS_FILE.name}: {len(comparisons):,} judgements")
