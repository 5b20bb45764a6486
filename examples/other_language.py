"""A child that knows nothing of Ductworks but its protocol: a model for other languages.

    DUCT=TICKET python other_language.py

The ticket is that of a listener, at a ``unix:`` or ``tcp:`` address. The parent sends requests,
which are JSON objects with numbers to add, and gets an answer to each, until it closes. Nothing but
the standard library is needed; docs/protocol.md says what the bytes mean.
"""

import contextlib
import hashlib
import hmac
import json
import os
import socket
import struct

HELLO, PROOF, ACCEPT, REFUSED, END, DRAIN, DRAINED, MESSAGE = 1, 2, 3, 4, 0x10, 0x11, 0x12, 0x20
LENGTHS = {HELLO: 112, PROOF: 32, ACCEPT: 0, REFUSED: 0, END: 17, DRAIN: 8, DRAINED: 16}
LIMIT = 1 << 20  # The largest message that is received here, in bytes.


def dial(address):
    scheme, _, place = address.partition(":")
    if scheme == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(place + ".v2")
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("iII", credentials)[1] != os.geteuid():
            raise PermissionError("the listener is another user")
    else:
        host, _, port = place.rpartition(":")
        sock = socket.create_connection((host.strip("[]"), int(port)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def frame(kind, payload):
    head = struct.pack("!BBHIQ", 0xD2, kind, 0, 0, len(payload))
    return (head + payload).ljust(128, b"\0")


def read(sock, count, at_start=False):
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(min(count - len(data), 65536))
        if not piece:
            raise ConnectionError("the parent died" if at_start and not data else "truncated")
        data += piece
    return bytes(data)


def read_frame(sock):
    start = read(sock, 128, at_start=True)
    magic, kind, flags, count, reserved, length = struct.unpack("!BBBBIQ", start[:16])
    fits = length <= LIMIT if kind == MESSAGE else length == LENGTHS.get(kind)
    if magic != 0xD2 or flags or count or reserved or not fits:
        raise ConnectionError(f"not a frame that can be received: {start[:16].hex()}")
    return kind, start[16 : 16 + length] + read(sock, max(length - 112, 0)), start


def proof(role, token, transcript):
    """HMAC-SHA256 under a key that HKDF-SHA256 makes of the token."""
    extracted = hmac.digest(b"ductworks v2", token, "sha256")
    key = hmac.digest(extracted, b"proofs\x01", "sha256")
    return hmac.digest(key, b"ductworks v2 " + role + transcript, "sha256")


def greet(sock, token):
    """The handshake. Returns the largest message that the parent receives."""
    codec = b"json"
    body = struct.pack("!BBHQ", 2, 1, 0, LIMIT) + os.urandom(32)
    ours = frame(HELLO, body + bytes([len(codec)]) + codec.ljust(35, b"\0") + bytes(32))
    sock.sendall(ours)
    kind, body, theirs = read_frame(sock)
    if kind != HELLO or body[:2] != b"\x02\x01":
        raise PermissionError("refused")
    binding = bytes(32)  # There is no TLS around this.
    transcript = hashlib.sha256(ours + theirs[:96] + bytes(32) + binding).digest()
    if not hmac.compare_digest(body[80:], proof(b"server", token, transcript)):
        sock.sendall(frame(REFUSED, b""))
        raise PermissionError("the listener does not know the token of this ticket")
    sock.sendall(frame(PROOF, proof(b"client", token, transcript)))
    if read_frame(sock)[0] != ACCEPT:
        raise PermissionError("refused")
    return min(LIMIT, int.from_bytes(body[4:12], "big"))


def answer(request):
    return {"sum": sum(request["add"])}


def main():
    address, _, token = os.environ.pop("DUCT").rpartition("#")
    with dial(address) as sock:
        limit = greet(sock, bytes.fromhex(token))
        received = 0
        while True:
            kind, payload, _ = read_frame(sock)
            if kind == MESSAGE:
                received += 1
                text = json.dumps(answer(json.loads(payload))).encode()
                if len(text) > limit:
                    raise ValueError("the parent does not take so large a message")
                sock.sendall(frame(MESSAGE, text))
            elif kind == DRAIN:
                sock.sendall(frame(DRAINED, payload + struct.pack("!Q", received)))
            elif kind == END:
                break
            else:
                raise ConnectionError(f"a frame of kind {kind:#04x} has no place here")
        process = int.from_bytes(os.urandom(8), "big")
        with contextlib.suppress(ConnectionError):  # A parent that only finished sending hears it.
            sock.sendall(frame(END, struct.pack("!BQQ", 0, process, received)))


if __name__ == "__main__":
    main()
