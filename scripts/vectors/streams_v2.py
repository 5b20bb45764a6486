"""What a receiver makes of bytes of version 2."""

from .streams import stream, violation
from .wire import (
    ACCEPT,
    DEFAULT_LIMIT,
    FINISH,
    MESSAGE,
    OPEN,
    PROOF,
    REFUSED,
    SHARED,
    TOKEN,
    changed,
    drain,
    drained,
    end,
    hello,
    message,
    v1_frame,
    v2_frame,
    v2_head,
)


def v2_message(payload, count=0, **more):
    meaning = {"message": payload.hex()}
    if count:
        meaning["descriptors"] = count
    return message(payload, count), {**meaning, **more}


def v2_end(flags=0, process=0x1122334455667788, received=0):
    meaning = {"control": "end", "shared": bool(flags & SHARED), "finish": bool(flags & FINISH)}
    return end(flags, process, received), {**meaning, "process": process, "received": received}


def v2_drain(number):
    return drain(number), {"control": "drain", "id": number}


def v2_drained(number, received):
    return drained(number, received), {"control": "drained", "id": number, "received": received}


def v2_hello(mode, limit, nonce, codec="", capabilities=0, proof=bytes(32)):
    fields = {"mode": ["open", "token"][mode], "capabilities": capabilities, "limit": limit}
    fields.update(nonce=nonce.hex(), codec=codec, proof=proof.hex())
    return hello(mode, limit, nonce, codec, capabilities, proof), {"control": "hello", **fields}


def v2_vectors():
    return (
        v2_messages()
        + v2_truncations()
        + v2_controls()
        + v2_descriptors()
        + v2_bad_heads()
        + v2_bad_controls()
    )


SHORT, FULL, LONG = b'"hello world"', bytes(range(112)), bytes(range(256)) + b"and more"


def v2_messages():
    short, full, longer = v2_message(SHORT), v2_message(FULL), v2_message(FULL + b"!")
    return [
        stream("nothing", "an end without a farewell: the other end died", then="died"),
        stream(
            "one message",
            "13 bytes of payload, padded to 128",
            short,
            then="died",
            cuts=[[1], [2], [8], [15], [16], [17], [28], [29], [127], [1, 2, 3, 4]],
        ),
        stream(
            "a message and a farewell",
            "the other end closed",
            short,
            v2_end(received=3),
            then="closed",
            cuts=[[127], [128], [129], [144], [255]],
        ),
        stream(
            "an empty message",
            "all of it is head and padding",
            v2_message(b""),
            v2_end(),
            then="closed",
            cuts=[[16], [127]],
        ),
        stream(
            "as much as fits beside the head",
            "112 bytes need no padding",
            full,
            v2_end(),
            then="closed",
            cuts=[[127]],
        ),
        stream(
            "one byte more than fits",
            "129 bytes, and no padding",
            longer,
            v2_end(),
            then="closed",
            cuts=[[127], [128]],
        ),
        stream(
            "every byte",
            "a payload may hold any byte, the magic one too",
            v2_message(LONG),
            short,
            v2_end(),
            then="closed",
            cuts=[[16 + 0xD2], [128], [279], [280], [281]],
        ),
        stream(
            "padding that is not of zeros",
            "a receiver does not look at that of a message",
            (changed(message(b"x"), 17, 1, 2, 0xD2), {"message": "78"}),
            v2_end(),
            then="closed",
        ),
        stream(
            "as long as the limit",
            "the limit itself is allowed",
            v2_message(bytes(16)),
            v2_end(),
            then="closed",
            limit=16,
        ),
        violation(
            "one byte over the limit",
            "refused when its 128 bytes are here",
            short,
            tail=message(bytes(17)),
            violation="too large",
            limit=16,
        ),
        violation(
            "sixteen exbibytes",
            "refused before any memory is taken for them",
            tail=v2_head(MESSAGE, (1 << 64) - 1).ljust(128, b"\0"),
            violation="too large",
            limit=DEFAULT_LIMIT,
        ),
    ]


def v2_truncations():
    short, frame, long = v2_message(SHORT), message(SHORT), message(LONG)
    places = [
        ("one byte of a head", frame[:1]),
        ("a head without its last byte", frame[:15]),
        ("a head alone", frame[:16]),
        ("a payload without its padding", frame[:29]),
        ("a frame without the last byte of its padding", frame[:127]),
        ("the first 128 bytes of a long message", long[:128]),
        ("a long message without its last byte", long[:-1]),
        ("a farewell without its last byte", end()[:-1]),
        ("a message without its carrier", message(b"file", 1)[:-1]),
    ]
    about = "an end there is a truncation"
    return [stream(name, about, short, tail=tail, then="truncated") for name, tail in places]


def v2_controls():
    short, nonce = v2_message(SHORT), bytes(range(32))
    return [
        stream("a farewell alone", "a clean end before the first message", v2_end(), then="closed"),
        stream(
            "finished, not closed",
            "the direction has ended, and the other one goes on; its sender is told without a "
            "question what was received",
            short,
            v2_end(FINISH, received=7),
            then="closed",
            replies=[drained(0, 1).hex()],
        ),
        stream(
            "the farewell of a copy",
            "another process may have one too; it is over with the stream",
            short,
            v2_end(SHARED, received=1),
            then="closed",
        ),
        stream(
            "somebody goes on",
            "messages behind the farewell of a copy are of another one, which "
            "said nothing at its end",
            v2_end(SHARED),
            short,
            then="died",
        ),
        stream(
            "everybody said farewell",
            "the last word counts",
            v2_end(SHARED, process=1),
            short,
            v2_end(SHARED, process=2),
            then="closed",
        ),
        stream("finished by a copy", "over for all copies", v2_end(SHARED | FINISH), then="closed"),
        stream(
            "a question between messages",
            "it is answered with the number of messages that were received, "
            "which is 1, before the second is",
            short,
            v2_drain(1),
            short,
            v2_end(),
            then="closed",
            replies=[drained(1, 1).hex()],
        ),
        stream(
            "two questions",
            "each with its own answer",
            v2_drain(1),
            short,
            v2_drain(2),
            v2_end(),
            then="closed",
            replies=[drained(1, 0).hex(), drained(2, 1).hex()],
        ),
        stream(
            "a late hello",
            "an open one tells the limit of an end that did not wait for one",
            v2_hello(OPEN, 1 << 20, nonce),
            short,
            v2_end(),
            then="closed",
        ),
        stream(
            "a hello with everything",
            "a token's hello has its place in the handshake only",
            v2_hello(TOKEN, (1 << 63) + 5, nonce, "abc\u00e9" + "x" * 30, 0xFFFF, bytes([9] * 32)),
            then="violation",
            violation="unexpected",
            refused_at=128,
        ),
        stream(
            "a proof between messages",
            "has its place in the handshake only",
            (v2_frame(PROOF, nonce), {"control": "proof", "proof": nonce.hex()}),
            then="violation",
            violation="unexpected",
            refused_at=128,
        ),
        stream(
            "an acceptance between messages",
            "has its place in the handshake only",
            (v2_frame(ACCEPT), {"control": "accept"}),
            then="violation",
            violation="unexpected",
            refused_at=128,
        ),
        stream(
            "a refusal between messages",
            "the other end does not go on",
            (v2_frame(REFUSED), {"control": "refused"}),
            then="violation",
            violation="refused",
            refused_at=128,
        ),
        stream(
            "an answer to no question of this receiver",
            "another process has the end too, or had it, and has asked: nothing follows from it",
            v2_drained(1, 0),
            short,
            v2_end(),
            then="closed",
        ),
    ]


def v2_descriptors():
    """The bytes; how many descriptors come with the carrier is told beside them."""
    short = v2_message(SHORT)
    return [
        stream(
            "three descriptors",
            "they come with the byte behind the frame",
            v2_message(b"files", 3),
            short,
            v2_end(),
            then="closed",
            cuts=[[127], [128], [129]],
        ),
        stream(
            "sixteen descriptors",
            "the most that there may be, behind a long message",
            v2_message(LONG, 16),
            v2_end(),
            then="closed",
            cuts=[[280], [281]],
        ),
        stream(
            "a descriptor with an empty message",
            "is allowed",
            v2_message(b"", 1),
            v2_end(),
            then="closed",
        ),
        stream(
            "fewer descriptors than announced",
            "the receiver's system had no room: the message is lost, and what follows is not",
            v2_message(b"files", 3, attached=2, lost=True),
            short,
            v2_end(),
            then="closed",
        ),
        stream(
            "more descriptors than announced",
            "closes the duct, and all of them",
            v2_message(b"files", 1, attached=2, lost=True),
            then="violation",
            violation="malformed",
            refused_at=129,
        ),
        violation(
            "seventeen descriptors",
            "refused at the count",
            tail=v2_frame(MESSAGE, b"files", count=17) + b"\0",
            refused_at=4,
            violation="malformed",
        ),
        violation(
            "a carrier that is not zero",
            "refused at that byte",
            tail=v2_frame(MESSAGE, b"files", count=1) + b"\1",
            violation="malformed",
        ),
        violation(
            "a control frame with a descriptor",
            "refused at the count",
            tail=changed(drain(1), 3, 1),
            refused_at=4,
            violation="malformed",
        ),
    ]


def v2_bad_heads():
    short = v2_message(SHORT)
    vectors = [
        violation(
            "a frame of version 1",
            "is none of version 2",
            tail=v1_frame(b"1"),
            refused_at=1,
            violation="magic",
        ),
        violation(
            "another first byte",
            "refused at that byte; nothing behind it is a message",
            short,
            tail=b"GET / HTTP/1.1\r\n\r\n" + short[0],
            refused_at=1,
            violation="magic",
        ),
        violation(
            "flags",
            "no flag has a meaning",
            tail=changed(message(b"x"), 2, 1),
            refused_at=3,
            violation="malformed",
        ),
    ]
    for place in range(4, 8):
        name = f"reserved byte {place}"
        tail = changed(message(b"x"), place, 1)
        about = "the four bytes before the length are zeros"
        more = {"refused_at": place + 1, "violation": "malformed"}
        vectors.append(violation(name, about, short, tail=tail, **more))
    for kind in [0x00, 0x05, 0x0F, 0x13, 0x1F, 0x21, 0x7F, 0xFF]:
        name, about = f"kind {kind:#04x}", "no frame has this kind; refused at that byte"
        more = {"refused_at": 2, "violation": "malformed"}
        vectors.append(violation(name, about, short, tail=v2_frame(kind, b"x"), **more))
    return vectors


def v2_bad_controls():
    greeting = hello(TOKEN, DEFAULT_LIMIT, bytes(range(32)), "json")
    bad = [
        ("a farewell with an unknown flag", changed(end(), 16, 4)),
        ("a farewell that is too long", changed(end(), 15, 18)),
        ("a farewell that is too short", changed(end(), 15, 16)),
        ("a farewell with something in its padding", changed(end(), 127, 1)),
        ("a drain request of another length", changed(drain(1), 15, 9)),
        ("a drain answer with something in its padding", changed(drained(1, 1), 32, 1)),
        ("a proof that is too short", changed(v2_frame(PROOF, bytes(32)), 15, 31)),
        ("an acceptance with a payload", v2_frame(ACCEPT, b"x")),
        ("a refusal with a length of 2^56", changed(v2_frame(REFUSED), 8, 1)),
        ("a hello of version 3", changed(greeting, 16, 3)),
        ("a hello of version 1", changed(greeting, 16, 1)),
        ("a hello of mode 2", changed(greeting, 17, 2)),
        ("a hello with a codec of 36 bytes", changed(greeting, 60, 36)),
        ("a hello with a codec that is not UTF-8", changed(greeting, 61, 0xFF)),
        ("a hello with something behind its codec", changed(greeting, 65, 0x78)),
        ("a hello that is too short", changed(greeting, 15, 111)),
    ]
    about = "refused when its 128 bytes are here"
    return [violation(name, about, tail=tail, violation="malformed") for name, tail in bad]
