"""Embeddings by hash: the same text has the same unit vector everywhere. Pure."""

import base64
import hashlib
import math
import struct
from collections.abc import Sequence

import orjson

_BYTES_PER_NUMBER = 4
_HALF_RANGE = 2**31


def embed(text: str, dimensions: int) -> list[float]:
    """Return the unit vector of a text."""
    digest = hashlib.shake_256(text.encode()).digest(dimensions * _BYTES_PER_NUMBER)
    numbers = [number / _HALF_RANGE for number in struct.unpack(f"<{dimensions}i", digest)]
    length = math.hypot(*numbers) or 1.0
    return [number / length for number in numbers]


def render_embeddings(
    texts: Sequence[str], *, model: str, dimensions: int, in_base64: bool, prompt_tokens: int
) -> bytes:
    """Return the JSON body with one vector a text; base64 holds little-endian float32."""
    vectors = [embed(text, dimensions) for text in texts]
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _to_base64(vector) if in_base64 else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage})


def _to_base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
