"""One call to the API server: JSON out and in, or an error.

Of the client library only the login is used: its calls are synchronous and take three times the
CPU, which counts when thousands of statuses are written.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes import client, config
from kubernetes.client.rest import should_bypass_proxies

from switchboard_operator.errors import ApiAway, ApiRefused, Conflict, Forbidden, NotFound

CONNECTIONS: Final = 8
"""Calls in flight at once: enough for 500 status patches a second, few enough to be polite."""
TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=30.0)
"""To connect, and to wait for an answer; no limit to how long a call waits for a connection."""
LOGIN_EVERY_S: Final = 5.0
"""Tokens age; whether there is a new one is asked this often at most."""
USER_AGENT: Final = "switchboard-operator"
"""The API server also calls the manager of the fields so that a call writes."""
JSON: Final = "application/json"

Json = dict[str, Any]
Decoder = msgspec.json.Decoder
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

_ANYTHING: Final = Decoder(Json)
_REFUSALS: Final[Mapping[int, type[ApiRefused]]] = {403: Forbidden, 404: NotFound, 409: Conflict}


@dataclass(frozen=True, slots=True)
class Connection:
    """What another client needs to talk to the same server as the same user."""

    server: str
    ca_path: str | None
    verify: bool
    authorization: str | None
    certificate_path: str | None
    key_path: str | None


class Rest:
    """The API server as the user of the configuration."""

    def __init__(self, configuration: client.Configuration) -> None:
        self._configuration = configuration
        direct = should_bypass_proxies(configuration.host, configuration.no_proxy or "")
        self._proxy: str | None = None if direct else configuration.proxy
        self._session: aiohttp.ClientSession | None = None
        self._login: tuple[float, str | None] = (float("-inf"), None)

    def connection(self) -> Connection:
        """Return the credentials as they are now (tokens are renewed when they age)."""
        known = self._configuration
        return Connection(
            server=known.host,
            ca_path=known.ssl_ca_cert,
            verify=known.verify_ssl,
            authorization=self._authorization(),
            certificate_path=known.cert_file,
            key_path=known.key_file,
        )

    async def close(self) -> None:
        """Drop the connections."""
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        answer: Decoder[Any] = _ANYTHING,
    ) -> Any:
        """Make a call; return what ``answer`` reads of the answer. Raises KubeError."""
        known = self._configuration
        said = {key: value for key, value in (query or {}).items() if value}
        url = f"{known.host}{path}" + (f"?{urlencode(said)}" if said else "")
        headers = {"Accept": accept, "Content-Type": content_type}
        if authorization := await self._current_authorization():
            headers["Authorization"] = authorization
        try:
            async with self._connected().request(
                method,
                url,
                headers=headers,
                data=None if body is None else msgspec.json.encode(body),
                proxy=self._proxy,
                server_hostname=known.tls_server_name,
                allow_redirects=False,
            ) as response:
                raw = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise ApiAway(f"{method} {url}: {error}") from error
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            refusal = _REFUSALS.get(response.status, ApiRefused)
            raise refusal(response.status, f"{method} {url}: {_message(raw)}")
        return answer.decode(raw)

    def _connected(self) -> aiohttp.ClientSession:
        """Return the session of the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=_tls(self._configuration), limit=CONNECTIONS),
                # A large list would be packed: seconds of the API server's CPU for a near network.
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                timeout=TIMEOUT,
            )
        return self._session

    async def _current_authorization(self) -> str | None:
        asked_at, authorization = self._login
        if time.monotonic() - asked_at >= LOGIN_EVERY_S:
            # On a thread: a kubeconfig may name a program that is run for a new token.
            authorization = await asyncio.to_thread(self._authorization)
            self._login = (time.monotonic(), authorization)
        return authorization

    def _authorization(self) -> str | None:
        known = self._configuration
        if known.username:
            basic: str | None = known.get_basic_auth_token()
            return basic
        token: str | None = known.get_api_key_with_prefix("BearerToken")
        return token


def log_in(kubeconfig: str | None = None) -> Rest:
    """Log in: the given file, else $KUBECONFIG, else the pod's ServiceAccount, else ~/.kube/config.

    Raises ApiAway naming what was tried.
    """
    # The loaders are not typed.
    load: Any = config
    found = client.Configuration()
    try:
        if kubeconfig or os.environ.get("KUBECONFIG"):
            load.load_kube_config(kubeconfig, client_configuration=found)
        else:
            try:
                load.load_incluster_config(client_configuration=found)
            except config.ConfigException:
                load.load_kube_config(client_configuration=found)
    except (config.ConfigException, OSError) as error:
        raise ApiAway(
            f"no way to log in to Kubernetes ({error}); run in a pod with a ServiceAccount, or "
            "name a kubeconfig file with --kubeconfig"
        ) from error
    return Rest(found)


def _message(raw: bytes) -> str:
    try:
        return str(msgspec.json.decode(raw, type=dict[str, Any]).get("message", ""))
    except msgspec.MsgspecError:
        return raw[:200].decode(errors="replace")


def _tls(known: client.Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=known.ssl_ca_cert)
    if not known.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if known.cert_file:
        context.load_cert_chain(known.cert_file, known.key_file)
    return context
