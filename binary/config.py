"""The sweep over seeds and noise ratios with pairs exactly three stars apart: `python config.py`."""

import sys

from noisy_feedback.cli import run_config
from noisy_feedback.settings import Study

STUDY = Study(
    name="binary",
    gap=3,  # 1 star against 4, 2 stars against 5
    epochs_t=30,
    epochs_f=30,
    lr_f=1e-3,
    batch_f=512,
)

if __name__ == "__main__":
    sys.exit(run_config(STUDY))
