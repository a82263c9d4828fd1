"""One run with selective pairs, exactly three stars apart: `python main.py --ratio 0.2`."""

import sys

from noisy_feedback.cli import run_main
from noisy_feedback.settings import Study

STUDY = Study(
    name="binary",
    gap=3,  # 1 star against 4, 2 stars against 5
    epochs_t=100,
    epochs_f=20,
    lr_f=1e-4,
    batch_f=64,
)

if __name__ == "__main__":
    sys.exit(run_main(STUDY))
