"""The scripts in child processes that start at once, with faults if wanted.

They are forked from a server that has imported everything: starting Python and its libraries anew takes seconds.
No test waits for a number of seconds: it waits for an event, and `patience` only ends what hangs.
"""

import fnmatch
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import tqdm

PATIENCE = 600  # seconds, however loaded the machine is
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.slow.children", "noisy_feedback.sweep", "sentence_transformers", "transformers.models.bert.modeling_bert"]
)
running: list["Child"] = []  # the children of the test that is under way


@contextmanager
def patience(times=1):
    """Fail what hangs; however the block ends, none of its children outlives it."""

    def give_up(*_):
        raise AssertionError(f"hangs; the children wrote {[child.bytes for child in running]}")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE * times)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        while running:
            running.pop().end()


class Child:
    """`script` with its arguments, started with faults, in a session of its own. `bytes` is what is on its stderr."""

    def __init__(self, script, arguments, *faults):
        reader, writer = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=work, args=(script, list(map(str, arguments)), writer, faults))
        self.process.start()
        running.append(self)
        writer.close()
        self.bytes = b""
        self.listener = threading.Thread(target=self.listen, args=(reader,), daemon=True)
        self.listener.start()

    def listen(self, reader):
        with reader:
            while more := os.read(reader.fileno(), 10_000):
                self.bytes += more

    def members(self):
        """The process ids of its session, without those that have ended."""
        found = set()
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has just ended
                state, _, _, session = file.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    found.add(int(file.parent.name))
        return found

    def result(self):
        """The exit status, and the lines on stderr without progress bars, when all its processes have ended."""
        self.process.join()
        while self.members():
            time.sleep(0.01)
        self.listener.join()
        lines = self.bytes.decode(errors="replace").replace("\r", "\n").splitlines()
        return self.process.exitcode, [line for line in lines if line.strip() and not re.search(r"%\||0 epochs", line)]

    def end(self):
        """Kill every process of its session."""
        for pid in (self.process.pid, *self.members()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def work(script, arguments, stderr, faults):
    os.setsid()
    # A shell's background jobs ignore Ctrl-C; the server of an earlier sweep in this process blocks it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(stderr.fileno(), 2)
    os.environ["HF_HUB_OFFLINE"] = "1"
    tqdm.tqdm.monitor_interval = 0  # a thread that after ten seconds, so on a busy machine, draws bars and may warn
    sys.dont_write_bytecode = True  # a module's .pyc that is cut short by a fault would break every later import
    for fault in faults:
        fault()
    import runpy

    from tests.conftest import ROOT

    path = ROOT / script
    os.chdir(path.parent)
    sys.argv = [path.name, *arguments]
    runpy.run_path(str(path), run_name="__main__")


# --- faults


def kill_at_write(pattern, moment):
    """SIGKILL when a file of this name is written: with half of it written, before its renaming, or just after."""
    sync, replace = os.fsync, Path.replace

    def is_meant(temporary):
        return fnmatch.fnmatch(re.sub(r"^\.\d+-", "", Path(temporary).name), pattern)

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def fsync(file):
        if moment == "half" and is_meant(Path(f"/proc/self/fd/{file}").readlink()):
            os.ftruncate(file, os.fstat(file).st_size // 2)
            kill()
        sync(file)

    def rename(self, target):
        if moment == "before" and is_meant(self):
            kill()
        replace(self, target)
        if moment == "after" and is_meant(self):
            kill()

    os.fsync, Path.replace = fsync, rename


def limit_files(size):
    """No file can grow beyond `size` bytes: a write that would fails, as on a full disk or beyond a quota."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
