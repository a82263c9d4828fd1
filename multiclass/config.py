"""The sweep over seeds and noise ratios with k >= 1 comparisons per list: `python config.py --k 3`."""

import sys

from noisy_feedback.cli import run_config

if __name__ == "__main__":
    sys.exit(run_config("multiclass"))
