"""Many data planes in one process, as far as the store goes: no ports, and nobody asks them.

``python -m scale_line.followers FIRST COUNT REDIS_URL SCOPE KEY_FILE``: FIRST is the number of
the first. Each has connections of its own, follows with the product's own code, builds every
snapshot and swaps it in, acks and says that it lives. Twenty whole processes would ask for more
cores than a small machine has.
"""

import asyncio
import signal
import sys
from pathlib import Path
from random import Random

from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.process import prepare_process
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.sources.follow import Follower
from switchboard_dataplane.sources.key_file import KeyFile
from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_policy.store import ZERO, Pod


async def follow(number: int, url: str, scope: str, keys: KeyFile) -> None:
    """Be one data plane until cancelled."""
    loop = asyncio.get_running_loop()
    in_force = InForce(
        SnapshotBuilder(keys.keyring()),
        keyring=keys.keyring,
        live_pods=lambda: follower.state().live_pods,
        clock=loop.time,
    )
    source = RedisSource(url, scope=scope)
    follower = Follower(
        source,
        pod=Pod(name=f"follower-{number}", revision=ZERO),
        keyring=keys.keyring,
        apply=in_force.apply,
        clock=loop.time,
        random=Random(number),
    )
    try:
        await follower.run()
    finally:
        await source.close()


async def follow_all(numbers: range, url: str, scope: str, key_file: Path) -> None:
    """Be all of them until SIGTERM."""
    keys = KeyFile(key_file, scope=scope)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    tasks = [asyncio.create_task(follow(number, url, scope, keys)) for number in numbers]
    await told.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    prepare_process()
    first, count = map(int, sys.argv[1:3])
    url, scope, key_file = sys.argv[3:]
    asyncio.run(follow_all(range(first, first + count), url, scope, Path(key_file)))
