"""Puts together what a data plane learns by: notes, the journal with its log, feedback."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random

from switchboard_dataplane.learning.decision_log import DecisionLog
from switchboard_dataplane.learning.feedback import Feedback
from switchboard_dataplane.learning.journal import Journal
from switchboard_dataplane.learning.noting import Notes
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_dataplane.telemetry.choices import Choices
from switchboard_policy.seal import Keyring
from switchboard_policy.store import Retention, StoreReader


@dataclass(frozen=True, slots=True)
class Learning:
    """What takes part: at the beginning and end of a request, after it, and when it is rated."""

    notes: Notes
    journal: Journal
    feedback: Feedback


def build_learning(
    source: StoreReader,
    *,
    sharing: Sharing,
    keyring: Callable[[], Keyring],
    keep: Retention,
    choices: Choices,
    clock: Callable[[], float],
    today: Callable[[], datetime],
    random: Random,
) -> Learning:
    """Build it for the pod whose words ``sharing`` tells; call it in the loop that will run it."""
    journal = Journal(
        sharing=sharing,
        log=DecisionLog(source, pod=sharing.pod, keyring=keyring, keep=keep, random=random),
        choices=choices,
        clock=clock,
        today=today,
        call_later=asyncio.get_running_loop().call_later,
    )
    return Learning(
        notes=Notes(keyring=keyring, entropy=os.urandom, chance=random.random),
        journal=journal,
        feedback=Feedback(keyring=keyring, take=journal.take_feedback, today=today),
    )
