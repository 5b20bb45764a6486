"""What a receiver makes of bytes: how that is told, and of version 1."""

from .wire import DEFAULT_LIMIT, message, v1_frame


def stream(name, about, *frames, then, tail=b"", cuts=(), **more):
    """Bytes that are received: whole frames, and a tail that is none."""
    data, listed = b"", []
    for raw, meaning in frames:
        data += raw
        listed.append({**meaning, "ends_at": len(data)})
    data += tail
    vector = {"name": name, "about": about, "hex": data.hex(), "frames": listed, "then": then}
    return {**vector, "cuts": [list(cut) for cut in cuts], **more}


def violation(name, about, *frames, tail, violation, refused_at=None, **more):
    """The tail breaks the protocol, at the byte that is told, counted from the tail's beginning."""
    before = sum(len(raw) for raw, _ in frames)
    refused_at = before + (len(tail) if refused_at is None else refused_at)
    more = {"violation": violation, "refused_at": refused_at, **more}
    return stream(name, about, *frames, then="violation", tail=tail, **more)


def v1_message(payload):
    return v1_frame(payload), {"message": payload.hex()}


def v1_vectors():
    hello_world = v1_message(b'"hello world"')
    empty, long = v1_message(b""), v1_message(bytes(range(256)) + b"and more")
    return [
        stream("nothing", "an end before the first message", then="closed"),
        stream(
            "one message",
            "a string in JSON, 13 bytes",
            hello_world,
            then="closed",
            cuts=[[1], [4], [5], [6], [17], [1, 2, 3, 4, 5]],
        ),
        stream("an empty message", "five bytes are a message", empty, then="closed", cuts=[[4]]),
        stream(
            "three messages",
            "with nothing between them",
            hello_world,
            empty,
            hello_world,
            then="closed",
            cuts=[[18], [17, 19], [20, 22, 24]],
        ),
        stream(
            "every byte",
            "a payload may hold any byte, the magic one too",
            long,
            hello_world,
            then="closed",
            cuts=[[5 + 0x54], [5 + 0x55], [269], [270]],
        ),
        stream(
            "a head without its last byte",
            "an end there is a truncation",
            hello_world,
            tail=b"\x54\0\0\0",
            then="truncated",
        ),
        stream(
            "one byte of a head", "an end there is a truncation", tail=b"\x54", then="truncated"
        ),
        stream(
            "a head alone",
            "of a message of which nothing came",
            tail=b"\x54\0\0\0\x02",
            then="truncated",
        ),
        stream(
            "a payload without its last byte",
            "an end there is a truncation",
            hello_world,
            tail=v1_frame(b"truncated")[:-1],
            then="truncated",
        ),
        stream(
            "as long as the limit",
            "the limit itself is allowed",
            v1_message(bytes(16)),
            then="closed",
            limit=16,
        ),
        violation(
            "one byte over the limit",
            "refused when its head is here, whatever follows",
            hello_world,
            tail=v1_frame(bytes(17)),
            refused_at=5,
            violation="too large",
            limit=16,
        ),
        violation(
            "four gibibytes",
            "refused before any memory is taken for them",
            tail=b"\x54\xff\xff\xff\xff",
            violation="too large",
            limit=DEFAULT_LIMIT,
        ),
        violation(
            "another first byte",
            "refused at that byte; nothing behind it is a message",
            hello_world,
            tail=b"GET / HTTP/1.1\r\n\r\n" + hello_world[0],
            refused_at=1,
            violation="magic",
        ),
        violation(
            "a frame of version 2",
            "is none of version 1",
            tail=message(b"2"),
            refused_at=1,
            violation="magic",
        ),
    ]
