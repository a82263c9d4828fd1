"""One run on comparisons that people made: `python main.py --labels one`."""

import sys

from noisy_feedback.cli import run_main

if __name__ == "__main__":
    sys.exit(run_main("human"))
