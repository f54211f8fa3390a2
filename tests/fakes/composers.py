"""What composes answers, around the attempts of a test, and what it told."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from switchboard_dataplane.attempts import Attempts
from switchboard_dataplane.composed.composer import Composer, build_composer
from switchboard_dataplane.composed.ended import Ended
from switchboard_dataplane.composed.mirror import Mirrored


@dataclass
class Told:
    """What came of what followed answers; ``statuses`` are those of the webhook, the last for ever.

    An exception among them is raised.
    """

    mirrored: list[Mirrored] = field(default_factory=list)
    reviewed: list[str] = field(default_factory=list)
    posted: list[tuple[str, Any]] = field(default_factory=list)
    statuses: list[int | Exception] = field(default_factory=lambda: [200])

    async def post(self, url: str, body: bytes) -> int:
        self.posted.append((url, orjson.loads(body)))
        said = self.statuses[min(len(self.posted), len(self.statuses)) - 1]
        if isinstance(said, Exception):
            raise said
        return said

    def review(self, ended: Ended, result: str) -> None:
        self.reviewed.append(result)


def composer(attempts: Attempts, told: Told | None = None) -> Composer:
    hears = Told() if told is None else told
    return build_composer(
        attempts, post=hears.post, mirrored=hears.mirrored.append, reviewed=hears.review
    )
