"""How good a backend's answers are, as its owner says."""

from pydantic import Field

from switchboard_policy.v1alpha1.common import Model, Share


class Quality(Model):
    """How good the answers are, from 0 to 1, by task: from your own tests, or a benchmark's."""

    default: Share = Field(description="On every task that is not named.")
    code: Share | None = Field(default=None, description="Writing and mending programs.")
    math: Share | None = Field(default=None, description="Calculation and proof.")
    reasoning: Share | None = Field(default=None, description="Conclusions in several steps.")
    extraction: Share | None = Field(default=None, description="Finding facts in a given text.")
    translation: Share | None = Field(default=None, description="From one language to another.")
    summarisation: Share | None = Field(default=None, description="Shortening a given text.")
    creative: Share | None = Field(default=None, description="Stories, poems, advertisements.")
    chat: Share | None = Field(default=None, description="Conversation.")
    factual: Share | None = Field(default=None, description="Questions about the world.")
    classification: Share | None = Field(default=None, description="One of given labels.")
    tools: Share | None = Field(default=None, description="Calling the tools that are offered.")
