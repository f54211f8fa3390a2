"""What is read of the API server's answers."""

import json
from typing import Any

from switchboard_operator.answers import NAMES, OBJECT, PAGE
from switchboard_operator.resources import Listed
from switchboard_policy.compiler.world import Name

META: dict[str, Any] = {
    "name": "chat",
    "namespace": "ai",
    "uid": "u1",
    "resourceVersion": "7",
    "generation": 2,
    "labels": {"team": "a"},
}
WRITERS: dict[str, Any] = {"managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]}


def test_an_object_is_read_without_the_list_of_who_wrote_its_fields() -> None:
    said: dict[str, Any] = {
        "metadata": META,
        "spec": {"models": ["chat"]},
        "status": {"pods": "1/1"},
    }
    body: dict[str, Any] = {
        **said,
        "apiVersion": "switchboard.dev/v1alpha1",
        "metadata": META | WRITERS,
    }
    assert OBJECT.decode(json.dumps(body)) == said


def test_a_page_says_where_the_next_one_begins() -> None:
    body: dict[str, Any] = {"metadata": {"continue": "there"}, "items": [{"metadata": META}]}
    page = PAGE.decode(json.dumps(body))
    assert (page.metadata.continued, page.items) == ("there", [{"metadata": META}])
    last = PAGE.decode(json.dumps({"metadata": {"resourceVersion": "9"}, "items": None}))
    assert (last.metadata.continued, last.items) == ("", None)


def test_names_are_read_of_objects_with_and_without_a_namespace() -> None:
    everywhere = {"name": "ai", "uid": "u2", "resourceVersion": "8"}
    items: list[dict[str, Any]] = [{"metadata": META | WRITERS}, {"metadata": everywhere}]
    names = NAMES.decode(json.dumps({"metadata": {"resourceVersion": "9"}, "items": items}))
    assert names.metadata.version == "9"
    assert names.listed() == [
        Listed(Name("ai", "chat"), "u1", 7),
        Listed(Name("", "ai"), "u2", 8),
    ]
    assert NAMES.decode(b'{"metadata": {"resourceVersion": "9"}, "items": null}').listed() == []
