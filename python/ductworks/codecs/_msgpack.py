"""MessagePack by msgspec.

Of the libraries for Python: msgspec keeps maps with keys of any kind and times with a zone, and it
checks types while it decodes, which the others cannot; ormsgpack, about as fast, refuses keys that
are not strings unless told otherwise and turns every time into a string; msgpack takes about twice
as long. All three refuse ints over 64 bits, nest no deeper than the interpreter does, and claim no
memory for lengths that are only announced. docs/codecs.md compares them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ductworks.codecs._faults import malformed

encode = msgspec.msgpack.Encoder().encode

_decode = msgspec.msgpack.Decoder().decode


def decode(data: bytes) -> Any:
    """Make a value of a message.

    :raises DecodeError: if the bytes are not MessagePack.
    """
    try:
        return _decode(data)
    except MemoryError:
        raise
    except Exception as error:
        raise malformed("msgpack", error) from error
