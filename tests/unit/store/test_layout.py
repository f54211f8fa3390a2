"""Keys, encodings and addresses in Redis."""

import msgspec
import pytest

from switchboard_policy.store import ZERO, Field, Head, Line, Revision
from switchboard_policy.store.address import (
    Cluster,
    Sentinels,
    TlsFiles,
    parse_address,
    tls_files_of,
)
from switchboard_policy.store.layout import (
    channel_keys,
    pod_keys,
    read_fields,
    read_head,
    read_line,
    read_pod,
)

LINE = Line(revision=Revision(2, 7), previous=Revision(2, 6), object="o", digest="d", mac="k:1")
NO_LINE = Line(revision=Revision(2, 7), previous=ZERO, object="", digest="", mac="")
NO_FIELD = Field(object="o", digest="", revision=ZERO, mac="")


def test_every_key_of_a_scope_has_its_hash_tag() -> None:
    keys, pods = channel_keys("gw/a", "policy"), pod_keys("gw/a")
    assert keys.entry("d1") == "sb:{gw/a}:policy:entry:d1"
    all_of_them = (
        keys.head,
        keys.manifest,
        keys.log,
        keys.retired,
        pods.pods,
        pods.seen,
        pods.acks,
        pods.words,
        pods.decisions,
    )
    assert len(set(all_of_them)) == 9
    assert all(key.startswith("sb:{gw/a}:") for key in all_of_them)


def test_a_line_is_read_with_the_time_of_its_writing() -> None:
    parts = {b"line": msgspec.json.encode(LINE), b"at": b"123"}
    assert read_line(b"2-7", parts) == msgspec.structs.replace(LINE, at_ms=123)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {b"line": b"\xff"},
        {b"line": b"[" * 100_000},
        {b"line": msgspec.json.encode(LINE), b"at": b"soon"},
        {b"line": msgspec.json.encode(msgspec.structs.replace(LINE, revision=Revision(2, 8)))},
    ],
)
def test_a_line_that_cannot_be_read_or_is_not_at_its_place_has_no_signature(
    parts: dict[bytes, bytes],
) -> None:
    assert read_line(b"2-7", parts) == NO_LINE


def test_a_field_that_cannot_be_read_or_is_another_objects_has_no_signature() -> None:
    field = Field(object="o", digest="d", revision=Revision(1, 2), mac="k:1")
    raw = msgspec.json.encode(field)
    assert read_fields({b"o": raw}) == {"o": field}
    assert read_fields({b"o": raw[:-1]}) == {"o": NO_FIELD}
    assert read_fields({b"p": raw})["p"].mac == ""
    (odd,) = read_fields({b"\xff": raw}).values()
    assert odd.mac == ""


def test_a_head_is_read_whole_or_has_no_signature() -> None:
    parts = {b"epoch": b"2", b"sequence": b"7", b"format": b"1", b"mac": b"k:1", b"fence": b"3"}
    assert read_head(parts) == Head(revision=Revision(2, 7), format=1, mac="k:1")
    assert read_head({b"fence": b"3"}) is None
    assert read_head({}) is None
    for broken in ({b"epoch": b"x"}, {b"mac": b"\xff"}):
        assert read_head(parts | broken) == Head(revision=ZERO, format=0, mac="")
    assert read_head({b"sequence": b"7"}) == Head(revision=ZERO, format=0, mac="")


def test_a_pods_record_that_cannot_be_read_is_none() -> None:
    assert read_pod(b"{}") is None
    assert read_pod(b"\xff") is None


def test_revisions_are_ordered_by_epoch_and_then_by_sequence() -> None:
    assert ZERO < Revision(1, 900) < Revision(2, 1) < Revision(2, 2)
    assert Revision.parse(str(Revision(3, 14))) == Revision(3, 14)
    for text in ("", "3", "3-", "a-b"):
        with pytest.raises(ValueError, match="invalid literal"):
            Revision.parse(text)


def test_a_servers_url_stays_as_it_is() -> None:
    for url in ("redis://h:1/0", "rediss://u:p@h/2?ssl_ca_certs=/ca"):
        assert parse_address(url) == url


def test_a_sentinel_url_says_it_all() -> None:
    assert parse_address(
        "rediss+sentinel://us%40er:p%3Aw@a,[fd00::1]:7,c:8/main/3"
        "?sentinel_username=s&sentinel_password=t&ssl_ca_certs=/ca"
    ) == Sentinels(
        hosts=(("a", 26379), ("fd00::1", 7), ("c", 8)),
        service="main",
        db=3,
        tls=True,
        username="us@er",
        password="p:w",
        sentinel_username="s",
        sentinel_password="t",
    )
    plain = parse_address("redis+sentinel://a:1/main")
    assert isinstance(plain, Sentinels)
    assert (plain.db, plain.tls, plain.username, plain.password) == (0, False, None, None)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://u:secret@h", "starts with"),
        ("redis+sentinel://u:secret@a:1", "SERVICE"),
        ("redis+sentinel://u:secret@/main", "SERVICE"),
        ("redis+sentinel://u:secret@a/main/x", "number"),
        ("redis+sentinel://u:secret@a,,b/main", "empty host"),
        ("redis+cluster://u:secret@", "HOST:PORT"),
        ("redis+cluster://u:secret@a/1", "one database"),
        ("redis+cluster://u:secret@a,,b", "empty host"),
        ("rediss://u:secret@a?ssl_certfile=/c", "belong together"),
        ("rediss+cluster://u:secret@a?ssl_keyfile=/k", "belong together"),
        ("redis://u:secret@a?ssl_ca_certs=/ca", "starts with rediss"),
        ("redis+sentinel://u:secret@a/m?ssl_certfile=/c&ssl_keyfile=/k", "starts with rediss"),
        ("redis://u:secret/x@a", "quote what a URL reserves"),
        ("redis://u:[secret@a", "quote what a URL reserves"),
        ("redis://u:secret℀@a", "quote what a URL reserves"),
        ("redis+sentinel://u:p/m/secret@a:1/main", "number"),
        ("redis+cluster://u:secret/x@a", "one database"),
        ("redis+cluster://u:secret", "quote what a URL reserves"),
    ],
)
def test_a_bad_url_says_what_is_wrong_and_never_the_password(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        parse_address(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["redis+sentinel://u:secret@a:1/main", "redis+cluster://u:secret@a"]
)
def test_passwords_are_not_shown(url: str) -> None:
    assert "secret" not in repr(parse_address(url))


def test_a_cluster_url_names_nodes() -> None:
    assert parse_address(
        "rediss+cluster://us%40er:p%3Aw@a,[fd00::1]:7/?ssl_ca_certs=/ca"
    ) == Cluster(
        hosts=(("a", 6379), ("fd00::1", 7)),
        tls=True,
        username="us@er",
        password="p:w",
    )
    plain = parse_address("redis+cluster://a:1/0")
    assert isinstance(plain, Cluster)
    assert (plain.tls, plain.username, plain.password) == (False, None, None)


def test_the_file_of_authorities_is_found_in_a_servers_url() -> None:
    assert tls_files_of("rediss://u:p@h/2?ssl_ca_certs=/a%20b") == TlsFiles("/a b")
    assert tls_files_of("redis://h") == TlsFiles()
    both = "rediss+sentinel://u:p@h/main?ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k"
    assert tls_files_of(both) == TlsFiles("/ca", "/c", "/k")
