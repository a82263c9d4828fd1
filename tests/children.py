"""The scripts in child processes that start at once, and with a fault if wanted.

They are forked from a server that has imported everything: starting Python and its libraries anew takes seconds.
"""

import ctypes
import multiprocessing
import os
import resource
import signal
import threading
import time
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.children", "noisy_feedback.sweep", "sentence_transformers", "transformers.models.bert.modeling_bert"]
)


class Child:
    """`script` with the arguments, started with faults. What it says on stderr is kept here, come what may."""

    def __init__(self, script, given, *faults):
        reader, writer = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=work, args=(script, list(map(str, given)), writer, faults))
        self.process.start()
        writer.close()
        self.bytes = b""
        self.listener = threading.Thread(target=self.listen, args=(reader,))
        self.listener.start()

    def listen(self, reader):
        with reader:
            while more := os.read(reader.fileno(), 10_000):
                self.bytes += more

    def result(self):
        """The exit status, and the lines on stderr but for bars."""
        self.process.join(120)
        assert self.process.exitcode is not None, f"hangs: {self.bytes!r}"
        self.listener.join()
        lines = self.bytes.decode(errors="replace").replace("\r", "\n").splitlines()
        return self.process.exitcode, [line for line in lines if line.strip() and "%|" not in line]


def work(script, given, stderr, faults):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(stderr.fileno(), 2)
    os.environ["HF_HUB_OFFLINE"] = "1"
    for fault in faults:
        fault()
    from tests.conftest import program_of

    raise SystemExit(program_of(script, given))


# --- faults


def kill_at_write(number, moment):
    """SIGKILL at the n-th file that is written: with half of it written, before it gets its name, or just after."""
    written = 0
    sync, replace = os.fsync, Path.replace

    def fsync(file):
        nonlocal written
        written += 1
        if written == number and moment == "half":
            os.ftruncate(file, os.fstat(file).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    def rename(self, target):
        if written == number and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(self, target)
        if written == number and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync, Path.replace = fsync, rename


def limit_files(size):
    """No file can grow beyond `size` bytes: a write that would fails, as on a full disk or beyond a quota."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def obey_permissions():
    """Root may write whatever the permissions say: give that up (capability CAP_DAC_OVERRIDE; see capset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    assert libc.capget(header, sets) == 0
    for place in (0, 1):
        sets[place] &= ~(1 << 1)
    assert libc.capset(header, sets) == 0


def set_clock_back():
    """The clock jumps an hour back at every other look."""
    import tqdm.std

    real, looks = time.time, 0

    def jumping():
        nonlocal looks
        looks += 1
        return real() - 3600 * (looks % 2)

    time.time = tqdm.std.time = jumping


def wait_until(moment):
    """Start together with others."""
    time.sleep(max(0.0, moment - time.time()))
