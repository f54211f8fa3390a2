"""The webhook's certificate in its Secret: made by the leader, read by all, never lost at once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from switchboard_operator.certificates import Pace, Pair, issue
from switchboard_operator.certificates_kept import (
    AUTHORITIES_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    NEXT_KEY_FILE,
    FileCertificates,
    KeptCertificates,
)
from switchboard_operator.errors import Forbidden
from switchboard_operator.kept import ROTATE_ANNOTATION
from switchboard_operator.kube import SecretRecord
from switchboard_policy.compiler.world import Name
from unit.operator.kube_fakes import AWAY, Cluster

START = datetime(2026, 8, 1, tzinfo=UTC)
NAME = Name("system", "switchboard-admission")
CONFIGURATION = "switchboard-operator-system"
HOOKS = ("edits.switchboard.dev", "deletions.switchboard.dev")
PACE = Pace(
    lifetime=timedelta(days=90), settle=timedelta(seconds=30), keep_old_for=timedelta(hours=1)
)


class Replica:
    """One replica's view; it leads unless told otherwise."""

    def __init__(
        self, cluster: Cluster, clock: "Hours", *, configuration: str = "", mutating: str = ""
    ) -> None:
        self.leads = True
        self.source = KeptCertificates(
            cluster,
            NAME,
            configuration=configuration,
            mutating=mutating,
            names=("switchboard-operator.system.svc",),
            pace=PACE,
            leads=lambda: self.leads,
            now=lambda: clock.now,
        )

    async def turn(self) -> Pair | None:
        return await self.source.turn()


class Hours:
    """A clock that somebody moves."""

    def __init__(self) -> None:
        self.now = START

    def pass_(self, **what: float) -> None:
        self.now += timedelta(**what)


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.webhooks[CONFIGURATION] = dict.fromkeys(HOOKS, b"")
    return made


@pytest.fixture
def clock() -> Hours:
    return Hours()


@pytest.fixture
def leader(cluster: Cluster, clock: Hours) -> Replica:
    return Replica(cluster, clock, configuration=CONFIGURATION)


def trusted(cluster: Cluster) -> int:
    """How many authorities both webhooks trust; they trust the same."""
    (bundle,) = set(cluster.webhooks[CONFIGURATION].values())
    assert bundle == cluster.secrets[NAME].data[AUTHORITIES_FILE]
    return bundle.count(b"BEGIN CERTIFICATE")


async def test_the_leader_makes_the_secret_and_publishes_the_authority(
    cluster: Cluster, leader: Replica
) -> None:
    pair = await leader.turn()
    assert pair is not None
    held = cluster.secrets[NAME]
    assert held.type == "kubernetes.io/tls"
    assert (held.data[CERTIFICATE_FILE], held.data[KEY_FILE]) == (pair.certificate, pair.key)
    assert trusted(cluster) == 1
    assert await leader.turn() == pair
    assert held.version == 1
    assert [reason for reason, _ in cluster.events] == ["CertificateMade"]


async def test_a_standby_reads_and_writes_nothing(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    standby = Replica(cluster, clock, configuration=CONFIGURATION)
    standby.leads = False
    assert await standby.turn() is None
    assert NAME not in cluster.secrets
    pair = await leader.turn()
    cluster.webhooks[CONFIGURATION][HOOKS[0]] = b"edited"
    assert await standby.turn() == pair
    assert cluster.webhooks[CONFIGURATION][HOOKS[0]] == b"edited"


async def test_a_bundle_that_somebody_edits_is_written_again(
    cluster: Cluster, leader: Replica
) -> None:
    await leader.turn()
    cluster.webhooks[CONFIGURATION][HOOKS[1]] = b"edited"
    await leader.turn()
    assert trusted(cluster) == 1


async def test_a_renewal_shows_only_what_is_trusted(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    first = await leader.turn()
    clock.pass_(days=60)
    assert await leader.turn() == first
    assert trusted(cluster) == 2
    clock.pass_(seconds=29)
    assert await leader.turn() == first
    clock.pass_(seconds=1)
    second = await leader.turn()
    assert second not in (None, first)
    assert trusted(cluster) == 2
    clock.pass_(minutes=59)
    assert await leader.turn() == second
    assert trusted(cluster) == 2
    clock.pass_(minutes=1)
    assert await leader.turn() == second
    assert trusted(cluster) == 1
    assert NEXT_KEY_FILE not in cluster.secrets[NAME].data
    assert [reason for reason, _ in cluster.events] == [
        *("CertificateMade", "CertificateRenewed", "CertificateInUse", "AuthorityDropped")
    ]


async def test_another_leader_goes_on_where_the_last_one_ended(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    first = await leader.turn()
    clock.pass_(days=60)
    await leader.turn()
    coming = cluster.secrets[NAME].data[NEXT_KEY_FILE]
    other = Replica(cluster, clock, configuration=CONFIGURATION)
    assert await other.turn() == first
    clock.pass_(seconds=30)
    pair = await other.turn()
    assert pair is not None
    assert pair.key == coming


async def test_what_cannot_be_published_is_not_shown(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    first = await leader.turn()
    clock.pass_(days=60)
    cluster.webhooks_trouble = Forbidden(403, "no right to patch")
    await leader.turn()
    clock.pass_(days=1)
    assert await leader.turn() == first
    cluster.webhooks_trouble = None
    assert await leader.turn() == first
    clock.pass_(seconds=30)
    assert await leader.turn() != first


async def test_a_leader_says_that_what_it_shows_is_not_trusted_until_it_is(
    cluster: Cluster, leader: Replica
) -> None:
    cluster.webhooks_trouble = Forbidden(403, "no right to patch")
    assert await leader.turn() is not None
    assert "the authority is not published" in leader.source.obstacle
    assert "no right to patch" in leader.source.obstacle
    cluster.webhooks_trouble = None
    await leader.turn()
    assert leader.source.obstacle == ""


async def test_a_leader_that_cannot_see_whom_the_api_server_trusts_says_so(
    cluster: Cluster, leader: Replica
) -> None:
    cluster.webhooks_hidden = Forbidden(403, "no right to get")
    await leader.turn()
    assert "no right to get" in leader.source.obstacle


async def test_a_replica_that_does_not_lead_is_not_to_blame_for_the_bundle(
    cluster: Cluster, leader: Replica
) -> None:
    cluster.webhooks_trouble = Forbidden(403, "no right to patch")
    await leader.turn()
    leader.leads = False
    assert leader.source.obstacle == ""


async def test_without_a_configuration_there_is_nobody_who_would_have_to_trust(
    cluster: Cluster, leader: Replica
) -> None:
    del cluster.webhooks[CONFIGURATION]
    assert await leader.turn() is not None
    assert leader.source.obstacle == ""


async def test_a_renewal_that_cannot_be_published_leaves_what_is_shown_trusted(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    await leader.turn()
    clock.pass_(days=60)
    cluster.webhooks_trouble = Forbidden(403, "no right to patch")
    await leader.turn()
    await leader.turn()
    assert cluster.secrets[NAME].data[AUTHORITIES_FILE].count(b"BEGIN CERTIFICATE") == 2
    assert leader.source.obstacle == ""
    cluster.webhooks_hidden = AWAY
    await leader.turn()
    assert leader.source.obstacle == ""


async def test_an_edit_of_the_bundle_during_a_renewal_starts_its_wait_anew(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    first = await leader.turn()
    clock.pass_(days=60)
    await leader.turn()
    clock.pass_(seconds=29)
    cluster.webhooks[CONFIGURATION][HOOKS[0]] = b"edited"
    await leader.turn()
    clock.pass_(seconds=29)
    assert await leader.turn() == first
    clock.pass_(seconds=1)
    assert await leader.turn() != first


async def test_without_a_configuration_a_renewal_goes_on(cluster: Cluster, clock: Hours) -> None:
    alone = Replica(cluster, clock)
    first = await alone.turn()
    clock.pass_(days=60)
    await alone.turn()
    clock.pass_(seconds=30)
    assert await alone.turn() != first
    assert set(cluster.webhooks[CONFIGURATION].values()) == {b""}


async def test_a_deleted_secret_comes_back_and_is_renewed_in_order(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    first = await leader.turn()
    del cluster.secrets[NAME]
    assert await leader.turn() == first
    assert first is not None
    assert cluster.secrets[NAME].data[CERTIFICATE_FILE] == first.certificate
    assert trusted(cluster) == 2
    clock.pass_(seconds=30)
    assert await leader.turn() != first


async def test_a_spoiled_secret_is_written_again(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    first = await leader.turn()
    cluster.secrets[NAME].data[KEY_FILE] = b"no key"
    assert await leader.turn() == first
    assert first is not None
    assert cluster.secrets[NAME].data[KEY_FILE] == first.key


@pytest.mark.parametrize("spoiled", [b"", b"no certificates", None])
async def test_authorities_that_somebody_empties_are_kept_and_renewed_in_order(
    cluster: Cluster, clock: Hours, leader: Replica, spoiled: bytes | None
) -> None:
    first = await leader.turn()
    before = cluster.secrets[NAME].data[AUTHORITIES_FILE]
    other = issue(("x",), PACE.lifetime, now=START).authority
    cluster.secrets[NAME].data[AUTHORITIES_FILE] = other if spoiled is None else spoiled
    assert await leader.turn() == first
    assert trusted(cluster) == 2
    assert before in cluster.secrets[NAME].data[AUTHORITIES_FILE]
    clock.pass_(seconds=30)
    assert await leader.turn() != first


async def test_a_next_certificate_that_nobody_would_trust_is_made_anew(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    first = await leader.turn()
    before = cluster.secrets[NAME].data[AUTHORITIES_FILE]
    clock.pass_(days=60)
    await leader.turn()
    lost = cluster.secrets[NAME].data[NEXT_KEY_FILE]
    cluster.secrets[NAME].data[AUTHORITIES_FILE] = before
    clock.pass_(seconds=30)
    assert await leader.turn() == first
    assert trusted(cluster) == 2
    clock.pass_(seconds=30)
    second = await leader.turn()
    assert second is not None
    assert second.key not in (lost, first and first.key)


async def test_a_secret_without_content_is_filled(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    await cluster.create_secret(
        NAME, {CERTIFICATE_FILE: b"", KEY_FILE: b""}, type_="kubernetes.io/tls"
    )
    pair = await leader.turn()
    assert pair is not None
    assert cluster.secrets[NAME].data[KEY_FILE] == pair.key


async def test_a_demand_on_the_secret_renews(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    first = await leader.turn()
    cluster.secrets[NAME].annotations[ROTATE_ANNOTATION] = "now"
    await leader.turn()
    clock.pass_(seconds=30)
    second = await leader.turn()
    clock.pass_(hours=2)
    await leader.turn()
    clock.pass_(hours=2)
    assert await leader.turn() == second != first


class Raced(Cluster):
    """Somebody else writes the Secret after every reading."""

    async def get_secret(self, name: Name) -> SecretRecord | None:
        found = await super().get_secret(name)
        if name in self.secrets:
            self.secrets[name].version += 1
        return found


async def test_a_write_that_comes_second_is_left_out(clock: Hours) -> None:
    raced = Raced()
    leader = Replica(raced, clock)
    first = await leader.turn()
    clock.pass_(days=60)
    assert await leader.turn() == first
    assert NEXT_KEY_FILE not in raced.secrets[NAME].data


async def test_a_leader_that_is_deposed_meanwhile_writes_nothing(
    cluster: Cluster, clock: Hours, leader: Replica
) -> None:
    first = await leader.turn()
    clock.pass_(days=60)
    answers = iter([True, False])
    leader.source._leads = lambda: next(answers)
    assert await leader.turn() == first
    assert NEXT_KEY_FILE not in cluster.secrets[NAME].data


async def test_trouble_with_the_api_server_is_told_to_the_caller(
    cluster: Cluster, leader: Replica
) -> None:
    cluster.trouble = AWAY
    with pytest.raises(type(AWAY)):
        await leader.turn()


async def test_files_are_read_as_they_are_now(tmp_path: Path) -> None:
    files = FileCertificates(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=CERTIFICATE_FILE):
        await files.turn()
    for _ in range(2):
        pair = issue(("x",), PACE.lifetime, now=START).pair
        (tmp_path / CERTIFICATE_FILE).write_bytes(pair.certificate)
        (tmp_path / KEY_FILE).write_bytes(pair.key)
        assert await files.turn() == pair


async def test_both_kinds_of_webhooks_trust_what_is_served(cluster: Cluster, clock: Hours) -> None:
    cluster.mutating_webhooks[CONFIGURATION] = {"pods.sidecar.switchboard.dev": b""}
    leader = Replica(cluster, clock, configuration=CONFIGURATION, mutating=CONFIGURATION)
    await leader.turn()
    (bundle,) = cluster.mutating_webhooks[CONFIGURATION].values()
    assert bundle
    assert set(cluster.webhooks[CONFIGURATION].values()) == {bundle}
    cluster.mutating_webhooks[CONFIGURATION]["pods.sidecar.switchboard.dev"] = b"spoiled"
    await leader.turn()
    assert set(cluster.mutating_webhooks[CONFIGURATION].values()) == {bundle}
    assert leader.source.obstacle == ""


async def test_a_webhook_of_pods_that_cannot_be_written_is_an_obstacle(
    cluster: Cluster, clock: Hours
) -> None:
    cluster.webhooks.clear()
    cluster.mutating_webhooks[CONFIGURATION] = {"pods.sidecar.switchboard.dev": b""}
    cluster.webhooks_trouble = Forbidden(403, "no right")
    leader = Replica(cluster, clock, configuration=CONFIGURATION, mutating=CONFIGURATION)
    await leader.turn()
    assert "so edits fail: 403: no right" in leader.source.obstacle
