"""What a policy's users may want, by examples: the signal ``signals.intents``."""

from typing import Annotated, Final

from pydantic import Field

from switchboard_policy.v1alpha1.common import TEXT_PATTERN, Label, Model, PositiveShare

INTENTS_MAX: Final = 16
#: Each is compared with each request.
EXAMPLES_MAX: Final = 16
EXAMPLE_LENGTH_MAX: Final = 256

Example = Annotated[str, Field(pattern=TEXT_PATTERN, min_length=1, max_length=EXAMPLE_LENGTH_MAX)]


class Intent(Model):
    """Something that a request may want, by a few examples of such requests."""

    name: Label = Field(description="Its name in signals.intents, unique in the policy.")
    examples: Annotated[list[Example], Field(min_length=1, max_length=EXAMPLES_MAX)] = Field(
        description="What such requests say, in a sentence each."
    )
    threshold: PositiveShare = Field(
        default="0.4",
        description="How like one of the examples (cosine) the user's last turn must be.",
    )
