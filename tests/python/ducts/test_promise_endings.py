"""What had arrived is delivered first; then the end is reported, and its kinds are told apart."""

import contextlib
import json
import signal
import socket

import pytest
from ductworks import message_duct
from ductworks.message_duct import RemoteDuctClosed
from support import (
    PATIENCE,
    RAW,
    Background,
    drain_end,
    eventually,
    frame,
    read_frame,
    read_to_end,
    unread_bytes,
)

MESSAGE = frame(b'"cut"')


def test_a_clean_end_is_reported_every_time(make_wire, role):
    duct, peer = make_wire(role)
    peer.close()
    for _ in range(3):
        assert duct.poll(PATIENCE) is True
        with pytest.raises(RemoteDuctClosed) as end:
            duct.recv()
        assert end.type is RemoteDuctClosed


def test_messages_that_arrived_before_the_end_come_first(make_wire, role):
    duct, peer = make_wire(role)
    peer.sendall(b"".join(frame(b"%d" % number) for number in range(100)))
    peer.close()
    messages, end = drain_end(duct)
    assert messages == list(range(100))
    assert type(end) is RemoteDuctClosed


@pytest.mark.parametrize("arrived", range(1, len(MESSAGE)))
def test_an_end_in_a_message_is_truncated_wherever_it_comes(make_wire, arrived):
    duct, peer = make_wire()
    peer.sendall(frame(b'"whole"') + MESSAGE[:arrived])
    peer.close()
    messages, end = drain_end(duct)
    assert messages == ["whole"]
    assert type(end) is message_duct.RemoteDuctTruncated
    with pytest.raises(message_duct.DuctworksException):
        duct.recv()


def test_poll_says_yes_to_a_truncated_message_so_that_recv_may_tell(make_wire):
    duct, peer = make_wire()
    peer.sendall(MESSAGE[:-1])
    assert duct.poll(0) is False
    peer.close()
    assert duct.poll(PATIENCE) is True
    with pytest.raises(message_duct.RemoteDuctTruncated):
        duct.recv()


def test_a_peer_that_closed_with_unread_input_is_a_reset_after_its_messages(make_wire, role):
    duct, peer = make_wire(role)
    duct.send("never read")
    eventually(lambda: waiting_bytes(peer), "the unread message")
    peer.sendall(frame(b'"last"'))
    eventually(lambda: unread_bytes(duct) == 11, "the last message")
    peer.close()
    messages, end = drain_end(duct)
    assert messages == ["last"]
    assert type(end) is message_duct.RemoteDuctReset
    assert isinstance(end, ConnectionResetError)


def waiting_bytes(sock):
    with contextlib.suppress(BlockingIOError):
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)


def test_a_reset_in_a_message_is_truncated(make_wire):
    duct, peer = make_wire()
    duct.send("never read")
    eventually(lambda: waiting_bytes(peer), "the unread message")
    peer.sendall(MESSAGE[:-2])
    eventually(lambda: unread_bytes(duct) == len(MESSAGE) - 2, "the cut message")
    peer.close()
    with pytest.raises(message_duct.RemoteDuctTruncated):
        duct.recv()


@pytest.mark.parametrize("last_words", ["", "whole", "cut"])
def test_a_killed_peer_leaves_an_exact_prefix(start_python, transport, last_words):
    parent = transport.parent()
    parent.bind()
    child = start_python(
        """
        import json, os, signal, sys
        from support import TRANSPORTS, frame, frame_v2, same_socket
        transport, address, last_words = sys.argv[1:]
        if transport == "unix":
            frame = frame_v2  # What two of ours speak there.
        duct = TRANSPORTS[transport].child(json.loads(address))
        duct.connect()
        for number in range(500):
            duct.send([number, "x" * number])
        with same_socket(duct) as sock:
            if last_words == "whole":
                sock.sendall(frame(b'"last words"'))
            elif last_words == "cut":
                sock.sendall(frame(b'"last words"')[:-4])
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        transport.name,
        json.dumps(parent.listener_address),
        last_words,
    )
    assert parent.listen()
    messages, end = drain_end(parent)
    if last_words == "whole":
        assert messages.pop() == "last words"
    assert messages == [[number, "x" * number] for number in range(500)]
    if last_words == "cut":
        expected = message_duct.RemoteDuctTruncated
    elif transport.name == "unix":
        expected = message_duct.RemoteDuctDied  # Version 2 tells a death from a close.
    else:
        expected = RemoteDuctClosed
    assert type(end) is expected
    assert child.process.wait(PATIENCE) == -signal.SIGKILL
    parent.close()


def test_a_peer_that_is_killed_while_we_wait_wakes_us(start_python, transport):
    parent = transport.parent()
    parent.bind()
    child = start_python(
        """
        import json, sys
        from support import TRANSPORTS
        duct = TRANSPORTS[sys.argv[1]].child(json.loads(sys.argv[2]))
        duct.connect()
        duct.send("here")
        sys.stdin.readline()
        """,
        transport.name,
        json.dumps(parent.listener_address),
    )
    assert parent.listen()
    assert parent.recv() == "here"
    receiver = Background(parent.recv)
    child.kill()
    with pytest.raises(RemoteDuctClosed):
        receiver.result()
    parent.close()


def test_a_write_error_does_not_hide_messages_that_can_be_read(make_wire, role):
    duct, peer = make_wire(role)
    peer.sendall(frame(b'"one"') + frame(b'"two"'))
    eventually(lambda: unread_bytes(duct) == 20, "both messages")
    peer.close()

    def write_until_it_fails():
        # The first write to a TCP peer that has gone succeeds.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                duct.send("into the void")
            return False
        return True

    eventually(write_until_it_fails, "a write error")
    messages, end = drain_end(duct)
    assert messages == ["one", "two"]
    assert isinstance(end, RemoteDuctClosed)


def test_sending_to_a_peer_that_has_gone_is_a_broken_pipe(make_wire):
    duct, peer = make_wire()
    peer.close()
    errors = []

    def write_until_it_fails():
        try:
            duct.send("into the void")
        except OSError as error:
            errors.append(error)
        return errors

    eventually(write_until_it_fails, "a write error")
    assert isinstance(errors[0], (BrokenPipeError, ConnectionResetError))


def test_a_peer_that_only_stops_sending_can_still_receive(make_wire, role):
    duct, peer = make_wire(role)
    peer.sendall(frame(b'"last"'))
    peer.shutdown(socket.SHUT_WR)
    messages, end = drain_end(duct)
    assert messages == ["last"]
    assert type(end) is RemoteDuctClosed
    duct.send("still heard")
    assert read_frame(peer) == b'"still heard"'


def test_what_was_sent_before_close_arrives(make_wire, role):
    duct, peer = make_wire(role, **RAW)
    reader = Background(read_to_end, peer)
    messages = [bytes(number * 100) for number in range(200)]
    for message in messages:
        duct.send(message)
    duct.close()
    assert reader.result() == b"".join(map(frame, messages))
