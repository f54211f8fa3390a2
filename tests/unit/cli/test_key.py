"""``switchboard key``: a Secret that makes a client, with a key that nobody else has."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from switchboard_cli.__main__ import main
from switchboard_cli.key import KEY_PREFIX
from switchboard_policy.compiler.clients import read_client

ROOT = Path(__file__).parents[3]
SAID = (
    *("--tier", "gold", "--team", "17", "--models", "chat,gpt-4o*"),
    *("--label", "app=cart", "--label", "on=true", "--expires", "2027-01-31T00:00:00Z"),
)


def test_the_secret_makes_the_client_that_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["key", "cart", "--namespace", "shop", *SAID]) == 0
    out, err = capsys.readouterr()
    made = yaml.safe_load(out)
    assert made["metadata"] == {
        "name": "cart",
        "namespace": "shop",
        "labels": {"switchboard.dev/secret": "true", "switchboard.dev/client": "true"},
    }
    spec, problems = read_client({name: text.encode() for name, text in made["stringData"].items()})
    assert problems == ()
    assert spec is not None
    assert (spec.tier, spec.team, spec.models) == ("gold", "17", ("chat", "gpt-4o*"))
    assert spec.labels == (("app", "cart"), ("on", "true"))
    assert made["stringData"]["api-key"] not in err
    assert "kubectl get secret cart -n shop" in err


@pytest.mark.parametrize("page", ["docs/access.md", "examples/07-access/README.md"])
def test_the_commands_of_the_pages_make_clients(
    page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / page).read_text().replace("\\\n", " ")
    commands = re.findall(r"^switchboard (key .*?) \|", text, re.MULTILINE)
    assert commands
    for command in commands:
        assert main(shlex.split(command)) == 0
        assert "namespace: switchboard" in capsys.readouterr().out


def test_every_key_is_another_one_and_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    keys = set[str]()
    for _ in range(8):
        assert main(["key", "cart"]) == 0
        made = yaml.safe_load(capsys.readouterr().out)
        assert "namespace" not in made["metadata"]
        assert made["stringData"].keys() == {"api-key"}
        keys.add(made["stringData"]["api-key"])
    assert len(keys) == 8
    assert all(key.startswith(KEY_PREFIX) and len(key) >= 48 for key in keys)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["Cart"], "NAME: 'Cart' is no name"),
        (["x" * 254], "NAME: "),
        (["cart", "--namespace", "my.shop"], "--namespace: 'my.shop' is no name"),
        (["cart", "--tier", "very gold"], "--tier: is not well-formed"),
        (["cart", "--label", "app"], "--label: label 1 is not well-formed"),
        (["cart", "--models", "a*b"], "--models: name 1 is not well-formed"),
        (["cart", "--models", ""], "--models: is empty"),
        (["cart", "--expires", "tomorrow"], "--expires: is no time"),
    ],
)
def test_what_makes_no_client_is_refused_and_nothing_printed(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"switchboard key: {told}")
