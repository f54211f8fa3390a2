"""Entries to canonical bytes and back, with the digest that names them.

Canonical: fields in the order of their declaration, defaults left out, so that equal entries have
equal bytes. The envelope carries the format number; a reader takes formats N and N-1 and refuses
what it does not know.
"""

from functools import cache
from typing import Any, Final, cast

import msgspec
from msgspec.structs import FieldInfo

from switchboard_policy.errors import DigestMismatch, Malformed, UnknownFormat
from switchboard_policy.ir import Entry
from switchboard_policy.seal import fingerprint

FORMAT: Final = 1
FORMATS: Final = (1,)

#: Bounds what one pod decodes at once; the largest valid policy is an order of magnitude below.
ENTRY_BYTES_MAX: Final = 4 * 1024 * 1024


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    entry: Entry


class _FormatOnly(msgspec.Struct, frozen=True):
    format: int


class Encoded(msgspec.Struct, frozen=True):
    """An entry with its canonical bytes and their digest (SHA-256, hex)."""

    entry: Entry
    body: bytes
    digest: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Envelope)
_format_decoder = msgspec.json.Decoder(_FormatOnly)


def encode(entry: Entry) -> Encoded:
    """Encode an entry in the current format."""
    body = _encoder.encode({"format": FORMAT, "entry": _canonical(entry)})
    return Encoded(entry=entry, body=body, digest=fingerprint(body))


def decode(body: bytes, *, digest: str) -> Entry:
    """Decode an entry that the store keeps under ``digest``.

    Raises EntryRefused: DigestMismatch, UnknownFormat or Malformed.
    """
    if len(body) > ENTRY_BYTES_MAX:
        raise Malformed(f"the entry has {len(body)} bytes; the limit is {ENTRY_BYTES_MAX}")
    if fingerprint(body) != digest:
        raise DigestMismatch(f"the bytes under {digest[:12]} have another digest")
    try:
        found = _format_decoder.decode(body).format
        if found not in FORMATS:
            raise UnknownFormat(f"the entry has format {found}; this version reads {FORMATS}")
        return _decoder.decode(body).entry
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors, too
        raise Malformed(f"the bytes under {digest[:12]} are no entry: {error}") from error


def _canonical(value: object) -> object:
    # msgspec leaves a default out only if it is the same object: not an equal struct or number.
    if isinstance(value, msgspec.Struct):
        tag_field, tag, fields = _layout(type(value))
        said: dict[str, object] = {} if tag_field is None else {tag_field: tag}
        for field in fields:
            part: Any = getattr(value, field.name)
            if field.default is msgspec.NODEFAULT or part != field.default:
                said[field.encode_name] = _canonical(part)
        return said
    if isinstance(value, tuple):
        return [_canonical(part) for part in cast("tuple[object, ...]", value)]
    return value


@cache
def _layout(kind: type[msgspec.Struct]) -> tuple[str | None, object, tuple[FieldInfo, ...]]:
    config = kind.__struct_config__
    return config.tag_field, config.tag, msgspec.structs.fields(kind)
