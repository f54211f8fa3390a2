"""A patcher that runs on some policies, in virtual time."""

import asyncio

from fakes.manifests import policy
from fakes.virtual_time import eventually
from fakes.worlds import parser
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import decode_data
from switchboard_operator.patcher import (
    Patcher,
)
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_operator.status import Status, Verdict
from switchboard_policy.compiler.world import Name
from unit.operator.bench import loop_clock
from unit.operator.kube_fakes import Cluster


def key(name: str) -> ObjectKey:
    return ObjectKey(Kind.POLICY, Name("ai", name))


def status(message: str = "fine", *, pods: str = "") -> Status:
    verdict = Verdict("Programmed", holds=True, reason="Pending", message=message)
    return Status(generation=1, verdicts=(verdict,), pods=pods)


class Patching:
    """A patcher that runs on some policies."""

    def __init__(self, *names: str, leads: bool = True) -> None:
        self.cluster = Cluster()
        self.inventory = Inventory(parser(), decode_secret=decode_data)
        for name in names:
            self.cluster.put(Kind.POLICY, policy(name, "a"))
        self.cluster.fill(self.inventory)
        self.leads = leads
        self.outcomes: list[str] = []
        self.written: list[str] = []
        self.patcher = Patcher(
            self.cluster,
            self.inventory,
            clock=loop_clock(),
            leads=lambda: self.leads,
            done=self.outcomes.append,
            written=lambda key, *_: self.written.append(key.name.name),
            changed=lambda: self.outcomes.append("changed"),
        )
        self.task = asyncio.create_task(self.patcher.run())

    @property
    def patched(self) -> list[str]:
        return [each.name.name for each, _ in self.cluster.patches]

    async def idle(self) -> None:
        await eventually(lambda: self.patcher.waiting == 0, within_s=300)
        await asyncio.sleep(0)
