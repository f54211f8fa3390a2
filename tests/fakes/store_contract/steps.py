"""What several tests of the contract do on the way."""

from fakes.stores import SCOPE, StoreRig, contents
from fakes.virtual_time import until
from switchboard_policy.store import Manifest, Revision, StoreWriter


async def manifest_of(rig: StoreRig) -> Manifest:
    """Return the manifest of the policies, which is there."""
    found = await rig.reader().manifest("policy")
    assert found is not None
    return found


async def publish_all(rig: StoreRig, *numbers: int, epoch: int = 1) -> Revision:
    """Publish these policies and no endpoints, as a new writer; return the revision."""
    writer = rig.writer()
    await writer.replace(SCOPE, "endpoints", epoch=epoch, contents={})
    return await writer.replace(SCOPE, "policy", epoch=epoch, contents=contents(*numbers))


async def reported(writer: StoreWriter, refused: set[str]) -> None:
    """Wait until the one pod's record says that it refuses these objects."""

    async def said() -> bool:
        return {name for pod in await writer.pods(SCOPE) for name in pod.pod.refused} == refused

    await until(said)
