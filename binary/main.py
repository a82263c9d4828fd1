"""One run with selective pairs, exactly three stars apart: `python main.py --ratio 0.2`."""

import sys

from noisy_feedback.cli import run_main

if __name__ == "__main__":
    sys.exit(run_main("binary"))
