"""A second implementation of docs/protocol.md and docs/handshake.md: frames, and the proofs.

It shares nothing with the library, and needs Python 3.9 and its standard library only.
"""

import hashlib
import hmac
import struct

DEFAULT_LIMIT = 64 << 20

# Version 1


def v1_frame(payload):
    return b"\x54" + struct.pack("!L", len(payload)) + payload


# Version 2

HELLO, PROOF, ACCEPT, REFUSED, END, DRAIN, DRAINED, MESSAGE = 1, 2, 3, 4, 0x10, 0x11, 0x12, 0x20
SHARED, FINISH = 1, 2
OPEN, TOKEN = 0, 1
DESCRIPTORS = 0x0001


def v2_head(kind, length, flags=0, count=0, reserved=bytes(4)):
    return bytes([0xD2, kind, flags, count]) + reserved + struct.pack("!Q", length)


def v2_frame(kind, payload=b"", **head):
    """A frame of at least 128 bytes."""
    return (v2_head(kind, len(payload), **head) + payload).ljust(128, b"\0")


def message(payload, count=0):
    """A message, with the carrier behind it where descriptors come with it."""
    return v2_frame(MESSAGE, payload, count=count) + (b"\0" if count else b"")


def end(flags=0, process=0, received=0):
    return v2_frame(END, struct.pack("!BQQ", flags, process, received))


def drain(number):
    return v2_frame(DRAIN, struct.pack("!Q", number))


def drained(number, received):
    return v2_frame(DRAINED, struct.pack("!QQ", number, received))


def hello(mode, limit, nonce, codec="", capabilities=0, proof=bytes(32), version=2):
    name = codec.encode()
    body = struct.pack("!BBHQ", version, mode, capabilities, limit) + nonce
    body += bytes([len(name)]) + name.ljust(35, b"\0") + proof
    return v2_frame(HELLO, body)


def changed(frame, place, *values):
    return frame[:place] + bytes(values) + frame[place + len(values) :]


# The handshake


def hkdf_sha256(secret, salt, info):
    """RFC 5869, for 32 bytes: one block of the expansion."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def key_of(token):
    return hkdf_sha256(token, salt=b"ductworks v2", info=b"proofs")


def without_proof(server_hello):
    return server_hello[:96] + bytes(32)


def transcript(client_hello, server_hello, binding=bytes(32)):
    """The hash of what the two have said so far, and of the session of TLS around it."""
    return hashlib.sha256(client_hello + without_proof(server_hello) + binding).digest()


def proof_of(role, token, client_hello, server_hello, binding=bytes(32)):
    """The role is "client" or "server"."""
    said = transcript(client_hello, server_hello, binding)
    return hmac.digest(key_of(token), b"ductworks v2 " + role.encode() + said, "sha256")


def proved(server_hello, token, client_hello, binding=bytes(32)):
    """The server's hello with its proof in it."""
    proof = proof_of("server", token, client_hello, server_hello, binding)
    return server_hello[:96] + proof
