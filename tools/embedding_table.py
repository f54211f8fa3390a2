"""Makes the data plane's table of word pieces from the files of a wordllama package (MIT).

    tools/embedding_table.py FOLDER

FOLDER is the installed or unpacked package: it holds ``weights/`` and ``tokenizers/``. The vectors
were trained so that their first dimensions work alone; the first 64 are kept, in a byte each.
"""

import json
import struct
import sys
from pathlib import Path

import msgspec
import numpy as np

from switchboard_dataplane.reading.embedding import FORMAT, TABLE, Table
from switchboard_dataplane.reading.pieces import PIECE_CHARS_MAX

REPO = Path(__file__).parents[1]
OUTPUT = REPO / "dataplane" / "switchboard_dataplane" / "reading" / TABLE
DIMENSIONS = 64
WORD_START = "\u2581"


def main() -> None:
    """Read both files, cut, write."""
    folder = Path(sys.argv[1])
    weights = next(folder.glob("weights/*_256.safetensors")).read_bytes()
    tokenizer = next(folder.glob("tokenizers/*.json")).read_text()
    pieces: dict[str, int] = json.loads(tokenizer)["model"]["vocab"]
    starts = {piece[1:]: row for piece, row in pieces.items() if piece.startswith(WORD_START)}
    ends = {piece: row for piece, row in pieces.items() if not piece.startswith(WORD_START)}
    kept = [
        {piece: row for piece, row in part.items() if is_read(piece)} for part in (starts, ends)
    ]
    rows = [row for part in kept for row in part.values()]
    vectors = read_matrix(weights)[rows, :DIMENSIONS]
    scale = float(np.abs(vectors).max()) / 127
    # The few longest vectors would cost the others their precision.
    scale = min(scale, 6 * float(vectors.std()) / 127)
    table = Table(
        FORMAT,
        tuple(kept[0]),
        tuple(kept[1]),
        DIMENSIONS,
        scale,
        np.clip(np.rint(vectors / scale), -127, 127).astype(np.int8).tobytes(),
    )
    OUTPUT.write_bytes(msgspec.msgpack.encode(table))
    print(f"{OUTPUT.relative_to(REPO)}: {len(rows)} pieces, {OUTPUT.stat().st_size} bytes")


def is_read(piece: str) -> bool:
    """Say whether a piece can be part of a word as the embedder cuts texts."""
    letters = piece.isalpha() and (piece.islower() or piece.istitle() or not piece.isascii())
    return 0 < len(piece) <= PIECE_CHARS_MAX and (letters or (piece.isdigit() and len(piece) == 1))


def read_matrix(data: bytes) -> np.ndarray:
    """Return the one matrix of a safetensors file: a JSON header, then raw numbers."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    (described,) = (value for name, value in header.items() if name != "__metadata__")
    first, last = described["data_offsets"]
    kind = {"F16": np.float16, "F32": np.float32}[described["dtype"]]
    raw = np.frombuffer(data[8 + size :][first:last], kind)
    return raw.reshape(described["shape"]).astype(np.float32)


if __name__ == "__main__":
    main()
