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
    except BrokenPipeError as error:
        if stdout_is_closed():  # the reader of our output has gone (`| head`): there is nobody to report to
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        message = f"a connection to another process broke ({error})"
    except InputError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or 'a file'}: {error.strerror or error}"
    except (RuntimeError, MemoryError) as error:
        if not (message := memory_or_gpu_problem(error)):
            raise
    except KeyboardInterrupt:
        print(f"{program}: interrupted; files already written are complete", file=sys.stderr)
        return 130
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def stdout_is_closed() -> bool:
    """Has the reader of our output gone?"""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are reported without being asked for
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def memory_or_gpu_problem(error: RuntimeError | MemoryError) -> str:
    """What a lack of memory or a failing GPU means for the user; empty for any other error."""
    reason = str(error).partition("\n")[0][:200]
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for this
        return "out of GPU memory: stop other programs on the GPU, lower --batch-f, or leave out --use-cuda"
    if isinstance(error, MemoryError) or "can't allocate memory" in reason:
        return f"out of memory ({reason}): use fewer reviews, or a machine with more memory"
    if "CUDA" in reason or "NVIDIA" in reason:
        return f"the GPU failed ({reason}); leave out --use-cuda"
    return ""
