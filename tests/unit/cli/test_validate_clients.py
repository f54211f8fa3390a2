"""``switchboard validate`` of client Secrets: the field and the fix, and never what is in them."""

import base64
from pathlib import Path

import pytest

from switchboard_cli.__main__ import main

KEY = "sk-sb-0123456789"
CLIENT = """\
apiVersion: v1
kind: Secret
metadata:
  name: cart
  namespace: shop
  labels: {switchboard.dev/secret: "true", switchboard.dev/client: "true"}
stringData:
  api-key: sk-sb-0123456789
  tier: gold
"""


def check(folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> tuple[int, str]:
    (folder / "clients.yaml").write_text(text)
    status = main(["validate", "--strict", str(folder)])
    out = capsys.readouterr().out
    assert KEY not in out
    return status, out.replace(f"{folder}/", "")


def test_a_client_is_checked_and_a_secret_of_others_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = CLIENT.replace(', switchboard.dev/client: "true"', "").replace("cart", "models")
    status, told = check(tmp_path, capsys, f"{CLIENT}---\n{foreign}")
    assert (status, told) == (0, "1 object checked, 0 problems, 0 warnings\n")


@pytest.mark.parametrize(
    ("said", "instead", "told"),
    [
        (KEY, "short", "8: Secret shop/cart: stringData.api-key: is not of 16 to 512"),
        (f"api-key: {KEY}", f"key: {KEY}", "7: Secret shop/cart: stringData.api-key: is missing"),
        ("tier: gold", "tear: gold", "7: Secret shop/cart: stringData: has a key that no client"),
        (f"api-key: {KEY}", f"{KEY}: api-key", "7: Secret shop/cart: stringData: has a key that"),
        ("tier: gold", 'models: ""', "9: Secret shop/cart: stringData.models: is empty"),
        ("tier: gold", "tier: very gold", "9: Secret shop/cart: stringData.tier: is not well-"),
        ("tier: gold", "tier: 17", "9: Secret shop/cart: stringData.tier: is no text"),
        ("tier: gold", "expires: soon", "9: Secret shop/cart: stringData.expires: is no time"),
        ('secret: "true",', "other: x,", "Secret shop/cart: metadata.labels.switchboard.dev/sec"),
        ('client: "true"', 'client: "yes"', "Secret shop/cart: metadata.labels.switchboard.dev/cl"),
    ],
)
def test_a_wrong_one_is_told_with_its_field_and_a_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str, instead: str, told: str
) -> None:
    status, found = check(tmp_path, capsys, CLIENT.replace(said, instead, 1))
    assert status == 1
    assert f"clients.yaml:{told}" in found or f": {told}" in found
    assert "  fix: " in found


def test_data_is_base64(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoded = base64.b64encode(KEY.encode()).decode()
    good = CLIENT.replace("stringData", "data").replace(KEY, encoded).replace("gold", "Z29sZA==")
    assert check(tmp_path, capsys, good)[0] == 0
    status, found = check(tmp_path, capsys, good.replace("Z29sZA==", "gold!"))
    assert status == 1
    assert "data.tier: is no base64" in found
    assert "1 object checked, 1 problem," in found


def test_two_clients_with_one_key_are_a_warning_and_one_name_twice_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = check(tmp_path, capsys, f"{CLIENT}---\n{CLIENT.replace('cart', 'desk')}")
    assert status == 1
    assert "clients.yaml:11: warning: Secret shop/desk: ClientDuplicate: " in found
    assert "0 problems, 1 warning" in found
    status, found = check(tmp_path, capsys, f"{CLIENT}---\n{CLIENT}")
    assert status == 1
    assert "is there already, in clients.yaml:1" in found.replace(str(tmp_path), "")
