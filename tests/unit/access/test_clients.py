"""The clients of snapshots: what entries make of them, change by change."""

from typing import TYPE_CHECKING

from fakes.policies import KEY, SCOPE, client, keyed, keyring, policy, rule
from switchboard_dataplane.decision.client import FOUND_BY_DIGITS, Client
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_policy import ir
from switchboard_policy.seal import Keyring, read_keyring, write_key_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchboard_dataplane.decision.running import Snapshot

FIRST, SECOND = "sk-sb-aaaaaaaaaaaaaaaa", "sk-sb-bbbbbbbbbbbbbbbb"
BOTH = read_keyring(SCOPE, write_key_file("k2", {"k1": KEY, "k2": b"n" * 32}))
NEW = read_keyring(SCOPE, write_key_file("k2", {"k2": b"n" * 32}))


class Built:
    """A builder with what it built last."""

    def __init__(self, *entries: ir.Entry, ring: Keyring | None = None) -> None:
        self.builder = SnapshotBuilder(ring or keyring())
        self.refused: Mapping[str, str] = {}
        self.snapshot: Snapshot = self.builder.snapshot
        self.apply(*entries)

    def apply(self, *entries: ir.Entry, gone: tuple[str, ...] = ()) -> None:
        self.snapshot, self.refused = self.builder.apply(keyed(entries), gone, revision="1-1")

    def rekey(self, ring: Keyring) -> None:
        for _ in self.builder.rekey(ring):
            pass
        self.snapshot, self.refused = self.builder.finish(revision="1-1")

    def find(self, key: str) -> Client | None:
        return self.snapshot.clients.find(key.encode())

    def name(self, key: str) -> str:
        found = self.find(key)
        return "" if found is None else found.id


def test_what_an_entry_says_is_known_of_its_client() -> None:
    entry = client(
        "web",
        FIRST,
        tier="gold",
        team="search",
        labels=(("region", "eu"),),
        models=("chat",),
        expires_ms=1_767_225_600_500,
    )
    found = Built(entry).find(FIRST)
    assert found is not None
    assert (found.kind, found.id, found.tier, found.team) == ("key", "apps/web", "gold", "search")
    assert (found.labels, found.models) == ({"region": "eu"}, ("chat",))
    assert found.expires == "2026-01-01T00:00:00.500000Z"


def test_a_time_that_has_no_name_is_a_time_all_the_same() -> None:
    found = Built(client("web", FIRST, expires_ms=10**18)).find(FIRST)
    assert found is not None
    assert (found.expires, found.expires_ms) == ("", 10**18)


def test_a_key_is_nobodys_once_its_entry_is_gone_or_has_another() -> None:
    built = Built(client("web", FIRST))
    before = built.snapshot
    built.apply(client("web", SECOND))
    assert (built.name(FIRST), built.name(SECOND)) == ("", "apps/web")
    built.apply(gone=("client/apps/web",))
    assert (built.name(FIRST), built.name(SECOND), len(built.snapshot.clients)) == ("", "", 0)
    # What a request has bound is not changed under it.
    assert before.clients.find(FIRST.encode()) is not None


def test_keys_change_hands_within_an_update() -> None:
    built = Built(client("one", FIRST), client("two", SECOND))
    built.apply(client("one", SECOND), client("two", FIRST))
    assert (built.name(FIRST), built.name(SECOND)) == ("apps/two", "apps/one")
    assert built.refused == {}


def test_a_key_has_one_client() -> None:
    built = Built(client("one", FIRST))
    built.apply(client("two", FIRST))
    assert built.name(FIRST) == "apps/one"
    assert built.refused == {"client/apps/two": "client apps/one has its key"}
    built.apply(gone=("client/apps/one",))
    assert (built.name(FIRST), built.refused) == ("apps/two", {})


def test_the_whole_digest_counts_and_not_what_finds_it() -> None:
    entry = client("web", FIRST)
    other = "0" if entry.digest[-1] != "0" else "1"
    forged = ir.Client(entry.name, entry.key_id, entry.digest[:-1] + other)
    assert forged.digest[:FOUND_BY_DIGITS] == entry.digest[:FOUND_BY_DIGITS]
    assert Built(forged).find(FIRST) is None


def test_a_key_of_another_scope_is_nobodys() -> None:
    other = read_keyring("gw/other", write_key_file("k1", {"k1": b"o" * 32}))
    foreign = client("web", FIRST, ring=other)
    assert Built(foreign).find(FIRST) is None


def test_clients_stay_while_the_scopes_key_rotates() -> None:
    built = Built(client("web", FIRST), client("app", SECOND))
    built.rekey(BOTH)
    assert (built.name(FIRST), built.name(SECOND)) == ("apps/web", "apps/app")
    built.apply(client("web", FIRST, ring=BOTH, key_id="k2"))
    assert (built.name(FIRST), built.name(SECOND)) == ("apps/web", "apps/app")
    # The old key is dropped before the other client came anew: the last good stays.
    built.rekey(NEW)
    assert (built.name(FIRST), built.name(SECOND)) == ("apps/web", "apps/app")
    built.apply(client("app", SECOND, ring=BOTH, key_id="k2"))
    assert (built.name(FIRST), built.name(SECOND)) == ("apps/web", "apps/app")


def test_a_client_waits_for_the_key_that_it_is_hashed_under() -> None:
    built = Built(client("web", FIRST, ring=BOTH, key_id="k2"))
    assert built.find(FIRST) is None
    assert "k2" in built.refused["client/apps/web"]
    built.rekey(BOTH)
    assert (built.name(FIRST), built.refused) == ("apps/web", {})


def test_a_client_that_waited_and_is_gone_does_not_come_back() -> None:
    built = Built(client("web", FIRST, ring=NEW, key_id="k2"), client("app", SECOND))
    built.apply(client("late", SECOND))
    assert built.refused.keys() == {"client/apps/web", "client/apps/late"}
    built.apply(gone=("client/apps/web", "client/apps/late"))
    assert not built.refused
    built.rekey(BOTH)
    built.apply(gone=("client/apps/app",))
    assert (built.name(FIRST), built.name(SECOND)) == ("", "")


def test_a_change_of_clients_leaves_the_rest_as_it_is() -> None:
    built = Built(policy("chat", rule("default")), client("web", FIRST))
    before = built.snapshot
    built.apply(policy("chat", rule("default")))
    assert built.snapshot.clients is before.clients
    built.apply(client("app", SECOND))
    assert len(built.snapshot.clients) == 2
    # Clients have the names of Secrets, which may be those of backends.
    assert not built.snapshot.backends
