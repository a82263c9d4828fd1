"""The sweep over seeds, kinds of labels and noise ratios: `python config.py --labels gold one flipped`."""

import sys

from noisy_feedback.cli import run_config

if __name__ == "__main__":
    sys.exit(run_config("human"))
