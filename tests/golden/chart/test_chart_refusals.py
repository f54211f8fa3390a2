"""What the chart refuses to install, and that the operator would refuse the same."""

import json
from pathlib import Path

import pytest

from cluster.chart import STORE, Helm, only, pods_of, require_helm
from switchboard_operator.settings import SettingsInvalid, read_settings


@pytest.fixture(scope="module")
def helm() -> Helm:
    return require_helm()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("redis.url=", "set redis.url, redis.existingSecret.name or redis.bundled.enabled=true"),
        ("redis.bundled.enabled=true", "set only one of redis.url"),
        ("redis.url=http://redis", "at '/redis/url': 'http://redis' does not match pattern"),
        ("redis.bundled.maxMemory=lots", "at '/redis/bundled/maxMemory'"),
        ("gateway.admit=Some", "at '/gateway/admit': value must be one of 'Same', 'Selector'"),
        ("gateway.name=Big", "at '/gateway/name'"),
        ("gateway.keys.rotateAfter=30d", "at '/gateway/keys/rotateAfter'"),
        ("gateway.rollingUpdate.maxSurge=many", "at '/gateway/rollingUpdate/maxSurge'"),
        ("gateway.resources.limit.cpu=1", "at '/gateway/resources': additional properties 'limit'"),
        ("gateway.affinity.podAffinty=x", "additional properties 'podAffinty' not allowed"),
        ("gateway.access.modes={key}", "at '/gateway/access/modes/0': value must be one of 'keys'"),
        ("gateway.access.modes={keys,none}", "modes is keys, none: none stands alone"),
        ("gateway.access.modes={mesh}", "modes is mesh and gateway.access.trustedPeers has 0"),
        ("gateway.access.trustedPeers={10.0.0.0/8}", "give the networks of the mesh's proxies"),
        ("gateway.access.trustedPeers={proxy}", "at '/gateway/access/trustedPeers/0'"),
        ("operator.replicas=many", "at '/operator/replicas': got string, want integer"),
        ("operator.image.digest=latest", "at '/operator/image/digest'"),
        ("gatewayz.name=x", "additional properties 'gatewayz' not allowed"),
        ("service.port=0", "at '/service/port': minimum: got 0, want 1"),
        ("admission.failurePolicy=Warn", "value must be one of 'Fail', 'Ignore'"),
        ("admission.certificates=Mine", "value must be one of 'Operator', 'CertManager'"),
        ("admission.timeoutSeconds=60", "at '/admission/timeoutSeconds': maximum"),
        ("admission.certManager.issuerRef.kind=Issuer", "properties 'name' required"),
        ("networkPolicy.models.ports={http}", "at '/networkPolicy/models/ports/0'"),
        ("crds.install=maybe", "at '/crds/install': got string, want boolean"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(helm: Helm, wrong: str, said: str) -> None:
    done = helm.template(*STORE, "--set", wrong)
    assert done.returncode != 0
    assert said in done.stderr


DENY = "value must be one of 'Analysis', 'ApiNotOffered'"


@pytest.mark.parametrize(
    ("wrong", "setting", "said"),
    [
        ("admission.deny={Invalid}", "admission: {deny: [Invalid]}", DENY),
        ("admission.deny={BackendNotFoun}", "admission: {deny: [BackendNotFoun]}", DENY),
        (
            "gateway.admit=Selector",
            "gateways: [{admit: Selector}]",
            "gateway.admit is Selector and gateway.selector has 0 labels: give labels with",
        ),
        (
            "gateway.selector.team=a",
            "gateways: [{selector: {team: a}}]",
            "gateway.admit is All and gateway.selector has 1 labels: give labels with",
        ),
        (
            "gateway.access.clients.from=Selector",
            "gateways: [{access: {clients: {from: Selector}}}]",
            "clients.from is Selector and gateway.access.clients.selector has 0 labels: give",
        ),
        (
            "gateway.access.clients.selector.team=a",
            "gateways: [{access: {clients: {selector: {team: a}}}}]",
            "clients.from is Same and gateway.access.clients.selector has 1 labels: give",
        ),
        (
            "gateway.access.serviceAccounts[0].name=cart",
            "gateways: [{access: {serviceAccounts: [{name: cart}]}}]",
            "at '/gateway/access/serviceAccounts/0': missing property 'namespace'",
        ),
        (
            "gateway.access.serviceAccounts[0].tier=-",
            "gateways: [{access: {serviceAccounts: [{tier: '-'}]}}]",
            "at '/gateway/access/serviceAccounts/0/tier'",
        ),
        (
            "gateway.access.serviceAccounts[0].name=Big",
            "gateways: [{access: {serviceAccounts: [{name: Big}]}}]",
            "at '/gateway/access/serviceAccounts/0/name'",
        ),
        (
            "gateway.access.serviceAccounts[0].models={a*b}",
            "gateways: [{access: {serviceAccounts: [{models: ['a*b']}]}}]",
            "at '/gateway/access/serviceAccounts/0/models/0'",
        ),
        (
            "gateway.platformNamespace=Big",
            "gateways: [{platformNamespace: Big}]",
            "at '/gateway/platformNamespace'",
        ),
        ("gateway.order={Big}", "gateways: [{order: [Big]}]", "at '/gateway/order/0'"),
        ("watchNamespaces={Big}", "watchNamespaces: [Big]", "at '/watchNamespaces/0'"),
        (
            "redis.url=redis+sentinel://a:26379",
            "redis: {url: 'redis+sentinel://a:26379'}",
            "at '/redis/url'",
        ),
        (
            "redis.url=redis+sentinel://a:26379/main/db",
            "redis: {url: 'redis+sentinel://a:26379/main/db'}",
            "at '/redis/url'",
        ),
        (
            "redis.url=rediss+cluster://a:6379/1",
            "redis: {url: 'rediss+cluster://a:6379/1'}",
            "at '/redis/url'",
        ),
        (
            "redis.url=redis://a?ssl_ca_certs=/ca",
            "redis: {url: 'redis://a?ssl_ca_certs=/ca'}",
            "redis.url: one with ssl_… starts with rediss",
        ),
        (
            "redis.url=rediss://a?ssl_certfile=/crt",
            "redis: {url: 'rediss://a?ssl_certfile=/crt'}",
            "redis.url: ssl_certfile and ssl_keyfile belong together",
        ),
        (
            "operator.config.lease.duration=1500ms",
            "lease: {duration: 1500ms}",
            "at '/operator/config/lease/duration'",
        ),
        (
            "operator.config.admission.linger=5",
            "admission: {linger: 5}",
            "at '/operator/config/admission/linger'",
        ),
        ("operator.config.adminHos=x", "adminHos: x", "additional properties 'adminHos'"),
    ],
)
def test_what_the_operator_refuses_the_chart_does_not_install(
    helm: Helm, tmp_path: Path, wrong: str, setting: str, said: str
) -> None:
    done = helm.template(*STORE, "--set", wrong)
    assert done.returncode != 0
    assert said in done.stderr
    (tmp_path / "operator.yaml").write_text(setting)
    with pytest.raises(SettingsInvalid):
        read_settings([f"--config={tmp_path}/operator.yaml"], {"SWITCHBOARD_NAMESPACE": "x"})


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://u:p@a:26379,b:26379/main",
        "rediss+sentinel://a/main/0?sentinel_username=u",
        "redis+cluster://a:6379,b:6379/0",
        "rediss+cluster://a?ssl_ca_certs=/etc/redis-ca/ca.crt",
        "rediss://a:6380/0?ssl_certfile=/a&ssl_keyfile=/b",
    ],
)
def test_what_the_operator_takes_for_a_url_the_chart_does_too(
    helm: Helm, tmp_path: Path, url: str
) -> None:
    (tmp_path / "values.yaml").write_text(json.dumps({"redis": {"url": url}}))
    documents = list(helm.documents("--values", f"{tmp_path}/values.yaml"))
    env = dict(pods_of(iter(documents)))["switchboard-operator"]["containers"][0]["env"]
    assert {"name": "SWITCHBOARD_REDIS_URL", "value": url} in env
    config = only(documents, "ConfigMap", "switchboard-operator")["data"]["operator.yaml"]
    (tmp_path / "operator.yaml").write_text(config)
    environ = {"SWITCHBOARD_NAMESPACE": "x", "SWITCHBOARD_REDIS_URL": url}
    assert read_settings([f"--config={tmp_path}/operator.yaml"], environ).redis.url == url


def test_a_name_of_digits_stays_a_name(helm: Helm, tmp_path: Path) -> None:
    names = ("--set-string", "gateway.name=1e3,gateway.platformNamespace=7")
    config = only(list(helm.documents(*STORE, *names)), "ConfigMap", "switchboard-operator")
    (tmp_path / "operator.yaml").write_text(config["data"]["operator.yaml"])
    flags = [f"--config={tmp_path}/operator.yaml"]
    (gateway,) = read_settings(flags, {"SWITCHBOARD_NAMESPACE": "x"}).gateways
    assert (gateway.name, gateway.platform_namespace) == ("1e3", "7")


def test_a_network_policy_does_not_guess_the_ports_of_a_redis(helm: Helm) -> None:
    on = ("--set", "networkPolicy.enabled=true", "--set")
    hidden = helm.template(*on, "redis.existingSecret.name=store")
    assert "networkPolicy.redis.ports: give the ports of the Redis: its URL is" in hidden.stderr
    watched = helm.template(*on, "redis.url=redis+sentinel://a/main")
    assert "networkPolicy.redis.ports: give the ports of the Sentinels and" in watched.stderr


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ("gateway.resources.requests=null,gateway.resources.limits=null", "cpu"),
        ("gateway.resources.requests=null", "cpu"),
        ("gateway.resources.requests.cpu=null,gateway.resources.limits.cpu=1", None),
        ("gateway.resources=null,gateway.autoscaling.targetCPUUtilizationPercentage=0", "memory"),
        ("gateway.replicas=2", None),
    ],
)
def test_autoscaling_by_a_share_of_a_request_needs_the_request(
    helm: Helm, tmp_path: Path, values: str, missing: str | None
) -> None:
    target = {"type": "Utilization", "averageUtilization": 80}
    metric = {"type": "Resource", "resource": {"name": "memory", "target": target}}
    autoscaling = {"enabled": True, "metrics": [metric]}
    (tmp_path / "values.yaml").write_text(json.dumps({"gateway": {"autoscaling": autoscaling}}))
    done = helm.template(*STORE, "--values", f"{tmp_path}/values.yaml", "--set", values)
    said = (
        f"a share of the {missing} request is asked for: set gateway.resources.requests.{missing}"
    )
    assert (said in done.stderr) is (missing is not None)
    assert (done.returncode == 0) is (missing is None), done.stderr


def test_autoscaling_that_cannot_be_is_refused(helm: Helm) -> None:
    on = (*STORE, "--set", "gateway.autoscaling.enabled=true")
    fewer = helm.template(*on, "--set", "gateway.autoscaling.maxReplicas=1")
    assert "minReplicas is 2, maxReplicas 1" in fewer.stderr
    blind = helm.template(*on, "--set", "gateway.autoscaling.targetCPUUtilizationPercentage=0")
    assert "set targetCPUUtilizationPercentage or metrics" in blind.stderr
