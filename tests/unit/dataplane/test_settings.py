"""Settings: every one a flag and an environment variable; a flag wins."""

from dataclasses import fields

import pytest

from switchboard_dataplane.settings import Settings, parse_settings, split_address


def parse(*argv: str, **env: str) -> Settings:
    return parse_settings(argv, env, prog="dataplane")


def test_the_defaults_are_those_of_a_gateway_pod() -> None:
    settings = parse()
    assert settings == Settings()
    assert (settings.listen, settings.admin) == ("0.0.0.0:8080", "0.0.0.0:9090")
    assert (settings.scope, settings.body_limit_bytes) == ("gw/default", 32 * 1024 * 1024)
    assert settings.state_path is None


def test_every_flag_is_an_environment_variable() -> None:
    for one in fields(Settings):
        if one.name in ("otlp", "log_level", "listen", "admin"):
            continue
        text = {str: "text", float: "12.5", int: "77", bool: "false"}[type(one.default)]
        text = "keys" if one.name == "access" else text
        by_flag = parse(f"--{one.name.replace('_', '-')}", text)
        by_variable = parse(**{f"SWITCHBOARD_{one.name.upper()}": text})
        assert by_flag == by_variable != Settings()


def test_access_is_a_list_of_modes() -> None:
    assert parse().access_modes == {"none"}
    assert parse("--access", "keys, tokens").access_modes == {"keys", "tokens"}
    mesh = parse("--access", "mesh,keys", "--trusted-peers", "10.0.0.0/8")
    assert mesh.access_modes == {"keys", "mesh"}
    pod = parse("--access", "pod", "--service-account", "app", "--pod-namespace", "apps")
    assert pod.access_modes == {"pod"}


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--access", "key"), "--access: 'key' is none of keys, tokens, mesh, none, pod"),
        (("--access", ""), "--access: '' is none of"),
        (("--access", "keys,"), "--access: '' is none of"),
        (("--access", "none,keys"), "--access: 'none,keys': none and pod stand alone"),
        (("--access", "pod,mesh"), "--access: 'pod,mesh': none and pod stand alone"),
        (("--access", "pod"), "--access pod needs --service-account and --pod-namespace"),
        (("--access", "mesh"), "--access mesh needs --trusted-peers"),
    ],
)
def test_access_that_lets_in_other_than_it_seems_is_refused(
    argv: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(*argv)
    assert told in capsys.readouterr().err


def test_a_url_is_given_or_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, env in (
        (("--redis-url", "redis://u:hush@h", "--redis-url-file", "url"), {}),
        (("--redis-url-file", "url"), {"SWITCHBOARD_REDIS_URL": "redis://u:hush@h"}),
    ):
        with pytest.raises(SystemExit):
            parse(*argv, **env)
        said = capsys.readouterr().err
        assert "--redis-url and --redis-url-file are both set" in said
        assert "SWITCHBOARD_REDIS_URL, SWITCHBOARD_REDIS_URL_FILE" in said
        assert "hush" not in said


def test_a_flag_wins() -> None:
    assert parse("--zone", "a", SWITCHBOARD_ZONE="b").zone == "a"


@pytest.mark.parametrize(("text", "value"), [("TRUE", True), ("0", False), ("off", False)])
def test_switches_take_words(text: str, *, value: bool) -> None:
    assert parse("--detail-headers", text).detail_headers is value


@pytest.mark.parametrize("signal", ["", "METRICS_", "TRACES_"])
def test_otlp_is_on_where_an_endpoint_is_named(signal: str) -> None:
    assert parse(**{f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT": "http://127.0.0.1:4318"}).otlp
    assert not parse(**{f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT": ""}).otlp
    assert not parse().otlp


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:8080", ("::1", 8080)),
        (":0", ("", 0)),
    ],
)
def test_an_address_has_host_and_port(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize("address", ["", "8080", "a:", "a:b", "a:70000", "a:-1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(address)
