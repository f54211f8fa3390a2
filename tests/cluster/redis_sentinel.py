"""A Redis primary, a replica, and the Sentinels that promote the one when the other is dead."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import redis

from cluster.processes import LOOPBACK, POLL_SECONDS, ChildProcess, StartFailed, free_port
from cluster.redis_server import RedisServer, redis_binary
from cluster.tls import Authority, Certificate

SENTINELS: Final = 3
QUORUM: Final = 2
SERVICE: Final = "main"
#: Sentinels call a primary dead that was silent for this long, once a test has them watch it.
DOWN_AFTER_MS: Final = 500
#: Before that no stall of the machine is a death.
UNWATCHED_MS: Final = 600_000
FAILOVER_TIMEOUT_MS: Final = 2_000
#: Sentinels that stood still for 2 s themselves do nothing for 30 s (their "tilt").
READY_SECONDS: Final = 300

Client = Any


@dataclass(frozen=True, slots=True)
class Users:
    """ACL rules by user, for the data servers and for the Sentinels, and everybody's password.

    The data servers know the users ``replica`` and ``sentinel``, by which servers follow each other
    and Sentinels watch them; the Sentinels know ``sentinel-peer``, by which they talk to each
    other. Whoever names no user can do nothing.
    """

    password: str
    data: Mapping[str, Sequence[str]]
    sentinel: Mapping[str, Sequence[str]]
    administrator: Sequence[str] = ("~*", "&*", "+@all")

    def options(self) -> list[str]:
        """Return the options of a data server."""
        named = {**self.data, "administrator": self.administrator}
        users = [
            part
            for user, rules in named.items()
            for part in ("--user", user, "on", f">{self.password}", *rules)
        ]
        login = ("--masteruser", "replica", "--masterauth", self.password)
        return [*users, "--user", "default", "off", *login]

    def lines(self) -> list[str]:
        """Return what the configuration of a Sentinel says."""
        named = {**self.sentinel, "administrator": self.administrator}
        return [
            *(f"user {user} on >{self.password} {' '.join(r)}" for user, r in named.items()),
            "user default off",
            "sentinel sentinel-user sentinel-peer",
            f"sentinel sentinel-pass {self.password}",
            f"sentinel auth-user {SERVICE} sentinel",
            f"sentinel auth-pass {SERVICE} {self.password}",
        ]


@dataclass
class SentinelRedis:
    """The servers, each a process; their files are in ``folder``.

    With an ``authority`` they speak TLS alone and want certificates of it from whoever calls.
    """

    folder: Path
    users: Users | None = None
    authority: Authority | None = None
    servers: list[RedisServer] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    sentinels: list[ChildProcess] = field(default_factory=list)
    _ending: ExitStack = field(default_factory=ExitStack)
    _certificate: Certificate | None = None

    def __enter__(self) -> Self:
        """Start all, and return once the Sentinels know each other and the replica follows."""
        try:
            self._start()
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.close()

    def url(self, user: str = "", *, certificate: Certificate | None = None) -> str:
        """Return the address for a user of the data servers and of the Sentinels."""
        scheme = "rediss+sentinel" if self._certificate else "redis+sentinel"
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in self.ports)
        said: list[str] = []
        login = ""
        if self.users:
            password = quote(self.users.password, safe="")
            login = f"{user}:{password}@"
            said += ["sentinel_username=client", f"sentinel_password={password}"]
        if self._certificate:
            said.append(f"ssl_ca_certs={self._certificate.authority}")
        if certificate:
            said += [f"ssl_certfile={certificate.chain}", f"ssl_keyfile={certificate.key}"]
        options = f"?{'&'.join(said)}" if said else ""
        return f"{scheme}://{login}{hosts}/{SERVICE}/0{options}"

    def client(self, server: RedisServer, user: str = "administrator") -> Client:
        """Return a client of one data server."""
        return redis.Redis(LOOPBACK, server.port, **self._login(user), **self._tls())

    @property
    def primary(self) -> RedisServer:
        """The server that the Sentinels call the primary."""
        for port in self.ports:
            with redis.Redis(LOOPBACK, port, **self._login(), **self._tls()) as client:
                asked: Client = client
                try:
                    _, found = asked.sentinel_get_master_addr_by_name(SERVICE)
                except (redis.ConnectionError, redis.TimeoutError):
                    continue
                return next(each for each in self.servers if each.port == int(found))
        raise AssertionError("no Sentinel answers")

    @property
    def replica(self) -> RedisServer:
        """The other one."""
        primary = self.primary
        return next(each for each in self.servers if each is not primary)

    def cut_replica(self) -> None:
        """Have the replica follow no more: what is written from now on is on the primary alone."""
        with self.client(self.replica) as replica, self.client(self.primary) as primary:
            replica.config_set("masteruser", "nobody-of-that-name")
            replica.config_set("masterauth", "wrong")
            primary.execute_command("CLIENT", "KILL", "TYPE", "replica")
            self._await(lambda: replica.info("replication")["master_link_status"] == "down")

    def watch(self, *, down_after_ms: int = DOWN_AFTER_MS) -> None:
        """Have a primary replaced that dies, or hangs, from now on."""
        for port in self.ports:
            with redis.Redis(LOOPBACK, port, **self._login(), **self._tls()) as client:
                asked: Client = client
                asked.sentinel_set(SERVICE, "down-after-milliseconds", down_after_ms)

    def await_failover(self, dead: RedisServer) -> None:
        """Wait until the Sentinels have promoted the other server, and it takes writes."""

        def promoted() -> bool:
            primary = self.primary
            if primary is dead:
                return False
            with self.client(primary) as client:
                return bool(client.info("replication")["role"] == "master")

        self._await(promoted, what="a failover")

    def await_copy(self) -> None:
        """Wait until the replica follows and has all that the primary wrote."""
        self._await(self._complete, what="a replica that follows")

    def _start(self) -> None:
        self._certificate = self.authority.issue(LOOPBACK) if self.authority else None
        options = self.users.options() if self.users else []
        if self.authority:
            options += ["--tls-replication", "yes", "--tls-auth-clients", "yes"]
        for name in ("one", "two"):
            # A diskless copy waits for others that may want it, too, if it is not told.
            told = (*options, "--repl-diskless-sync-delay", "0", "--repl-timeout", "5")
            follow = ("--replicaof", LOOPBACK, str(self.servers[0].port)) if self.servers else ()
            made = RedisServer(
                self.folder / name, certificate=self._certificate, options=(*told, *follow)
            )
            self.servers.append(self._ending.enter_context(made))
        for number in range(SENTINELS):
            self._start_sentinel(number)
        self._await(self._complete, what="primary, replica and Sentinels")

    def _start_sentinel(self, number: int) -> None:
        port, folder = free_port(), self.folder / f"sentinel-{number}"
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        told = [
            f"bind {LOOPBACK}",
            f"dir {folder}",
            f"sentinel monitor {SERVICE} {LOOPBACK} {self.servers[0].port} {QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE} {UNWATCHED_MS}",
            f"sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT_MS}",
            *(self.users.lines() if self.users else ()),
            *(self._tls_lines(port) if self._certificate else (f"port {port}",)),
        ]
        config.write_text("\n".join(told) + "\n")
        child = ChildProcess(
            [redis_binary(), str(config), "--sentinel"], log=folder / "sentinel.log"
        )
        self.sentinels.append(self._ending.enter_context(child))
        child.wait_for_port(port)
        self.ports.append(port)

    def _tls_lines(self, port: int) -> Sequence[str]:
        known = self._certificate
        assert known is not None
        return (
            *("port 0", f"tls-port {port}", "tls-replication yes", "tls-auth-clients yes"),
            *(f"tls-cert-file {known.chain}", f"tls-key-file {known.key}"),
            f"tls-ca-cert-file {known.authority}",
        )

    def _login(self, user: str = "administrator") -> dict[str, Any]:
        said: dict[str, Any] = {"socket_timeout": 30, "retry": None, "decode_responses": True}
        if self.users:
            said |= {"username": user, "password": self.users.password}
        return said

    def _tls(self) -> dict[str, Any]:
        known = self._certificate
        if known is None:
            return {}
        return {
            "ssl": True,
            "ssl_ca_certs": str(known.authority),
            "ssl_certfile": str(known.chain),
            "ssl_keyfile": str(known.key),
        }

    def _complete(self) -> bool:
        try:
            return self._replica_follows() and all(map(self._knows_all, self.ports))
        except redis.RedisError:
            return False

    def _replica_follows(self) -> bool:
        primary = self.primary
        with self.client(primary) as client:
            said = client.info("replication")
        followers = [said[key] for key in said if key.startswith("slave") and key[5:].isdecimal()]
        offset = said["master_repl_offset"]
        return any(f["state"] == "online" and f["offset"] == offset for f in followers)

    def _knows_all(self, port: int) -> bool:
        with redis.Redis(LOOPBACK, port, **self._login(), **self._tls()) as client:
            asked: Client = client
            said = asked.sentinel_master(SERVICE)
        running = sum(each.running for each in self.sentinels)
        known = (said["num-other-sentinels"], said["num-slaves"])
        return known[0] >= running - 1 and known[1] >= 1 and not said["is_odown"]

    def _await(self, ready: Any, *, what: str = "a change") -> None:
        until = time.monotonic() + READY_SECONDS
        while not self._try(ready):
            if time.monotonic() > until:
                logs = {each.log.parent.name: each.log_tail(8) for each in self.sentinels}
                raise StartFailed(
                    f"no {what} within {READY_SECONDS} s: {json.dumps(logs, indent=1)}"
                )
            time.sleep(POLL_SECONDS)

    def _try(self, ready: Any) -> bool:
        try:
            return bool(ready())
        except redis.RedisError:
            return False
