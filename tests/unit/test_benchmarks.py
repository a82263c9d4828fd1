import sys

import sweep as benchmark

from noisy_feedback.cli import run_config


def test_the_published_sweep_of_the_benchmark_is_that_of_its_command(tmp_path, monkeypatch):
    file = benchmark.write_reviews(tmp_path / "data", (4, 4, 4, 4, 4), dimensions=3)
    found = []
    monkeypatch.setattr("noisy_feedback.sweep.run_sweep", lambda runs: found.extend(runs))
    monkeypatch.setattr(sys, "argv", ["config.py", "--path", str(file), "--k", "3", "--pc"])
    assert run_config("multiclass") == 0
    assert found == benchmark.runs_of(file)
