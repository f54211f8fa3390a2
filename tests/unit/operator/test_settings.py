"""Settings come from flags, environment and file, and a wrong one says what to do."""

from datetime import timedelta
from pathlib import Path

import pytest

from switchboard_operator.errors import AddressUnfit
from switchboard_operator.settings import KeySettings, Settings, SettingsInvalid, read_settings
from switchboard_operator.stores import Stores

FLAGS = ["--namespace", "system"]


def write(folder: Path, text: str) -> list[str]:
    path = folder / "operator.yaml"
    path.write_text(text)
    return [*FLAGS, "--config", str(path)]


def test_the_defaults_are_one_gateway_for_all_namespaces() -> None:
    settings = read_settings(FLAGS, {})
    (gateway,) = settings.worlds_gateways()
    assert (gateway.name, gateway.namespace, gateway.admit) == ("default", "system", "All")
    assert settings.watch_namespaces == []
    assert settings.admin_port == 9090


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    flags = write(tmp_path, "redis: {url: redis://file}\nlease: {name: file}\nlogLevel: error\n")
    environ = {"SWITCHBOARD_REDIS_URL": "redis://environment", "SWITCHBOARD_LEASE_NAME": "env"}
    settings = read_settings([*flags, "--redis-url", "redis://flag"], environ)
    assert settings.redis.url == "redis://flag"
    assert settings.lease.name == "env"
    assert settings.log_level == "error"


def test_every_flag_is_an_environment_variable() -> None:
    environ = {
        "SWITCHBOARD_NAMESPACE": "system",
        "SWITCHBOARD_WATCH_NAMESPACES": "ai,ml",
        "SWITCHBOARD_ADMIN_PORT": "9999",
        "SWITCHBOARD_POD_NAME": "pod-1",
    }
    settings = read_settings([], environ)
    assert settings.watch_namespaces == ["ai", "ml"]
    assert settings.admin_port == 9999
    assert settings.pod_name == "pod-1"


def test_the_file_says_what_an_administrator_decides(tmp_path: Path) -> None:
    text = """
gateways:
- name: eu
  namespace: routers
  admit: Selector
  selector: {zone: eu}
  order: [platform, ai]
  platformNamespace: platform
- name: all
"""
    eu, everyone = read_settings(write(tmp_path, text), {}).worlds_gateways()
    assert (eu.namespace, eu.admit, dict(eu.selector)) == ("routers", "Selector", {"zone": "eu"})
    assert (eu.order, eu.platform_namespace) == (("platform", "ai"), "platform")
    assert (everyone.namespace, everyone.admit) == ("system", "All")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gatewayz: []", "gatewayz: there is no such setting; correct its name or remove it"),
        ("gateways: []", "gateways is []: List should have at least 1 item"),
        ("gateways: [{name: Big}]", "gateways.0.name is 'Big': String should match"),
        ("gateways: [{admit: Some}]", "gateways.0.admit is 'Some': Input should be 'Same'"),
        ("gateways: [{admit: Selector}]", "admit is Selector and selector has 0 labels: give"),
        ("gateways: [{selector: {a: b}}]", "admit is All and selector has 1 labels: give"),
        ("gateways: [{name: a}, {name: a}]", "gateways a appear twice: give each its own name"),
        ("gateways: [{keys: {rotateAfter: 30d}}]", "gateways.0.keys.rotateAfter is '30d': write a"),
        (
            "gateways: [{keys: {keepOldFor: 5}}]",
            "gateways.0.keys.keepOldFor is 5: write a duration",
        ),
        ("adminPort: 70000", "adminPort is 70000: Input should be less than or equal to 65535"),
        ("redis: redis://:p@here", "redis: Input should be a valid dictionary"),
        ("- a list", "the file must be a map"),
        ("a: [", "--config"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_fix(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(SettingsInvalid) as raised:
        read_settings(write(tmp_path, text), {})
    assert told in str(raised.value)


def test_a_gateway_says_how_its_key_is_rotated(tmp_path: Path) -> None:
    text = "gateways: [{keys: {rotateAfter: 24h, waitAtMost: 1m30s, keepOldFor: 0s}}, {name: b}]"
    said, unsaid = read_settings(write(tmp_path, text), {}).gateways
    assert said.keys.rotate_after == timedelta(days=1)
    assert said.keys.wait_at_most == timedelta(seconds=90)
    assert said.keys.keep_old_for == timedelta(0)
    assert unsaid.keys == KeySettings()
    assert unsaid.keys.rotate_after == timedelta(days=30)


def test_a_missing_namespace_says_how_to_set_it() -> None:
    with pytest.raises(SettingsInvalid, match="namespace: is not set; set it in the file or"):
        read_settings([], {})


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SettingsInvalid, match="--config /nowhere"):
        read_settings([*FLAGS, "--config", "/nowhere"], {})


def test_the_password_in_a_redis_url_is_never_shown() -> None:
    flags = [*FLAGS, "--redis-url", "redis://:hunter2@host"]
    assert "hunter2" not in repr(read_settings(flags, {}))
    with pytest.raises(SettingsInvalid, match=r"redis.url: a store's URL starts with") as raised:
        read_settings([*FLAGS, "--redis-url", "http://:secret@host"], {})
    assert "secret" not in str(raised.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings(namespace="a").namespace = "b"


def test_admission_is_off_unless_it_has_a_port() -> None:
    assert read_settings(FLAGS, {}).admission.port == 0
    flags = ["--admission-port", "9443", "--admission-configuration", "switchboard-operator-x"]
    admission = read_settings([*FLAGS, *flags], {}).admission
    assert (admission.port, admission.configuration) == (9443, "switchboard-operator-x")
    assert (admission.service, admission.secret) == (
        "switchboard-operator",
        "switchboard-admission",
    )
    environ = {"SWITCHBOARD_ADMISSION_CERT_DIR": "/certs"}
    assert read_settings(FLAGS, environ).admission.cert_dir == "/certs"


def test_admission_is_told_in_the_file_what_it_denies(tmp_path: Path) -> None:
    text = "admission: {deny: [Unresolved, ModelNameClaimed], certificates: {settle: 2s}}\n"
    admission = read_settings(write(tmp_path, text), {}).admission
    assert admission.deny == ["Unresolved", "ModelNameClaimed"]
    assert admission.certificates.settle == timedelta(seconds=2)


@pytest.mark.parametrize("wrong", ["Dangling", "Invalid", "Ready", "unresolved"])
def test_what_can_never_be_denied_is_told_with_what_can(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"{wrong} is nothing that can be denied.*Unresolved"):
        read_settings(write(tmp_path, f"admission: {{deny: [{wrong}]}}\n"), {})


def test_access_says_whose_clients_a_gateway_takes_and_what_accounts_are(tmp_path: Path) -> None:
    text = """
gateways:
- access:
    clients: {from: Selector, selector: {keys: "yes"}}
    audience: models.example.com
    serviceAccounts:
    - {namespace: shop, name: cart, tier: gold, labels: {app: cart}, models: [chat, "gpt-*"]}
    - {namespace: "*", tier: bronze}
- name: plain
"""
    settings = read_settings(write(tmp_path, text), {})
    chosen, plain = settings.worlds_gateways()
    assert (chosen.clients_from, chosen.clients_selector) == ("Selector", {"keys": "yes"})
    assert (plain.clients_from, plain.clients_selector) == ("Same", {})
    first, last = settings.gateways[0].access.service_accounts
    assert (first.namespace, first.name, first.models) == ("shop", "cart", ["chat", "gpt-*"])
    assert (last.namespace, last.name, last.tier) == ("*", "*", "bronze")
    assert settings.gateways[1].access.audience == "switchboard"
    assert settings.gateways[1].access.service_accounts == []


@pytest.mark.parametrize(
    ("access", "place"),
    [
        ("clients: {from: Some}", "gateways.0.access.clients.from"),
        ("clients: {from: All, selector: {a: b}}", "give labels with from: Selector"),
        ("serviceAccounts: [{namespace: Shop}]", "serviceAccounts.0.namespace"),
        ("serviceAccounts: [{name: cart}]", "serviceAccounts.0.namespace"),
        ("serviceAccounts: [{tier: very gold}]", "serviceAccounts.0.tier"),
        ("serviceAccounts: [{labels: {'': x}}]", "serviceAccounts.0.labels"),
        ("serviceAccounts: [{models: ['a*b']}]", "serviceAccounts.0.models.0"),
        ("serviceAccounts: [{tear: gold}]", "there is no such setting"),
        ("audience: ''", "gateways.0.access.audience"),
    ],
)
def test_a_wrong_access_is_refused_by_its_place(tmp_path: Path, access: str, place: str) -> None:
    with pytest.raises(SettingsInvalid, match=place):
        read_settings(write(tmp_path, f"gateways: [{{access: {{{access}}}}}]"), {})


SIDECARS = """\
admission: {port: 9443}
sidecar: {enabled: true, image: dataplane:1, gatewayUrl: http://gateway/v1%s}
"""


@pytest.mark.parametrize(
    ("text", "url", "told"),
    [
        ("sidecar: {enabled: true}", "", "give image and gatewayUrl, too"),
        (SIDECARS % "" + "gateways: [{name: a}]", "", ""),
        (SIDECARS % ", gateway: b", "", "there is no gateway b"),
        ((SIDECARS % "").replace("9443", "0"), "", "needs admission.port"),
        (SIDECARS % "", "rediss://r:1/0?ssl_certfile=c&ssl_keyfile=k", "names a certificate"),
        (SIDECARS % "", "redis+sentinel://s:1/x?sentinel_password=hush", "login at the Sentinels"),
        (SIDECARS % ', redis: {address: "redis+sentinel://s:1/x"}', "redis+sentinel://s:1/x", ""),
        (SIDECARS % ", scopesMax: 0", "", "sidecar.scopesMax is 0"),
        (SIDECARS % ', redis: {url: "http://u:hush@x"}', "", "sidecar.redis.url: "),
    ],
)
def test_sidecars_are_set_up_whole_and_no_login_is_shown(
    tmp_path: Path, text: str, url: str, told: str
) -> None:
    argv = [*write(tmp_path, text), *(["--redis-url", url] if url else [])]
    if not told:
        assert read_settings(argv, {}).sidecar.enabled
        return
    with pytest.raises(SettingsInvalid) as raised:
        Stores(read_settings(argv, {}))
    assert told in str(raised.value)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("name", ["redis", "sidecar-redis"])
def test_a_url_is_given_or_its_file_and_no_login_is_shown(tmp_path: Path, name: str) -> None:
    file = tmp_path / "url"
    file.write_text("redis://u:hush@h\n")
    told = rf"--{name}-url and --{name}-url-file are both set.*_URL, SWITCHBOARD_.*_URL_FILE\)"
    url = (f"--{name}-url", "redis://u:hush@h")
    for flags, env in (
        ([*url, f"--{name}-url-file", str(file)], {}),
        ([*url], {f"SWITCHBOARD_{name.replace('-', '_').upper()}_URL_FILE": str(file)}),
    ):
        with pytest.raises(SettingsInvalid, match=told) as raised:
            read_settings([*FLAGS, *flags], env)
        assert "hush" not in str(raised.value)


def test_what_sidecars_are_told_follows_the_files(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    own.write_text("redis://u:hush@h")
    flags = [*write(tmp_path, SIDECARS % ""), "--redis-url-file", str(own)]
    stores = Stores(read_settings(flags, {}))
    own.write_text("redis://u:hush@elsewhere")
    assert stores.of_sidecars() == "redis://u:hush@elsewhere"
    own.write_text("redis+sentinel://s:1/x?sentinel_password=hush")
    with pytest.raises(AddressUnfit, match=r"give sidecar\.redis\.address") as raised:
        stores.of_sidecars()
    assert "hush" not in str(raised.value)
    with pytest.raises(SettingsInvalid, match=r"give sidecar\.redis\.address"):
        Stores(read_settings(flags, {}))
    shared.write_text("redis://all:p@h")
    stores = Stores(read_settings([*flags, "--sidecar-redis-url-file", str(shared)], {}))
    shared.write_text("redis://all:q@h")
    assert stores.of_sidecars() == "redis://all:q@h"


@pytest.mark.parametrize("flag", ["--redis-url-file", "--sidecar-redis-url-file"])
def test_a_file_without_a_url_is_named_with_its_flag(tmp_path: Path, flag: str) -> None:
    (tmp_path / "url").write_text("")
    settings = read_settings([*FLAGS, flag, f"{tmp_path}/url"], {})
    with pytest.raises(SettingsInvalid, match=rf"{flag}: {tmp_path}/url holds nothing: write the"):
        Stores(settings)
