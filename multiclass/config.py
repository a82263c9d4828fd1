"""The sweep over seeds and noise ratios with k >= 1 comparisons per list: `python config.py --k 3`."""

import sys

from noisy_feedback.cli import run_config
from noisy_feedback.settings import Study

STUDY = Study(
    name="multiclass",
    gap=None,  # lists of k+1 reviews whose ratings are all different
    epochs_t=30,
    epochs_f=30,
    lr_f=1e-3,
    batch_f=512,
)

if __name__ == "__main__":
    sys.exit(run_config(STUDY))
