"""The scope key is made once, read ever after, and never shown."""

import pytest

from switchboard_operator.credentials import KEY_FILE, scope_keyring, secret_name
from switchboard_policy.errors import Malformed
from unit.operator.kube_fakes import Cluster


def zeros(count: int) -> bytes:
    return bytes(count)


def ones(count: int) -> bytes:
    return b"\x01" * count


async def test_a_missing_key_is_made_and_then_read() -> None:
    cluster = Cluster()
    first = await scope_keyring(cluster, "system", "default", random_bytes=zeros)
    again = await scope_keyring(cluster, "system", "default", random_bytes=ones)
    assert first.scope == "gw/default"
    assert first.sign("a") == again.sign("a")


async def test_of_two_replicas_that_make_a_key_one_wins() -> None:
    cluster = Cluster()

    def meanwhile(count: int) -> bytes:
        cluster.secrets[secret_name("system", "default")] = made
        return ones(count)

    await scope_keyring(cluster, "system", "default", random_bytes=zeros)
    made = cluster.secrets.pop(secret_name("system", "default"))
    keyring = await scope_keyring(cluster, "system", "default", random_bytes=meanwhile)
    assert cluster.secrets[secret_name("system", "default")] == made
    keyring.verify(keyring.sign("a"), "a")


async def test_a_secret_without_a_key_file_is_told_with_the_way_out() -> None:
    cluster = Cluster()
    cluster.secrets[secret_name("system", "default")] = {"other": b""}
    with pytest.raises(Malformed, match=r"switchboard-scope-default has no scope-key.json; put"):
        await scope_keyring(cluster, "system", "default", random_bytes=zeros)


async def test_a_broken_key_file_is_told_without_the_key() -> None:
    cluster = Cluster()
    broken = b'{"current": "1", "keys": {"1": "c2VjcmV0"}}'
    cluster.secrets[secret_name("system", "default")] = {KEY_FILE: broken}
    with pytest.raises(Malformed, match="has 6 bytes, not 32") as raised:
        await scope_keyring(cluster, "system", "default", random_bytes=zeros)
    assert "c2VjcmV0" not in str(raised.value)
