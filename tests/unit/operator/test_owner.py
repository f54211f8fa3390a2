"""What the operator makes goes when the release's ConfigMap goes, and only then."""

from typing import Any

import pytest

from switchboard_operator.errors import ApiAway, KubeError, NotFound
from switchboard_operator.kube import Kube, LeaseRecord
from switchboard_policy.compiler.world import Name

CONFIG_MAP, SECRET = Name("system", "switchboard-operator"), Name("system", "switchboard-scope")
LEASE = LeaseRecord("me", 15, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 0, 1)


class OwningRest:
    """Has one ConfigMap, of this uid; remembers which owner each object named."""

    def __init__(self) -> None:
        self.uid: str | KubeError = "first"
        self.owners: list[str] = []

    async def call(
        self, method: str, path: str, *, body: dict[str, Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        if method == "GET":
            if isinstance(self.uid, KubeError):
                raise self.uid
            return {"metadata": {"uid": self.uid}}
        assert body is not None, path
        self.owners += [each["uid"] for each in body["metadata"]["ownerReferences"]]
        return {"metadata": {"resourceVersion": "1"}, "spec": {}}


async def make_both(kube: Kube) -> None:
    await kube.create_secret(SECRET, {"scope-key.json": b"{}"})
    await kube.create_lease(CONFIG_MAP, LEASE)


async def test_what_is_made_after_the_release_came_back_belongs_to_it() -> None:
    rest = OwningRest()
    kube = Kube(rest)  # type: ignore[arg-type]
    await kube.belong_to(CONFIG_MAP)
    await make_both(kube)
    rest.uid = "second"
    await make_both(kube)
    await kube.update_lease(CONFIG_MAP, LEASE)
    assert rest.owners == ["first", "first", "second", "second", "second"]


@pytest.mark.parametrize("trouble", [NotFound(404, "gone"), ApiAway("away")])
async def test_what_is_made_while_the_release_is_not_found_goes_with_it(trouble: KubeError) -> None:
    rest = OwningRest()
    kube = Kube(rest)  # type: ignore[arg-type]
    await kube.belong_to(CONFIG_MAP)
    rest.uid = trouble
    await make_both(kube)
    assert rest.owners == ["first", "first"]
