"""The other process of test_offsets.py: has honest conversations, and is killed at a byte of each.

It reads a line of JSON for each, forks, and the fork talks through a relay of its own, which kills
it once it has passed on, or read, so many bytes.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading

import ductworks
from support import RAW, TRANSPORTS

MESSAGES = [b"ping", b"", bytes(number * 37 % 251 for number in range(2100))]


def converse(duct):
    for message in MESSAGES:
        duct.send(message)
        assert duct.recv() == message
    duct.close()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def pass_on(source, target, most, the_last_too):
    """Pass bytes on until it is time to die: when the last one has been passed on, or read."""
    left = most
    while left > 0:
        piece = source.recv(min(left, 4096))
        if not piece:
            return
        left -= len(piece)
        if left or the_last_too:
            target.sendall(piece)
    die()


def dial(address, suffix):
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address + suffix)
    else:
        sock = socket.create_connection(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def listen(transport, place, suffix):
    """A plain listener, and the address that it is to be known by."""
    listener = socket.socket(transport.family)
    if transport.name == "tcp":
        listener.bind(("127.0.0.1", 0))
        address = list(listener.getsockname())
    else:
        address = os.path.join(place, "relay")
        listener.bind(address + suffix)
    listener.listen()
    return listener, address


def play(case, place):
    api, transport, suffix = case["api"], TRANSPORTS[case["transport"]], case["suffix"]
    v1 = {"v1": True} if case["api"] == "v1" else {}
    relay, detour = listen(transport, place, suffix)
    text = f"unix:{detour}" if isinstance(detour, str) else "tcp:{}:{}".format(*detour)
    token = case.get("token", "")
    if case["role"] == "child":

        def honest():
            if api == "module":
                duct = transport.child(detour, **RAW)
                duct.connect()
            else:
                duct = ductworks.connect(text + token, codec="raw", **v1)
            converse(duct)

        threading.Thread(target=honest).start()
        near, _ = relay.accept()
        far = dial(case["address"], suffix)
    else:
        if api == "module":
            parent = transport.parent(**RAW)
            parent.bind()
            here = parent.listener_address
        else:
            where = "tcp:127.0.0.1:0" if transport.name == "tcp" else None
            parent = ductworks.listen(where, codec="raw", **v1)
            kind, _, here = parent.address.partition(":")
            here = here if kind == "unix" else here.split(":")
            token = parent.ticket[len(parent.address) :]

        def honest():
            if api == "module":
                parent.listen()
                converse(parent)
            else:
                converse(parent.accept())

        threading.Thread(target=honest).start()
        print(json.dumps([detour, text + token]), flush=True)
        far, _ = relay.accept()
        near = dial(here, suffix)
    most = {"written": sys.maxsize, "read": sys.maxsize, case["way"]: case["count"]}
    threading.Thread(target=pass_on, args=(far, near, most["read"], False)).start()
    pass_on(near, far, most["written"], True)
    die()  # It has said farewell, and is killed nevertheless.


def main():
    print("ready", flush=True)
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as place:
            os.environ["XDG_RUNTIME_DIR"] = place  # Whatever it leaves goes with this.
            process_id = os.fork()
            if process_id == 0:
                with contextlib.suppress(BaseException):
                    play(json.loads(line), place)
                os._exit(1)
            _, status = os.waitpid(process_id, 0)
        print("killed" if os.WIFSIGNALED(status) else f"status {status}", flush=True)


if __name__ == "__main__":
    main()
