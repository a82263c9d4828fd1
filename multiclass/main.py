"""One run with k >= 1 comparisons per list of reviews: `python main.py --ratio 0.2 --k 3`."""

import sys

from noisy_feedback.cli import run_main

if __name__ == "__main__":
    sys.exit(run_main("multiclass"))
