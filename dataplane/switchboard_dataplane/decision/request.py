"""The request as a decision sees it: facts, most of them cheap, the texts only on demand."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from switchboard_policy.ir import Api

#: A parsed JSON body of one of the APIs.
Payload = Mapping[str, Any]


class RequestView(msgspec.Struct, eq=False):
    """What rules, guardrails and filters may know of a request.

    ``headers`` have lower-case names. ``tokens`` are estimated (UTF-8 bytes of the prompt / 4);
    ``max_tokens`` is 0 where the caller set no limit. ``metadata`` has string values only.
    ``deadline_ms`` is the caller's, None without one.
    """

    api: Api
    model: str
    payload: Payload
    stream: bool = False
    tokens: int = 0
    max_tokens: int = 0
    tools: bool = False
    json_schema: bool = False
    modalities: frozenset[str] = frozenset({"text"})
    headers: Mapping[str, str] = {}
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = {}
    user: str = ""
    session: str = ""
    deadline_ms: int | None = None
    _system: str | None = None
    _prompt: str | None = None
    _prompt_lower: str | None = None

    @property
    def system(self) -> str:
        """The system prompt: system and developer messages, joined by line breaks."""
        if self._system is None:
            self._system = "\n".join(texts_of(self.payload, roles=_SYSTEM_ROLES))
        return self._system

    @property
    def prompt(self) -> str:
        """What the user said: user messages, or the prompt or input, joined by line breaks."""
        if self._prompt is None:
            self._prompt = "\n".join(texts_of(self.payload, roles=_USER_ROLES))
        return self._prompt

    @property
    def prompt_lower(self) -> str:
        """The prompt in lower case: what keywords are looked for in."""
        if self._prompt_lower is None:
            self._prompt_lower = self.prompt.lower()
        return self._prompt_lower


_SYSTEM_ROLES = frozenset({"system", "developer"})
_USER_ROLES = frozenset({"user"})


def texts_of(payload: Payload, *, roles: frozenset[str]) -> Iterator[str]:
    """Yield the texts of the messages of these roles; a prompt or input counts as the user's.

    Whatever has another shape than the API's is passed over: the upstream will say so.
    """
    messages = payload.get("messages")
    if isinstance(messages, list):
        for message in cast("list[object]", messages):
            if isinstance(message, dict):
                said = cast("Payload", message)
                if said.get("role") in roles:
                    yield from _content_texts(said.get("content"))
    elif "user" in roles:
        yield from _content_texts(payload.get("prompt", payload.get("input")))


def _content_texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in cast("list[object]", content):
            if isinstance(part, str):
                yield part
            elif isinstance(part, dict):
                text = cast("Payload", part).get("text")
                if isinstance(text, str):
                    yield text
