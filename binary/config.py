"""The sweep over seeds and noise ratios with pairs exactly three stars apart: `python config.py`."""

import sys

from noisy_feedback.cli import run_config

if __name__ == "__main__":
    sys.exit(run_config("binary"))
