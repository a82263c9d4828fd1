"""How long it takes until something happens: `python benchmarks/startup.py`.

Seconds of `--help`, and of a small run on 400 given embeddings with one epoch of each phase; and which of the large
libraries that run imports, and when.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from sweep import ROOT, write_reviews

TRIES = 5
LARGE = ("torch", "pandas", "pyarrow", "scipy", "matplotlib", "sklearn", "transformers", "sentence_transformers")
NEVER = ("scipy", "sklearn", "transformers", "sentence_transformers")  # by main.py --pc
LAST_BAR = "fine-tuning:"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        file = write_reviews(Path(name) / "data", (30, 40, 50, 120, 160), 384)
        run = ["--pc", "--path", str(file), "--output", f"{name}/results", "--epochs-t", "1", "--epochs-f", "1"]
        for script in ("main.py", "config.py"):
            print(f"{script} --help (goal: under 0.5 s){seconds(script, '--help'):>20.2f} s")
        print(f"main.py --pc, 400 reviews, 1 + 1 epochs{seconds('main.py', *run):>16.2f} s")
        report = start("main.py", *run, python=("-X", "importtime")).stderr
    print("\nimported by main.py --pc, in seconds with all that they import")
    for library in LARGE:
        print(f"  {library:22} {describe(library, report)}{' (should not be)' * (library in NEVER)}")


def start(script: str, *options: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, script, *options]
    return subprocess.run(command, cwd=ROOT / "multiclass", check=True, text=True, capture_output=True)


def seconds(script: str, *options: str) -> float:
    """Median seconds of a process, after one that does not count."""
    measured = []
    for _ in range(1 + TRIES):
        begin = time.perf_counter()
        start(script, *options)
        measured.append(time.perf_counter() - begin)
    return median(measured[1:])


def describe(library: str, report: str) -> str:
    """Whether and when a library was imported: `-X importtime` writes to stderr, as the progress bars do."""
    found = re.search(rf"^import time: *\d+ \| *(\d+) \| *{library}$", report, re.MULTILINE)
    if found is None:
        return "not imported"
    when = "after fine-tuning" if found.start() > report.rfind(LAST_BAR) >= 0 else "before fine-tuning"
    return f"{int(found[1]) / 1e6:.2f} s, {when}"


if __name__ == "__main__":
    main()
