"""Whose a token is, as the API server's answer to a TokenReview is read."""

from typing import Any

import pytest

from switchboard_operator.kube import Kube

USER = {"username": "system:serviceaccount:ai:app"}


class AnsweringRest:
    """An API server that answers every TokenReview with one status."""

    def __init__(self, status: dict[str, Any] | None) -> None:
        self.status = status
        self.asked: list[Any] = []

    async def call(self, method: str, path: str, *, body: Any) -> dict[str, Any]:
        assert (method, path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
        self.asked.append(body)
        return {"kind": "TokenReview", "status": self.status}


@pytest.mark.parametrize(
    ("status", "user"),
    [
        ({"authenticated": True, "audiences": ["switchboard"], "user": USER}, USER["username"]),
        ({"authenticated": True, "audiences": ["other", "switchboard"], "user": {}}, ""),
        # Who vouches for it knows of no audience: it may be meant for anybody.
        ({"authenticated": True, "user": USER}, None),
        ({"authenticated": True, "audiences": None, "user": USER}, None),
        ({"authenticated": True, "audiences": ["other"], "user": USER}, None),
        ({"authenticated": False, "audiences": ["switchboard"], "user": USER}, None),
        ({"error": "token expired"}, None),
        ({}, None),
        (None, None),
    ],
)
async def test_a_token_is_somebodys_where_it_is_good_for_our_audience(
    status: dict[str, Any] | None, user: str | None
) -> None:
    rest = AnsweringRest(status)
    kube = Kube(rest)  # type: ignore[arg-type]
    assert await kube.review_token("a.b.c", audience="switchboard") == user
    (body,) = rest.asked
    assert body["spec"] == {"token": "a.b.c", "audiences": ["switchboard"]}
