"""Who is admitted and who consents."""

from typing import Any

import pytest

from switchboard_policy.compiler.selectors import admits, consents, selects
from switchboard_policy.compiler.world import Gateway
from switchboard_policy.v1alpha1.modelbackend import AllowedNamespaces, LabelSelector


@pytest.mark.parametrize(
    ("term", "labels", "selected"),
    [
        ({"operator": "In", "values": ["red"]}, {"team": "red"}, True),
        ({"operator": "In", "values": ["red"]}, {"team": "blue"}, False),
        ({"operator": "In", "values": ["red"]}, {}, False),
        ({"operator": "NotIn", "values": ["red"]}, {"team": "red"}, False),
        ({"operator": "NotIn", "values": ["red"]}, {}, True),
        ({"operator": "Exists"}, {"team": ""}, True),
        ({"operator": "Exists"}, {}, False),
        ({"operator": "DoesNotExist"}, {}, True),
        ({"operator": "DoesNotExist"}, {"team": ""}, False),
    ],
)
def test_terms_mean_what_they_mean_in_kubernetes(
    term: dict[str, Any], labels: dict[str, str], selected: bool
) -> None:
    selector = LabelSelector.model_validate({"matchExpressions": [{"key": "team", **term}]})
    assert selects(selector, labels) is selected


def test_all_terms_of_a_selector_must_hold() -> None:
    selector = LabelSelector.model_validate(
        {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}
    )
    assert selects(selector, {"a": "1", "b": ""})
    assert not selects(selector, {"a": "1"})
    assert not selects(selector, {"a": "2", "b": ""})


def test_an_unknown_namespace_meets_no_selector() -> None:
    allowed = AllowedNamespaces.model_validate(
        {
            "from": "Selector",
            "selector": {"matchExpressions": [{"key": "frozen", "operator": "DoesNotExist"}]},
        }
    )
    assert consents(allowed, "ai", {})
    assert not consents(allowed, "ai", None)


def test_a_selector_that_is_not_there_is_no_consent() -> None:
    assert not consents(AllowedNamespaces.model_validate({"from": "Selector"}), "ai", {})


@pytest.mark.parametrize(
    ("gateway", "admitted"),
    [
        (Gateway("g", "home"), True),
        (Gateway("g", "home", admit="Same"), False),
        (Gateway("g", "ai", admit="Same"), True),
        (Gateway("g", "home", admit="Selector", selector={"llm": "yes"}), True),
        (Gateway("g", "home", admit="Selector", selector={"llm": "no"}), False),
    ],
)
def test_a_gateway_admits_namespaces(gateway: Gateway, admitted: bool) -> None:
    assert admits(gateway, "ai", {"llm": "yes"}) is admitted


def test_an_unknown_namespace_is_not_admitted_by_labels() -> None:
    assert not admits(Gateway("g", "home", admit="Selector"), "ai", None)
