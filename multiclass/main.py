"""One run with k >= 1 comparisons per list of reviews: `python main.py --ratio 0.2 --k 3`."""

import sys

from noisy_feedback.cli import run_main
from noisy_feedback.settings import Study

STUDY = Study(
    name="multiclass",
    gap=None,  # lists of k+1 reviews whose ratings are all different
    epochs_t=100,
    epochs_f=20,
    lr_f=1e-3,
    batch_f=512,
)

if __name__ == "__main__":
    sys.exit(run_main(STUDY))
