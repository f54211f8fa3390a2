"""A learned router as bytes: coefficients and a vocabulary, never prompts; named by its digest.

ArtifactRefused is raised for bytes that are none: they may come from anybody who can write where
a policy points to.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from switchboard_dataplane.choosing.context import CONTEXT
from switchboard_dataplane.choosing.features import BENDS, Bends, Floats, Vocabulary
from switchboard_dataplane.reading.lexical import FEATURES
from switchboard_dataplane.signals.bandit import Sums, SumsRefused, unpack

FORMAT: Final = 1
BYTES_MAX: Final = 16 * 1024 * 1024
WORDS_MAX: Final = 100_000
PAIRS_MAX: Final = 200_000
WORD_CHARS_MAX: Final = 64
TARGETS_MAX: Final = 64
#: Far above any that a fit comes to; a sum of them stays finite.
COEFFICIENT_MAX: Final = 1e4


class ArtifactRefused(Exception):
    """The bytes are no router that this version can run; the text says why."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One set that a router was fitted on, and the digest of its rows."""

    name: str
    rows: int
    digest: str


class Rated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the ratings of a target add up to, over a request's context: ``bandit.Sums``, packed."""

    target: str
    sums: bytes


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is stored. Arrays are little-endian bytes: float16, places of words int32.

    ``coefficients`` are (words + pairs, targets), ``bent`` (numbers of ``Bends``, targets).
    ``rated`` is what a bandit begins with, over the features that ``context`` names.
    """

    format: int
    sources: tuple[Source, ...]
    targets: tuple[str, ...]
    features: tuple[str, ...]
    words: tuple[str, ...]
    pairs: bytes
    rarity: bytes
    coefficients: bytes
    knots: bytes
    means: bytes
    scales: bytes
    bent: bytes
    intercepts: tuple[float, ...]
    context: tuple[str, ...] = ()
    rated: tuple[Rated, ...] = ()


class Fit(msgspec.Struct, frozen=True):
    """A router's numbers, ready to multiply."""

    targets: tuple[str, ...]
    vocabulary: Vocabulary
    coefficients: Floats
    bends: Bends
    bent: Floats
    intercepts: Floats
    rated: Mapping[str, Sums] = {}


def digest_of(data: bytes) -> str:
    """Return the name of an artifact: ``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encode_artifact(artifact: Artifact) -> bytes:
    """Return the bytes of an artifact; the same artifact gives the same bytes."""
    return msgspec.msgpack.encode(artifact)


def halves(array: NDArray[np.floating]) -> bytes:
    """Return numbers as an artifact stores them."""
    return np.ascontiguousarray(array, "<f2").tobytes()


def decode_artifact(data: bytes) -> Artifact:
    """Read bytes that nobody vouches for; raises ArtifactRefused."""
    if len(data) > BYTES_MAX:
        raise ArtifactRefused(f"{len(data)} bytes: at most {BYTES_MAX} are read")
    try:
        artifact = msgspec.msgpack.decode(data, type=Artifact)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ArtifactRefused(f"no artifact of a router: {error}") from error
    if artifact.format != FORMAT:
        raise ArtifactRefused(f"format {artifact.format}: this version reads {FORMAT}")
    if artifact.features != FEATURES:
        raise ArtifactRefused("it was fitted on other lexical features than this version reads")
    _check_names(artifact)
    return artifact


def _check_names(artifact: Artifact) -> None:
    targets, words = artifact.targets, artifact.words
    if not 1 <= len(targets) <= TARGETS_MAX or len(set(targets)) != len(targets):
        raise ArtifactRefused(f"targets: 1 to {TARGETS_MAX} different names")
    if len(words) > WORDS_MAX or len(set(words)) != len(words):
        raise ArtifactRefused(f"words: at most {WORDS_MAX}, all different")
    if any(not 1 <= len(word) <= WORD_CHARS_MAX for word in words):
        raise ArtifactRefused(f"words: 1 to {WORD_CHARS_MAX} characters")
    if len(artifact.intercepts) != len(targets):
        raise ArtifactRefused("intercepts: one for each target")
    if artifact.rated and artifact.context != CONTEXT:
        raise ArtifactRefused("its ratings are over another context than this version reads")
    rated = [one.target for one in artifact.rated]
    if len(set(rated)) != len(rated) or not set(rated) <= set(targets):
        raise ArtifactRefused("rated: targets, each once")


def open_artifact(artifact: Artifact) -> Fit:
    """Check an artifact's arrays and make them ready; raises ArtifactRefused."""
    words, targets = len(artifact.words), len(artifact.targets)
    pairs = _pairs(artifact.pairs, words)
    terms = words + len(pairs)
    numbers = (1 + BENDS) * len(artifact.features)
    rarity = _floats("rarity", artifact.rarity, terms)
    scales = _floats("scales", artifact.scales, numbers)
    if rarity.min(initial=1.0) <= 0 or scales.min(initial=1.0) <= 0:
        raise ArtifactRefused("rarity, scales: above 0")
    intercepts = np.array(artifact.intercepts)
    if not np.isfinite(intercepts).all() or np.abs(intercepts).max() > COEFFICIENT_MAX:
        raise ArtifactRefused("intercepts: finite")
    return Fit(
        artifact.targets,
        Vocabulary(artifact.words, pairs, rarity),
        _floats("coefficients", artifact.coefficients, terms, targets),
        Bends(
            _floats("knots", artifact.knots, BENDS, len(artifact.features)),
            _floats("means", artifact.means, numbers),
            scales,
        ),
        _floats("bent", artifact.bent, numbers, targets),
        intercepts.astype(np.float32),
        {one.target: _sums(one) for one in artifact.rated},
    )


def _sums(rated: Rated) -> Sums:
    try:
        # Beside the context stands what the router expected.
        return unpack(rated.sums, len(CONTEXT) + 1)
    except SumsRefused as error:
        raise ArtifactRefused(f"rated: {rated.target}: {error}") from error


def _pairs(data: bytes, words: int) -> NDArray[np.int64]:
    if len(data) % 8 or len(data) > 8 * PAIRS_MAX:
        raise ArtifactRefused(f"pairs: at most {PAIRS_MAX}, of 8 bytes each")
    pairs = np.frombuffer(data, "<i4").reshape(-1, 2).astype(np.int64)
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= words):
        raise ArtifactRefused("pairs: places of words")
    if len(np.unique(pairs, axis=0)) != len(pairs):
        raise ArtifactRefused("pairs: all different")
    return pairs


def _floats(name: str, data: bytes, *shape: int) -> Floats:
    wanted = 2 * int(np.prod(shape))
    if len(data) != wanted:
        raise ArtifactRefused(f"{name}: {len(data)} bytes, not {wanted}")
    floats = np.frombuffer(data, "<f2").astype(np.float32).reshape(shape)
    if not np.isfinite(floats).all() or np.abs(floats).max(initial=0.0) > COEFFICIENT_MAX:
        raise ArtifactRefused(f"{name}: finite numbers of at most {COEFFICIENT_MAX:g}")
    return floats
