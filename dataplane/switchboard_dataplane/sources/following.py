"""Where the follower stands with one channel: what is in force, what is refused, what is due."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from switchboard_dataplane.sources.reading import EMPTY, NOTHING_THERE, Contents, Held, Plan
from switchboard_policy.store import ZERO, Channel, Head, Revision

#: The first wait after trouble; each further one is twice as long, up to the limits below.
BACKOFF_S: Final = 0.1
#: While lines cannot be applied, news comes with the next reading of the manifest.
BROKEN_BACKOFF_MAX_S: Final = 2.0
#: While objects are refused, the lines are still followed; the rest is only looked at again.
REFUSED_BACKOFF_MAX_S: Final = 30.0
_DOUBLINGS_MAX: Final = 16


def backoff_s(tries: int, *, limit_s: float, random: Random) -> float:
    """Return how long to wait after that many failures: half of it fixed, half by chance."""
    wait_s: float = min(limit_s, BACKOFF_S * 2 ** min(tries, _DOUBLINGS_MAX))
    return wait_s * (0.5 + random.random() / 2)


def _has_no_last_good(key: str) -> bool:
    """Say whether nothing is better than what was good: the key of a client may be revoked."""
    return key.startswith("client/")


@dataclass(slots=True)
class Following:
    """One channel.

    ``complete``: a whole manifest was in force once, so absences are known. ``broken`` says why
    lines are not followed until the next full sync, "" if they are; ``trouble`` what is wrong with
    the store. ``refused`` maps objects to why their newest entry is not in force. ``sync_at_s`` is
    when the next full sync is due, by the follower's clock; None if none is.
    """

    channel: Channel
    random: Random
    contents: Contents = EMPTY
    complete: bool = False
    broken: str = "nothing was read yet"
    trouble: str = ""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    sync_at_s: float | None = 0.0
    _gaps: int = 0
    _retries: int = 0
    _began: bool = False

    @property
    def awaits_first(self) -> bool:
        """Whether nothing was ever published here, so that a line is the beginning of it."""
        return self.broken == NOTHING_THERE and self.contents.revision == ZERO and not self._began

    def begin(self, *, now_s: float) -> None:
        """Have the manifest read at once: the first line is there.

        A store that shows lines and no manifest is asked as rarely as any other that is broken.
        """
        self._began = True
        self.sync_at_s = now_s

    def gone_by(self, plan: Plan, refused: Iterable[str]) -> set[str]:
        """Return what is no longer to be in force by a plan of which these objects are refused.

        Also what was refused before and is gone: it may wait for a key of the scope, and come back.
        """
        held, before = self.contents.held.keys(), self.refused.keys()
        gone = plan.removed & (held | before)
        if plan.complete:
            gone |= before - plan.wanted.keys() - held
        return {*gone, *filter(_has_no_last_good, refused)}

    def settle(
        self,
        plan: Plan,
        *,
        taken: Mapping[str, Held],
        refused: Mapping[str, str],
        full: bool,
        now_s: float,
    ) -> None:
        """Note that a plan was carried out: what is in force now, and what is due next."""
        held = {**self.contents.held, **taken}
        for key in (*plan.removed, *filter(_has_no_last_good, refused)):
            held.pop(key, None)
        for key, target in plan.unchanged.items():
            held[key] = Held(target.digest, target.revision, held[key].body)
        self.contents = Contents(revision=plan.revision, held=held)
        touched = plan.wanted.keys() | plan.removed
        earlier: Mapping[str, str] = {} if plan.complete else self.refused
        kept = {key: why for key, why in earlier.items() if key not in touched}
        self.refused = {**kept, **refused}
        self.complete |= plan.complete
        self.trouble = plan.distrusted
        self._schedule(plan.broken, full=full, now_s=now_s)

    def compare(self, head: Head | None, *, before: Revision, now_s: float) -> None:
        """Note where the store said that the channel stands.

        The head was read after ``before`` was in force and before the last reading of lines.
        """
        mine = self.contents.revision
        if self.broken:
            return
        if head is None:
            self.trouble = NOTHING_THERE
        elif head.revision < before:
            self.trouble = f"the store went back to {head.revision}; {before} stays in force"
        else:
            self.trouble = ""
            if head.revision > mine:
                missing = f"the store is at {head.revision}, and its log ends before that"
                self._schedule(missing, full=False, now_s=now_s)

    def _schedule(self, broken: str, *, full: bool, now_s: float) -> None:
        self.broken = broken
        if broken:
            # The first gap is mended at once; a log that stays bad must not make a busy loop.
            wait_s = self._wait_s(self._gaps, BROKEN_BACKOFF_MAX_S) if full or self._gaps else 0.0
            self._gaps += 1
            self.sync_at_s = now_s + wait_s
            return
        if not full:
            self._gaps = 0
        if not self.refused:
            self._retries = 0
            self.sync_at_s = None
        elif full or self.sync_at_s is None:
            self.sync_at_s = now_s + self._wait_s(self._retries, REFUSED_BACKOFF_MAX_S)
            self._retries += 1

    def _wait_s(self, tries: int, limit_s: float) -> float:
        return backoff_s(tries, limit_s=limit_s, random=self.random)
