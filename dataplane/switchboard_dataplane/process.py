"""What the process asks of the machine before it serves."""

import gc
import resource
from contextlib import suppress
from typing import Final

#: Net new objects between two looks for cyclic garbage. Requests leave none behind; thousands of
#: streams that begin at once are as many live objects, and looking through all of them again and
#: again would hold up everybody.
GC_THRESHOLDS: Final = (20_000, 20, 20)


def prepare_process() -> None:
    """Take all the open files that the machine allows, and collect garbage rarely."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A stream is two sockets; the usual soft limit is 1,024. macOS refuses its own hard limit.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(*GC_THRESHOLDS)
