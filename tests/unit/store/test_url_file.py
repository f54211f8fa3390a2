"""A store's URL in a file: what is in force while it changes, and what is never said of it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from switchboard_policy.store.url_file import UrlFile, url_of

GOOD = "redis://u:hush@h:1/0"


@pytest.fixture
def file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Path]:
    caplog.set_level(logging.INFO)
    path = tmp_path / "url"
    path.write_text(f"{GOOD}\n")
    yield path
    assert "hush" not in caplog.text


def test_what_the_file_says_is_in_force_at_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = UrlFile(file)
    assert url_of(store) == GOOD == url_of(GOOD)
    assert not caplog.messages
    file.write_text("redis://u:hush2@h:1/0")
    assert store.url() == store.url() == "redis://u:hush2@h:1/0"
    assert caplog.messages == [f"the way to the store was read anew: {file}"]


def test_a_secret_that_kubelet_replaces_is_read_through_its_links(tmp_path: Path) -> None:
    for name, url in (("one", GOOD), ("two", "redis://u:hush@h:2/0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "url").write_text(url)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "url").symlink_to("..data/url")
    store = UrlFile(tmp_path / "url")
    (tmp_path / "..data_tmp").symlink_to("two")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert store.url() == "redis://u:hush@h:2/0"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read (No such file or directory): name a file with the store's URL"),
        (b"", "holds nothing: write the store's URL into it, one line such as redis://USER:"),
        (b"redis://u:hush@h\nredis://u:hush@i\n", "holds several words: write the store's URL"),
        (b"\xff\xfe", "holds no text: write the store's URL into it"),
        (b"u:hush@h:1", "holds no URL of a store: a store's URL starts with one of redis://"),
        (b"redis://u:hu/sh@h:1", "holds no URL of a store: a store's URL has a port that is none"),
        (b"rediss://u:hush@h:1?ssl_ca_certs=/nowhere", "/nowhere is no file of certificates"),
    ],
)
def test_a_file_that_is_of_no_use_ends_a_start_and_later_changes_nothing(
    file: Path, caplog: pytest.LogCaptureFixture, content: bytes | None, told: str
) -> None:
    store = UrlFile(file)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r".") as raised:
        UrlFile(file)
    assert str(raised.value).startswith(f"{file} ")
    assert told in str(raised.value)
    assert not any(part in str(raised.value) for part in ("hu", "sh@"))
    assert {store.url() for _ in range(3)} == {GOOD}
    (said,) = caplog.messages
    assert said == f"the way to the store stays as it was: {raised.value}"
    file.write_text(GOOD)
    assert store.url() == store.url() == GOOD
    assert caplog.messages[1:] == [f"the way to the store can be read again: {file}"]
