"""Errors that a user can cause: one line that names the value and the way out, and exit status 2."""

import os
import select
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something given to the program is wrong; the message says what and how to fix it, in one line."""


def run_with_error_messages(program: str, work: Callable[[], bool | None]) -> int:
    """Run `work` and print what the user can fix as one line on stderr.

    Returns the exit status: 0, 1 where `work` returns False, 2 after an InputError or OSError, 130 after Ctrl-C.
    """
    try:
        status = 1 if work() is False else 0
        sys.stdout.flush()  # a closed pipe shows here, not in the interpreter's shutdown
        return status
    except InputError as error:
        message = str(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and stdout_is_closed():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        message = f"{error.filename or 'a file or a process'}: {error.strerror or error}"
    except (RuntimeError, MemoryError) as error:
        message = str(error).partition("\n")[0][:200]
        known = ("can't allocate memory", "CUDA", "NVIDIA")  # PyTorch's, without memory or with a failing GPU
        if isinstance(error, RuntimeError) and not any(words in message for words in known):
            raise
        message = f"out of memory, or the GPU failed ({message}): use fewer reviews, or leave out --use-cuda"
    except KeyboardInterrupt:
        print(f"{program}: interrupted; files already written are complete", file=sys.stderr)
        return 130
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def stdout_is_closed() -> bool:
    """Has the reader of our output gone (`| head`)? Then there is nobody to report to."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are reported without being asked for
    return bool(poll.poll(0))
