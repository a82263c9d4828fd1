"""The server that worker processes are forked from, in a module that is imported at once: it starts with the program.

The server imports the sweep's libraries and computes nothing. So a fork of it is safe, whatever threads the main
program has (a fork of the main program itself is not), on Linux and macOS.
"""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask, raise_signal, signal

from noisy_feedback.errors import InputError

CONTEXT = multiprocessing.get_context("forkserver")


def start_server() -> None:
    """Start the server, if it is not there. It and its workers never receive Ctrl-C, which the main process reports.

    Errors: InputError where the folder for temporary files has too long a name for a socket.
    """
    CONTEXT.set_forkserver_preload(["noisy_feedback.sweep", "scipy.optimize"])
    multiprocessing.resource_tracker.ensure_running()  # which would unblock the signal
    before = pthread_sigmask(SIG_BLOCK, {SIGINT})  # the server inherits this
    try:
        multiprocessing.forkserver.ensure_running()
    except OSError as error:
        raise InputError(
            f"worker processes cannot be started ({error}); set the environment variable TMPDIR to a short path, /tmp"
        ) from None
    finally:
        pthread_sigmask(SIG_SETMASK, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C until the block ends: the start of a worker that it interrupts would be known to nobody."""
    received = []
    before = signal(SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal(SIGINT, before)
        if received:
            raise_signal(SIGINT)


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
