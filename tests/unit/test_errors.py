"""What users can cause ends in one line on stderr and a status; what they cannot cause is not hidden."""

import errno
import os
import subprocess
import sys
from unittest import mock

import pytest

from noisy_feedback.errors import InputError, run_with_error_messages


@pytest.mark.parametrize(("result", "status"), [(None, 0), (True, 0), (False, 1)])
def test_the_status_says_how_the_work_ended(capsys, result, status):
    assert run_with_error_messages("main.py", lambda: result) == status
    assert capsys.readouterr() == ("", "")


FAILED = "main.py: error: out of memory, or the GPU failed"
ERRORS = {
    "what was given": (InputError("--k 9: too large"), 2, "main.py: error: --k 9: too large\n"),
    "several lines": (InputError("first\n  second\tthird\r\n"), 2, "main.py: error: first second third\n"),
    "a file": (OSError(errno.ENOSPC, "No space left", "a.csv"), 2, "main.py: error: a.csv: No space left\n"),
    "a file without a name": (OSError(errno.ENOSPC, "No space left"), 2, "main.py: error: a file or a process: No"),
    "a lack of memory": (MemoryError(), 2, f"{FAILED} (): use fewer reviews, or leave out --use-cuda\n"),
    "a GPU": (RuntimeError("CUDA error: x\nmore"), 2, f"{FAILED} (CUDA error: x): use fewer reviews"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "main.py: interrupted; files already written are complete\n"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_one_line_with_a_status(capsys, kind):
    error, status, line = ERRORS[kind]
    assert run_with_error_messages("main.py", mock.Mock(side_effect=error)) == status
    out, printed = capsys.readouterr()
    assert (out, printed[: len(line)], printed.count("\n")) == ("", line, 1)


def test_an_error_that_no_user_caused_keeps_its_traceback():
    for error in (ValueError("a mistake of ours"), RuntimeError("another")):
        with pytest.raises(type(error)):
            run_with_error_messages("main.py", mock.Mock(side_effect=error))


@pytest.mark.parametrize(("unbuffered", "lines"), [("", 1), ("", 10_000), ("1", 1)])
def test_a_closed_pipe_ends_the_program_quietly(unbuffered, lines):
    """At the first line, in the middle, or when what is buffered is written at the end."""
    program = "import sys; from noisy_feedback.errors import run_with_error_messages as run; sys.stdin.read();"
    program += f"sys.exit(run('main.py', lambda: [print('a line') for _ in range({lines})]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    process.stdin.close()  # now it may print
    assert process.stderr.read() == b""
    assert process.wait() == 0
