"""The requests that every gateway gets, byte for byte the same."""

import json
from typing import Any

PATH = "/v1/chat/completions"
_SYSTEM = "You are a patient assistant. Answer in one short paragraph."
_QUESTION = "How does the scheduler of Kubernetes pick a node for a pod that asks for two GPUs?"


def whole() -> bytes:
    """A small chat request, of some 300 bytes."""
    return _body(_QUESTION, max_tokens=100, temperature=0.2)


def stream(*, events: int, per_second: int) -> bytes:
    """A request for so many events at such a rate (0: all at once); see model/main.go."""
    return _body(_QUESTION, stream=True, max_tokens=events, seed=per_second)


def large(size: int) -> bytes:
    """A whole request whose prompt has so many bytes."""
    words = _QUESTION + " "
    return _body((words * (size // len(words) + 1))[:size], max_tokens=100)


def http(body: bytes, port: int) -> bytes:
    """A request with its head."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer none\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _body(question: str, **fields: Any) -> bytes:
    messages = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": question},
    ]
    said = {"model": "chat", "messages": messages, **fields}
    return json.dumps(said, separators=(",", ":")).encode()
