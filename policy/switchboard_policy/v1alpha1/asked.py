"""Models that the gateway asks on its own account, about requests and answers."""

from typing import Annotated, Final

from pydantic import Field

from switchboard_policy.v1alpha1.common import Duration, Model, PositiveShare
from switchboard_policy.v1alpha1.tiers import Reference

#: Half a page: a prompt that says what good means here; in characters.
INSTRUCTIONS_LENGTH_MAX: Final = 2_000


class Asked(Model):
    """A model that the gateway asks a question of its own."""

    backend: Reference = Field(description="The ModelBackend that is asked.")
    timeout: Duration = Field(
        default="10s", description="How long an answer is waited for, all attempts together."
    )
    instructions: Annotated[str, Field(min_length=1, max_length=INSTRUCTIONS_LENGTH_MAX)] | None = (
        Field(
            default=None,
            description="What it is told beside the question: what a good answer is here.",
        )
    )


class Judge(Asked):
    """A model that says how good an answer is."""

    min: PositiveShare = Field(
        default="0.6", description="From this quality on, of 0 to 1, an answer is good enough."
    )
