"""Writes the test vectors of the protocol: ``python3 scripts/make-vectors.py``.

They come from a second implementation of docs/protocol.md and docs/handshake.md, in the folder
``vectors`` beside this file, which shares nothing with the library. It needs Python 3.9 and its
standard library, and gives the same bytes every time. With ``--check`` nothing is written, and it
fails if the files in docs/vectors are not what it would write.
"""

import json
import sys
from pathlib import Path

from vectors.handshakes import handshake_vectors
from vectors.streams import v1_vectors
from vectors.streams_v2 import v2_vectors
from vectors.tickets import ticket_vectors

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "vectors"


def files():
    """The text of each file, by its name."""
    subjects = {
        "v1-frames.json": ("Frames of version 1", v1_vectors()),
        "v2-frames.json": ("Frames of version 2", v2_vectors()),
        "handshake.json": ("Handshakes of version 2", handshake_vectors()),
        "tickets.json": ("Addresses and tickets", ticket_vectors()),
    }
    texts = {}
    for name, (title, vectors) in subjects.items():
        content = {"title": title, "schema": "docs/vectors/README.md", "vectors": vectors}
        texts[name] = json.dumps(content, indent=1, ensure_ascii=True) + "\n"
    return texts


def main(arguments):
    if arguments not in ([], ["--check"]):
        raise SystemExit(__doc__)
    stale = []
    for name, text in files().items():
        path = FOLDER / name
        if not arguments:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(name)
    if stale:
        raise SystemExit(f"not what this script writes: {', '.join(stale)}")


if __name__ == "__main__":
    main(sys.argv[1:])
