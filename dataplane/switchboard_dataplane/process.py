"""What the process asks of the machine before it serves."""

import gc
import os
import resource
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

#: Net new objects between two looks for cyclic garbage. Requests leave none behind; thousands of
#: streams that begin at once are as many live objects, and looking through all of them again and
#: again would hold up everybody. Half as many are looked through in some 2 ms.
GC_THRESHOLDS: Final = (10_000, 40, 20)
#: How long a thread that computes keeps the event loop waiting, in seconds: what is read as a whole
#: is checked and written to disk in threads.
SWITCH_S: Final = 0.001
#: How numpy is told to use one thread, which must be before it is loaded: what decisions multiply
#: is small, and on a busy machine a second thread made them wait ten times as long.
ONE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def prepare_process() -> None:
    """Take all the open files that the machine allows, collect garbage rarely, multiply alone."""
    use_one_thread()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A stream is two sockets; the usual soft limit is 1,024. macOS refuses its own hard limit.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_S)


def use_one_thread() -> None:
    """Have numpy multiply in one thread, unless the environment says how many it may use.

    Sums come out the same then, to the last bit, however many cores there are.
    """
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")


@contextmanager
def collected_later() -> Generator[None]:
    """Look for no cyclic garbage while the block runs: what it makes is there to stay."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
