"""Whatever happens to the store, in whatever order: what is in force was published, and never old.

The machine publishes, damages, rolls back, flushes, forges and crashes, with everything that a
writer to the store without the key can do. After each update it checks, for each object, that what
came into force was published, later than what was in force before. Left alone, the leader repairs
the store, and the follower ends with exactly what was published last.
"""

import asyncio
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fakes.followers import FakePlane, FaultyReader
from fakes.stores import OURS, SCOPE, STRANGER, MemoryRig, backend, key
from fakes.virtual_time import VirtualTimeLoop, eventually
from switchboard_dataplane.sources.reading import Contents
from switchboard_policy.ir import Backend
from switchboard_policy.seal import Keyring
from switchboard_policy.store import ZERO, Channel, Field, Line, Revision
from switchboard_policy.store.signing import sign_line

NUMBERS = st.integers(0, 3)
GONE = -1


class MemoryDisk:
    """A disk that keeps the last snapshot of each channel."""

    def __init__(self) -> None:
        self.kept: dict[Channel, Contents] = {}

    def write(self, channel: Channel, contents: Contents, *, keyring: Keyring) -> None:
        self.kept[channel] = contents

    def load(self, channel: Channel, *, keyring: Keyring) -> Contents | None:
        return self.kept.get(channel)


class Source(RuleBasedStateMachine):
    """``published`` lists each object's versions in order (GONE for a removal); ``reached`` says
    where in that list the follower is."""

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.runner.run(self._start())

    async def _start(self) -> None:
        self.rig = MemoryRig()
        self.writer = self.rig.writer()
        self.epoch = 1
        self.version = 0
        self.wanted: dict[int, int] = {}
        self.published: dict[int, list[int]] = {number: [GONE] for number in range(4)}
        self.reached = dict.fromkeys(range(4), 0)
        self.accepted = ZERO
        self.old_fields: list[Field] = []
        self.old_lines: list[Line] = []
        self.copies: list[Any] = []
        self.disk: Any = MemoryDisk()
        await self.writer.replace(SCOPE, "endpoints", epoch=1, contents={})
        await self._begin_following()

    async def _begin_following(self) -> None:
        self.source = FaultyReader(self.rig.reader())
        self.plane = FakePlane(self.source, OURS, disk=self.disk)
        self.plane.on_update = self._check_update
        await self.plane.__aenter__()

    def _check_update(self) -> None:
        update = self.plane.updates[-1]
        for name in update.removed:
            self._advance(int(name[-1]), GONE)
        for name, said in update.changed.items():
            assert isinstance(said, Backend)
            self._advance(int(name[-1]), int(said.model.removeprefix("model-")))
        assert update.revisions["policy"] >= self.accepted
        self.accepted = update.revisions["policy"]

    def _advance(self, number: int, version: int) -> None:
        later = self.published[number][self.reached[number] + 1 :]
        assert version in later, f"b{number}: {version} is not among the later {later}"
        self.reached[number] += 1 + later.index(version)

    def _contents(self) -> dict[str, Any]:
        return {key(number): backend(number, v) for number, v in self.wanted.items()}

    def _remember(self) -> None:
        parts = self.rig.store.channel(SCOPE, "policy")
        self.old_fields.extend(parts.fields.values())
        self.old_lines.extend(parts.log[-2:])

    @rule(number=NUMBERS, gone=st.booleans())
    def publish(self, number: int, gone: bool) -> None:
        self._remember()
        if gone and number not in self.wanted:
            return
        self.version += 1
        if gone:
            del self.wanted[number]
        else:
            self.wanted[number] = self.version
        self.published[number].append(GONE if gone else self.version)
        said = None if gone else backend(number, self.version)
        self.runner.run(
            self.writer.publish(SCOPE, "policy", epoch=self.epoch, changes={key(number): said})
        )

    @rule()
    def repair(self) -> None:
        self.runner.run(self._repair())

    async def _repair(self) -> None:
        await self.writer.replace(SCOPE, "endpoints", epoch=self.epoch, contents={})
        await self.writer.replace(SCOPE, "policy", epoch=self.epoch, contents=self._contents())

    @rule()
    def another_leader(self) -> None:
        self.epoch += 1
        self.writer = self.rig.writer()
        self.repair()

    @rule(seconds=st.sampled_from([0.01, 0.2, 3.0, 20.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @rule()
    def flush(self) -> None:
        self._remember()
        self.runner.run(self.rig.flush())

    @rule(keep=st.integers(0, 2))
    def trim(self, keep: int) -> None:
        self.runner.run(self.rig.trim_log("policy", keep))

    @rule(number=NUMBERS, cut=st.booleans())
    def damage_an_entry(self, number: int, cut: bool) -> None:
        if number in self.wanted:
            encoded = backend(number, self.wanted[number])
            body = encoded.body[:-4] if cut else None
            self.runner.run(self.rig.set_entry("policy", encoded.digest, body))

    @rule(choice=st.integers(0, 999))
    def put_an_old_field_back(self, choice: int) -> None:
        if self.old_fields:
            field = self.old_fields[choice % len(self.old_fields)]
            self.runner.run(self.rig.set_field("policy", field.object, field))

    @rule(number=NUMBERS)
    def take_a_field_away(self, number: int) -> None:
        self.runner.run(self.rig.set_field("policy", key(number), None))

    @rule(number=NUMBERS, forge_head=st.booleans())
    def write_as_a_stranger(self, number: int, forge_head: bool) -> None:
        at = self.rig.store.channel(SCOPE, "policy").revision
        line = sign_line(
            STRANGER,
            "policy",
            revision=Revision(at.epoch, at.sequence + 1),
            previous=at,
            key=key(number),
            digest="",
        )
        self.runner.run(self.rig.add_line("policy", line))
        head = self.rig.store.channel(SCOPE, "policy").head
        if forge_head and head:
            beyond = Revision(at.epoch, at.sequence + 1)
            forged = msgspec.structs.replace(head, revision=beyond)
            self.runner.run(self.rig.set_head("policy", forged))

    @rule(choice=st.integers(0, 999))
    def play_an_old_line_again(self, choice: int) -> None:
        if self.old_lines:
            old = self.old_lines[choice % len(self.old_lines)]
            self.runner.run(self.rig.add_line("policy", old))

    @rule()
    def keep_a_copy(self) -> None:
        self.copies.append(self.runner.run(self.rig.copy("policy")))

    @precondition(lambda self: self.copies)
    @rule(choice=st.integers(0, 999))
    def fall_back_to_a_copy(self, choice: int) -> None:
        self.runner.run(self._fall_back(choice))

    async def _fall_back(self, choice: int) -> None:
        await self.rig.go_back("policy", self.copies[choice % len(self.copies)])
        self.copies.clear()

    @rule(cut=st.booleans())
    def cut_or_mend_the_way(self, cut: bool) -> None:
        self.source.cut = cut

    @rule()
    def crash(self) -> None:
        self.runner.run(self._crash())

    async def _crash(self) -> None:
        self.source.cut = True
        await self.plane.stop()
        kept = self.disk.kept.get("policy")
        self.accepted = ZERO
        self.reached = dict.fromkeys(range(4), 0)
        if kept is None:
            # A new pod: it knows of nothing, and believes what was published at any time.
            await self._begin_following()
            return
        await self._begin_following()
        await eventually(lambda: self.plane.updates)
        assert self.plane.updates[0].revisions["policy"] == kept.revision

    @rule()
    def come_to_rest(self) -> None:
        self.runner.run(self._come_to_rest())

    async def _come_to_rest(self) -> None:
        self.source.cut = False
        await self._repair()
        await eventually(self._at_rest, within_s=300, every_s=0.5)

    def _at_rest(self) -> bool:
        state = self.plane.follower.state()
        wanted = {name: said.entry for name, said in self._contents().items()}
        return state.synced and not state.refused and self.plane.in_force == wanted

    @invariant()
    def the_follower_is_alive(self) -> None:
        if hasattr(self, "plane"):
            self.plane.revision()

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            try:
                self.runner.run(self._come_to_rest())
            finally:
                self.runner.run(self.plane.stop())
                self.runner.close()


TestSource = Source.TestCase
TestSource.settings = settings(max_examples=60, stateful_step_count=40)
