"""What is to be explained is read as a gateway reads it, and an error repeats nothing of it."""

from typing import Any

import orjson
import pytest

from switchboard_dataplane.decision.client import ANYBODY
from switchboard_dataplane.explaining.question import (
    QUESTION_BYTES_MAX,
    Unreadable,
    read_question,
)

BODY = {"model": "chat", "messages": [{"role": "user", "content": "the secret plan"}]}
SECRET = "sk-proj-secret"


def test_a_bare_request_is_a_question_of_nobody() -> None:
    view = read_question(orjson.dumps(BODY))
    assert (view.api, view.model, view.client) == ("chat", "chat", ANYBODY)


def test_headers_and_facts_of_the_client_are_as_on_the_public_port() -> None:
    said = {
        "headers": {"X-Switchboard-Tags": "a,b", "Authorization": f"Bearer {SECRET}"},
        "client": {"name": "app", "namespace": "team", "tier": "gold", "models": ["gpt-*"]},
        "arm": "cheap",
        "body": BODY,
    }
    view = read_question(orjson.dumps(said))
    assert view.tags == ("a", "b")
    assert (view.client.kind, view.client.id, view.client.tier) == ("key", "team/app", "gold")
    assert not view.client.may_use("chat")
    assert view.arm == "cheap"
    assert "authorization" not in view.headers


@pytest.mark.parametrize(
    ("question", "param"),
    [
        ({**BODY, "messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({**BODY, "model": 7}, "model"),
        ({"body": BODY, "headers": {"x-switchboard-priority": SECRET}}, "x-switchboard-priority"),
        ({"body": BODY, "headers": {"authorization": 7}}, "headers"),
        ({"body": BODY, "headers": [SECRET]}, "headers"),
        ({"body": BODY, "client": SECRET}, "client"),
        ({"body": BODY, "client": {"key": SECRET}}, "client"),
        ({"body": BODY, "client": {"kind": SECRET}}, "client.kind"),
        ({"body": BODY, "client": {"labels": {"a": 7}}}, "client.labels"),
        ({"body": BODY, "client": {"labels": SECRET}}, "client.labels"),
        ({"body": BODY, "client": {"models": SECRET}}, "client.models"),
        ({"body": BODY, "client": {"tier": 7}}, "tier"),
        ({"body": BODY, "api": SECRET}, "api"),
        ({"body": BODY, SECRET: 1}, ""),
        ({"body": SECRET}, "body"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(question: dict[str, Any], param: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_question(orjson.dumps(question))
    assert caught.value.param == param
    assert SECRET not in str(caught.value)
    assert "the secret plan" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"body": the secret plan', b"\xff"])
def test_what_is_no_json_object_is_not_repeated(data: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        read_question(data)
    assert "the secret plan" not in str(caught.value)


def test_a_question_is_bounded() -> None:
    with pytest.raises(Unreadable, match="at most"):
        read_question(b" " * (QUESTION_BYTES_MAX + 1))
