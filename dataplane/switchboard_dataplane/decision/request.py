"""The request as a decision sees it: facts, most of them cheap, the texts only on demand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from switchboard_dataplane.decision.client import ANYBODY
from switchboard_policy.ir import Api

#: A parsed JSON body of one of the APIs.
Payload = Mapping[str, Any]

TEXT_ONLY: Final = frozenset({"text"})

_SYSTEM_ROLES: Final = frozenset({"system", "developer"})
_USER_ROLES: Final = frozenset({"user"})
_NO_METADATA: Final[Mapping[str, str]] = {}
_NO_LABELS: Final[Mapping[str, float]] = {}
_NO_READINGS: Final[Mapping[str, Any]] = {}

#: What callers prove themselves by. No rule reads it: who writes policies could read keys by it.
PROOFS: Final = frozenset(
    {
        "api-key",
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-api-key",
        "x-forwarded-client-cert",
        "x-goog-api-key",
    }
)


class RequestView:
    """What rules, guardrails and filters may know of a request.

    ``client`` is who calls. ``tokens`` are estimated (UTF-8 bytes of the prompt / 4);
    ``max_tokens`` is 0 where the caller set no limit. ``metadata`` has string values only.
    ``deadline_ms`` is the caller's, None without one; ``priority`` is the place in a queue.
    ``min_quality`` is what the caller asks for, in [0, 1]; ``labels`` are numbers that it tells of
    itself; ``readings`` the signals that the policy asks for, by name. Whoever reads the request
    fills it in; nobody changes it after, but the decision names the ``arm``: the side of the
    policy's comparison that the caller is on, "" without one.
    """

    def __init__(self, api: Api, model: str, payload: Payload, headers: Mapping[str, str]) -> None:
        self.api: Final = api
        self.model: Final = model
        self.payload: Final = payload
        self.client = ANYBODY
        self.stream = False
        self.tokens = 0
        self.max_tokens = 0
        self.tools = False
        self.json_schema = False
        self.modalities = TEXT_ONLY
        self.tags: tuple[str, ...] = ()
        self.metadata: Mapping[str, str] = _NO_METADATA
        self.user = ""
        self.session = ""
        self.deadline_ms: int | None = None
        self.priority = 0
        self.role = ""
        self.stage = ""
        self.latency_class = "interactive"
        self.min_quality = 0.0
        self.arm = ""
        self.labels: Mapping[str, float] = _NO_LABELS
        self.readings: Mapping[str, Any] = _NO_READINGS
        self._sent: Final = headers
        self._headers: Mapping[str, str] | None = None
        self._system: str | None = None
        self._prompt: str | None = None
        self._prompt_lower: str | None = None

    @property
    def conversation(self) -> str:
        """The session among those of this caller, "" without one: nobody shares another's."""
        client = self.client
        if not self.session or not client.id:
            return self.session
        return f"{client.kind} {client.id} {self.session}"

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers, by lower-case names, without what the caller proves itself by."""
        if self._headers is None:
            sent = self._sent
            self._headers = {name: sent[name] for name in sent if name not in PROOFS}
        return self._headers

    @property
    def messages(self) -> list[object] | None:
        """The messages that the API reads, None where it reads a prompt or an input.

        What a body holds besides is not what the model is asked, and nothing to decide by.
        """
        has_input = self.api == "embeddings" and self.payload.get("input") is not None
        if self.api == "completions" or has_input:
            return None
        messages = self.payload.get("messages")
        return cast("list[object]", messages) if isinstance(messages, list) else None

    @property
    def system(self) -> str:
        """The system prompt: system and developer messages, joined by line breaks."""
        if self._system is None:
            self._system = "\n".join(texts_of(self, roles=_SYSTEM_ROLES))
        return self._system

    @property
    def prompt(self) -> str:
        """What the user said: user messages, or the prompt or input, joined by line breaks."""
        if self._prompt is None:
            self._prompt = "\n".join(texts_of(self, roles=_USER_ROLES))
        return self._prompt

    @property
    def prompt_lower(self) -> str:
        """The prompt in lower case: what keywords are looked for in."""
        if self._prompt_lower is None:
            self._prompt_lower = self.prompt.lower()
        return self._prompt_lower


def texts_of(view: RequestView, *, roles: frozenset[str]) -> Iterator[str]:
    """Yield the texts of the messages of these roles; a prompt or input counts as the user's.

    Whatever has another shape than the API's is passed over: the upstream will say so.
    """
    messages = view.messages
    if messages is not None:
        yield from texts_in(messages, roles=roles)
    elif "user" in roles:
        said = view.payload
        first, other = ("input", "prompt") if view.api == "embeddings" else ("prompt", "input")
        yield from _content_texts(said.get(first, said.get(other)))


def texts_in(messages: Sequence[object], *, roles: frozenset[str]) -> Iterator[str]:
    """Yield the texts of those messages that have one of these roles."""
    for message in messages:
        if isinstance(message, dict):
            said = cast("Payload", message)
            role = said.get("role")
            if isinstance(role, str) and role in roles:
                yield from _content_texts(said.get("content"))


def prompt_prefix(payload: Payload, size: int) -> bytes:
    """Return the first bytes of the prompt as an engine sees it: all messages, in their order.

    What a prefix cache holds begins there; a role counts as text. Empty where there is no text.
    """
    pieces: list[bytes] = []
    length = 0
    for text in _in_order(payload):
        # No character has less than a byte: what lies beyond need not be encoded.
        pieces.append(text[: size - length].encode(errors="replace"))
        length += len(pieces[-1]) + 1
        if length >= size:
            break
    return b"\n".join(pieces)[:size]


def _in_order(payload: Payload) -> Iterator[str]:
    messages = payload.get("messages")
    if not isinstance(messages, list):
        yield from _content_texts(payload.get("prompt", payload.get("input")))
        return
    for message in cast("list[object]", messages):
        if isinstance(message, dict):
            said = cast("Payload", message)
            role = said.get("role")
            for text in _content_texts(said.get("content")):
                yield f"{role}:{text}" if isinstance(role, str) else text


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
