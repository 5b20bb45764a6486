"""The vectors in docs/vectors, over real sockets: a plain socket plays the other end to a duct."""

import contextlib
import errno
import os
import socket
import struct
import subprocess
import sys

import ductworks
import pytest
from support import PATIENCE, read_exactly, read_to_end
from vector_files import SCRIPT, make_vectors, vectors, wire

# What a duct of ours bears that speaks version 2 over a Unix socket; see docs/protocol.md.
MARK_OF_V2 = struct.pack("ii", 1, 73021)


def parameters(*names):
    return [
        pytest.param(name, vector, id=f"{name[:2]}-{vector['name']}")
        for name in names
        for vector in vectors(name)
    ]


FRAMES = parameters("v1-frames.json", "v2-frames.json")


def test_the_files_are_what_the_second_implementation_writes():
    subprocess.run([sys.executable, str(SCRIPT), "--check"], check=True)
    texts = make_vectors.files()
    assert texts == {name: (make_vectors.FOLDER / name).read_text() for name in texts}
    for name in texts:
        names = [vector["name"] for vector in vectors(name)]
        assert len(set(names)) == len(names) > 10, name


# Frames


@contextlib.contextmanager
def duct_and_peer(file, limit=64 << 20):
    peer, ours = socket.socketpair()
    peer.settimeout(PATIENCE)
    if file.startswith("v2"):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, MARK_OF_V2)
    with peer, ductworks.Duct(ours.detach(), "raw", max_message_size=limit) as duct:
        assert duct.protocol == int(file[1])
        yield duct, peer


def write(peer, data, start, vector):
    """Writes data, which begins at an offset of the vector's, with descriptors at their places."""
    written = 0
    for frame in vector["frames"]:
        carrier = frame["ends_at"] - 1 - start
        if "descriptors" in frame and written <= carrier < len(data):
            peer.sendall(data[written:carrier])
            count = frame.get("attached", frame["descriptors"])
            with open(os.devnull) as file:
                rights = struct.pack(f"{count}i", *[file.fileno()] * count)
                attached = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                assert peer.sendmsg([data[carrier : carrier + 1]], attached) == 1
            written = carrier + 1
    peer.sendall(data[written:])


def receive(duct, timeout):
    """One message, and how many descriptors came with it."""
    if duct.protocol == 1:
        return bytes(duct.recv_bytes(timeout)), 0
    try:
        message, descriptors = duct.recv_fds(timeout)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        return "lost"
    for descriptor in descriptors:
        os.close(descriptor)
    return bytes(message), len(descriptors)


def receive_what_is_here(duct, received):
    with contextlib.suppress(BlockingIOError, TimeoutError):
        while True:
            received.append(receive(duct, 0))


def the_end(duct):
    """The rest of the messages, and in a vector's word what comes behind them."""
    received = []
    while True:
        try:
            received.append(receive(duct, PATIENCE))
        except ductworks.PeerTruncated:
            return received, "truncated"
        except ductworks.PeerDied:
            return received, "died"
        except ductworks.PeerClosed:
            return received, "closed"
        except (ductworks.ProtocolError, PermissionError):
            assert duct.closed
            return received, "violation"


def expected(file, vector, length):
    """What a duct makes of so many of a vector's bytes, and the end."""
    received, farewell, whole = [], file.startswith("v1"), length == 0
    broken = vector.get("refused_at", length + 1) <= length
    for frame in vector["frames"]:
        if frame["ends_at"] > length:
            break
        whole = whole or frame["ends_at"] == length
        if "message" in frame:
            farewell = file.startswith("v1")
            message = bytes.fromhex(frame["message"]), frame.get("descriptors", 0)
            if not frame.get("lost"):
                received.append(message)
            elif not broken:
                received.append("lost")
        elif frame["control"] == "end":
            farewell = True
    if broken:
        return received, "violation"
    return received, "truncated" if not whole else "closed" if farewell else "died"


@pytest.mark.parametrize(("file", "vector"), FRAMES)
def test_a_duct_makes_of_bytes_what_the_vectors_say(file, vector):
    data = bytes.fromhex(vector["hex"])
    messages, then = expected(file, vector, len(data))
    assert then == vector["then"]
    everywhere = range(1, len(data))
    for cuts in [[], *vector["cuts"], everywhere]:
        with duct_and_peer(file, vector.get("limit", 64 << 20)) as (duct, peer):
            received = []
            edges = [0, *cuts, len(data)]
            for start, end in zip(edges, edges[1:]):
                write(peer, data[start:end], start, vector)
                try:
                    receive_what_is_here(duct, received)
                except (ductworks.ProtocolError, PermissionError):
                    break
            peer.shutdown(socket.SHUT_WR)
            rest, end = the_end(duct)
            assert (received + rest, end) == (messages, then), cuts
            duct.close()
            said = read_to_end(peer)
        replies = bytes.fromhex("".join(vector.get("replies", [])))
        assert said[: len(replies)] == replies
        farewell = said[len(replies) :]
        assert farewell[:2] in (b"", b"\xd2\x10")
        assert len(farewell) in (0, 128)


@pytest.mark.parametrize(("file", "vector"), FRAMES)
def test_a_duct_tells_every_truncation_of_a_vector(file, vector):
    data = bytes.fromhex(vector["hex"])
    for length in range(len(data) + 1):
        with duct_and_peer(file, vector.get("limit", 64 << 20)) as (duct, peer):
            write(peer, data[:length], 0, vector)
            peer.shutdown(socket.SHUT_WR)
            assert the_end(duct) == expected(file, vector, length), length


@pytest.mark.parametrize(("file", "vector"), FRAMES)
def test_what_a_duct_sends_is_what_the_vectors_say(file, vector):
    if vector["name"] == "padding that is not of zeros":
        return  # A receiver takes more than a sender writes.
    data = bytes.fromhex(vector["hex"])
    start = 0
    with duct_and_peer(file) as (duct, peer), open(os.devnull) as file:
        for frame in vector["frames"]:
            if "message" in frame:
                message, count = bytes.fromhex(frame["message"]), frame.get("descriptors", 0)
                if count:
                    duct.send_fds(message, [file] * count)
                else:
                    duct.send_bytes(message)
                sent = read_exactly(peer, frame["ends_at"] - start)
                assert sent == data[start : frame["ends_at"]]
            start = frame["ends_at"]


def test_what_a_duct_says_for_itself_is_framed_as_the_vectors_say():
    with duct_and_peer("v2") as (duct, peer):
        peer.sendall(wire.message(b"one") + wire.message(b"two") + wire.drain(7))
        assert duct.recv() == b"one"
        duct.send(b"x")
        with pytest.raises(ductworks.NotDrained):
            duct.drain(0)
        assert read_exactly(peer, 128) == wire.message(b"x")
        question = read_exactly(peer, 128)
        assert question == wire.drain(struct.unpack("!Q", question[16:24])[0])
        assert duct.recv() == b"two"
        assert not duct.poll()
        assert read_exactly(peer, 128) == wire.drained(7, 2)
        duct.finish()
        farewell = read_to_end(peer)
        process = struct.unpack("!Q", farewell[17:25])[0]
        assert farewell == wire.end(wire.FINISH, process, 2)
    with duct_and_peer("v2") as (duct, peer):
        duct.close()
        assert read_to_end(peer) == wire.end(0, process, 0)
    with duct_and_peer("v2") as (duct, peer):
        duct._share()  # As handing it to a child does.
        duct.close()
        assert read_to_end(peer) == wire.end(wire.SHARED, process, 0)
