"""Learned routers in a folder, named by what is in them."""

import logging
from pathlib import Path

import pytest

from fakes.routers import fitted, rows
from switchboard_cli.train.store import store_fit
from switchboard_dataplane.choosing import routers
from switchboard_dataplane.choosing.artifact import BYTES_MAX, digest_of
from switchboard_dataplane.choosing.routers import Routers, file_name

DATA = store_fit(fitted().fit, rows())
DIGEST = digest_of(DATA)


def looked(folder: Path | None) -> Routers:
    found = Routers(folder)
    found.look()
    return found


def test_a_router_is_found_by_its_digest(tmp_path: Path) -> None:
    (tmp_path / file_name(DIGEST)).write_bytes(DATA)
    found = looked(tmp_path)
    assert DIGEST in found
    assert set(found.predict("Tell me a capital.", DIGEST)) == {"small", "large"}


def test_the_router_that_ships_answers_for_one_that_is_not_there(tmp_path: Path) -> None:
    for folder in (None, tmp_path, tmp_path / "nowhere"):
        found = looked(folder)
        assert DIGEST not in found
        assert found.predict("Tell me a capital.", DIGEST) == Routers().predict(
            "Tell me a capital.", ""
        )
        assert found.rated_before(DIGEST) == {}


@pytest.mark.parametrize("name", ["router.msgpack", "sha256-" + "f" * 64 + ".bin"])
def test_a_file_of_another_name_is_none_of_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DATA)
    assert DIGEST not in looked(tmp_path)


def test_a_file_that_is_not_what_it_is_called_is_refused_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = "sha256:" + "0" * 64
    (tmp_path / file_name(other)).write_bytes(DATA)
    (tmp_path / ("1" * 64 + ".msgpack")).write_bytes(b"no router")
    (tmp_path / ("2" * 64 + ".msgpack")).write_bytes(b"\0" * (BYTES_MAX + 1))
    (tmp_path / ("3" * 64 + ".msgpack")).mkdir()
    with caplog.at_level(logging.WARNING):
        found = looked(tmp_path)
        found.look()
    assert other not in found
    assert caplog.text.count("is refused") == 4
    assert f"its bytes are {DIGEST}" in caplog.text


def test_what_was_read_stays_though_its_file_goes(tmp_path: Path) -> None:
    path = tmp_path / file_name(DIGEST)
    path.write_bytes(DATA)
    found = looked(tmp_path)
    path.unlink()
    found.look()
    assert DIGEST in found


def test_no_more_are_kept_than_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routers, "ROUTERS_MAX", 1)
    for words in (10, 20):
        data = store_fit(fitted().fit, rows(), words=words)
        (tmp_path / file_name(digest_of(data))).write_bytes(data)
    found = looked(tmp_path)
    known = [path.stem for path in tmp_path.iterdir() if f"sha256:{path.stem}" in found]
    assert len(known) == 1
