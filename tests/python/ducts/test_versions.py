"""Which version of the protocol is spoken: 1 with the original from PyPI, in either role, which
never sees a byte of anything else; 2 between two of ours. What tells is the name or the API, never
time."""

import contextlib
import itertools
import json
import os
import socket
import struct

import ductworks
import pytest
from support import HELPERS, PATIENCE, TRANSPORTS, Background, eventually

ECHO = HELPERS / "echo_peer.py"
UNIX, TCP = TRANSPORTS["unix"], TRANSPORTS["tcp"]
DOCUMENTS = [1, None, "", {"a": [1.5, "é"]}, "x" * 100_000, []]


# The two APIs of ours, which a test treats alike


class Module:
    """The original's API."""

    @staticmethod
    def parent(transport):
        parent = transport.parent()
        parent.bind()
        return parent

    @staticmethod
    def address(parent):
        return parent.listener_address

    @staticmethod
    def listen(parent):
        assert parent.listen(PATIENCE)
        return parent

    @staticmethod
    def connect(transport, address):
        duct = transport.child(address)
        duct.connect()
        return duct


class Modern:
    """The modern API."""

    @staticmethod
    def parent(transport):
        return ductworks.listen("tcp:127.0.0.1:0" if transport is TCP else None, v1=True)

    @staticmethod
    def address(parent):
        kind, _, rest = parent.address.partition(":")
        if kind == "unix":
            return rest
        host, port = rest.split(":")
        return [host, int(port)]

    @staticmethod
    def listen(parent):
        with parent:
            return parent.accept(PATIENCE)

    @staticmethod
    def connect(transport, address):
        if transport is TCP:
            return ductworks.connect(tuple(address), v1=True)
        return ductworks.connect(address)


@pytest.fixture(params=[Module, Modern], ids=["module", "modern"])
def ours(request):
    return request.param


# Listening in


class Relay:
    """Listens beside a parent, at each of its names, passes on what is said, and keeps it."""

    def __init__(self, transport, parent_address, place):
        self.said = {"child": bytearray(), "parent": bytearray()}
        self.names = []  # at which somebody came: "" or ".v2"
        self._sockets = []
        self._threads = []
        if transport is UNIX:
            self.address = str(place / "relay")
            suffixes = [end for end in (".v2", "") if os.path.exists(parent_address + end)]
        else:
            suffixes = [""]
        for suffix in suffixes:
            listener = socket.socket(transport.family)
            if transport is UNIX:
                listener.bind(self.address + suffix)
                target = parent_address + suffix
            else:
                listener.bind(("127.0.0.1", 0))
                self.address, target = list(listener.getsockname()), tuple(parent_address)
            listener.listen()
            self._sockets.append(listener)
            self._run(self._admit, listener, target, suffix)

    def _run(self, *call):
        self._threads.append(Background(*call))

    def _admit(self, listener, target, suffix):
        try:
            near, _ = listener.accept()
        except OSError:
            return  # It was closed, and nobody had come by this name.
        self.names.append(suffix)
        far = socket.socket(listener.family)
        self._sockets += [near, far]
        far.connect(target)
        self._run(self._pass_on, near, far, self.said["child"])
        self._run(self._pass_on, far, near, self.said["parent"])

    def _pass_on(self, source, target, record):
        with contextlib.suppress(OSError):
            while True:
                piece = source.recv(65536)
                record += piece
                if not piece:
                    break
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self):
        """Everything has been said: both ends are closed."""
        for sock in self._sockets:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.result()
        for sock in self._sockets:
            sock.close()


def payloads_of_v1(stream):
    """The payloads of a stream that holds whole messages of version 1 and nothing else."""
    payloads = []
    while stream:
        assert stream[:1] == b"\x54", bytes(stream[:16])
        (length,) = struct.unpack_from("!L", stream, 1)
        assert len(stream) >= 5 + length
        payloads.append(bytes(stream[5 : 5 + length]))
        stream = stream[5 + length :]
    return payloads


def converse_with_an_echo(duct):
    for document in DOCUMENTS:
        sender = Background(duct.send, document)
        assert duct.recv() == document
        sender.result()
    duct.send("stop")


@pytest.mark.parametrize(
    ("ours", "ending"),
    [(Module, "close"), (Modern, "close"), (Modern, "finish")],
    ids=["module", "modern", "modern-finish"],
)
def test_the_original_never_sees_a_byte_that_is_not_version_1(
    start_python, original_python, transport, role, ours, ending, tmp_path
):
    if role == "child":
        parent = ours.parent(transport)
        relay = Relay(transport, ours.address(parent), tmp_path)
        peer = start_python(
            ECHO, role, transport.name, "json", json.dumps(relay.address), python=original_python
        )
        duct = ours.listen(parent)
    else:
        peer = start_python(ECHO, role, transport.name, "json", python=original_python)
        relay = Relay(transport, json.loads(peer.hear()), tmp_path)
        duct = ours.connect(transport, relay.address)
    converse_with_an_echo(duct)
    if ours is Modern:
        assert duct.protocol == 1
        with pytest.raises(ValueError, match="version 1"):
            duct.drain(PATIENCE)
    if ending == "finish":
        duct.finish()
    duct.close()
    assert peer.finish() == "clean end\n"
    relay.close()
    assert relay.names == [""]
    us, them = ("parent", "child") if role == "child" else ("child", "parent")
    said = [json.loads(payload) for payload in payloads_of_v1(relay.said[us])]
    answered = [json.loads(payload) for payload in payloads_of_v1(relay.said[them])]
    assert said == [*DOCUMENTS, "stop"]
    assert answered == DOCUMENTS


# Both kinds of child race for one parent

RACER = """
import json, sys
from ductworks import base_duct, message_duct

def give_up(seconds):
    raise LookupError("nobody listens there any more")

base_duct.time.sleep = give_up  # Both would try again, the original for ever.
print("ready", flush=True)
for line in sys.stdin:
    duct = message_duct.MessageDuctChild.psuedo_anonymous_child_duct(json.loads(line))
    try:
        duct.connect()
        told = duct.recv()
        duct.send(told)
    except Exception as error:
        print("out", type(error).__name__, error, flush=True)
    else:
        print("in", told, flush=True)
    finally:
        duct.close()
"""

MODERN_RACER = """
import json, sys
import ductworks

print("ready", flush=True)
for line in sys.stdin:
    try:
        with ductworks.connect(json.loads(line), timeout=0) as duct:
            told = duct.recv()
            duct.send(told)
    except Exception as error:
        print("out", type(error).__name__, error, flush=True)
    else:
        print("in", told, flush=True)
"""

# What a child may be told that comes too late: there is no such name, nobody listens, or somebody
# listened but has taken the other one.
REASONS = {
    "LookupError",
    "FileNotFoundError",
    "ConnectionRefusedError",
    "ConnectionResetError",
    "BrokenPipeError",
    "EOFError",
    "RemoteDuctClosed",
    "RemoteDuctDied",
    "RemoteDuctReset",
}


@pytest.mark.parametrize("racer", [RACER, MODERN_RACER], ids=["module", "modern"])
def test_of_both_kinds_of_child_that_race_for_a_parent_exactly_one_gets_in(
    start_python, original_python, ours, racer
):
    original, own = start_python(RACER, python=original_python), start_python(racer)
    for child in (original, own):
        assert child.hear() == "ready"
    winners = set()
    for number in range(40):
        parent = ours.parent(UNIX)
        address = json.dumps(ours.address(parent))
        children = [original, own] if number % 2 else [own, original]
        children[0].say(address)
        if number >= 2:  # In the first two rounds the other one is too late for sure.
            children[1].say(address)
        with contextlib.closing(ours.listen(parent)) as duct:
            if number < 2:
                children[1].say(address)
            duct.send(number)
            assert duct.recv() == number
        results = {child: child.hear().split(" ", 2) for child in children}
        (winner,) = [child for child in children if results[child][0] == "in"]
        (loser,) = [child for child in children if child is not winner]
        assert results[winner] == ["in", str(number)]
        assert results[loser][0] == "out"
        assert results[loser][1] in REASONS
        winners.add(winner)
    assert winners == {original, own}


# Between two of ours


@pytest.mark.parametrize("child", [Module, Modern], ids=["module-child", "modern-child"])
def test_two_of_ours_always_speak_version_2_at_a_unix_address(ours, child, tmp_path):
    for number in range(50):
        parent = ours.parent(UNIX)
        place = tmp_path / str(number)
        place.mkdir()
        relay = Relay(UNIX, ours.address(parent), place)
        connecting = Background(child.connect, UNIX, relay.address)
        ends = [ours.listen(parent), connecting.result()]
        for sender, receiver in itertools.permutations(ends):
            sender.send(number)
            assert receiver.recv() == number
        for end in ends:
            assert getattr(end, "protocol", 2) == 2
            end.close()
        relay.close()
        assert relay.names == [".v2"]
        for said in relay.said.values():
            # Whole frames of version 2: a hello, the number, and the farewell of an orderly end.
            assert len(said) == 3 * 128
            kinds = [said[start : start + 2].hex() for start in range(0, len(said), 128)]
            assert kinds == ["d201", "d220", "d210"]


def test_the_api_decides_over_tcp(tmp_path):
    def first_bytes(parent, ticket, **options):
        host, port = parent.address.partition(":")[2].split(":")
        relay = Relay(TCP, [host, int(port)], tmp_path)
        where = ticket.replace(f":{port}", f":{relay.address[1]}")
        connecting = Background(lambda: ductworks.connect(where, **options))
        with parent.accept(PATIENCE) as accepted, connecting.result() as connected:
            connected.send(1)
            assert accepted.recv() == 1
            accepted.send(2)
            assert connected.recv() == 2
            protocols = [accepted.protocol, connected.protocol]
        relay.close()
        return protocols, {bytes(said[:1]) for said in relay.said.values()}

    for _ in range(50):
        with ductworks.listen("tcp:127.0.0.1:0", v1=True) as parent:
            assert first_bytes(parent, parent.address, v1=True) == ([1, 1], {b"\x54"})
        with ductworks.listen("tcp:127.0.0.1:0") as parent:
            assert first_bytes(parent, parent.ticket) == ([2, 2], {b"\xd2"})
        # The original's API has one wire there, the original's.
        with contextlib.closing(TCP.parent()) as parent:
            parent.bind()
            with ductworks.connect(tuple(parent.listener_address), v1=True) as child:
                assert parent.listen(PATIENCE)
                child.send("as the original")
                assert parent.recv() == "as the original"
                assert child.protocol == 1


def test_versions_that_do_not_fit_over_tcp_are_told_at_both_ends(caplog):
    with ductworks.listen("tcp:127.0.0.1:0") as parent:
        accepting = Background(parent.accept, PATIENCE)
        with ductworks.connect(parent.address, v1=True) as child:
            child.send("hello")
            with pytest.raises(ductworks.PeerClosed):
                child.recv(PATIENCE)
        eventually(lambda: "0x54" in caplog.text, "the log of the refusal")
        honest = ductworks.connect(parent.ticket)
        accepting.result().close()
        honest.close()
    with ductworks.listen("tcp:127.0.0.1:0", v1=True) as parent:
        connecting = Background(ductworks.connect, parent.address)
        with parent.accept(PATIENCE) as duct:
            with pytest.raises(ductworks.ProtocolError, match="0xd2"):
                duct.recv(PATIENCE)
        with pytest.raises(ConnectionResetError, match="went away before it accepted"):
            connecting.result()


def test_a_child_that_did_not_wait_is_told_of_its_refusal():
    with ductworks.listen() as listener:
        child = UNIX.child(Modern.address(listener))
        child.connect()
        child.send("nobody receives this")
        with pytest.raises(TimeoutError):
            listener.accept(0.05)
        with pytest.raises(PermissionError):
            child.recv()
        child.close()
