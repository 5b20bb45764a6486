"""fileno() and poll() are right at any moment: ready exactly when there is something to receive."""

import asyncio
import multiprocessing.connection
import os
import select
import selectors
import socket

import pytest
from ductworks.message_duct import RemoteDuctClosed
from support import (
    PATIENCE,
    RAW,
    SHORT,
    Background,
    descriptor,
    eventually,
    frame,
    unread_bytes,
)


def is_ready(duct):
    return bool(select.select([descriptor(duct)], [], [], 0)[0])


def becomes_ready(duct):
    return bool(select.select([descriptor(duct)], [], [], PATIENCE)[0])


def test_the_descriptor_is_ready_exactly_while_messages_wait(make_wire, role):
    duct, peer = make_wire(role)
    assert not is_ready(duct)
    peer.sendall(b"".join(frame(b"%d" % number) for number in range(50)))
    for number in range(50):
        assert becomes_ready(duct)
        assert duct.poll(PATIENCE) is True
        assert is_ready(duct)
        assert duct.recv() == number
    assert not is_ready(duct)
    assert duct.poll(0) is False
    peer.close()
    assert becomes_ready(duct)
    assert duct.poll(PATIENCE) is True


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
def test_after_poll_says_yes_the_descriptor_is_ready_and_recv_does_not_block(make_wire, size):
    duct, peer = make_wire(timeout=PATIENCE, **RAW)
    writer = Background(peer.sendall, frame(bytes(size)))
    assert duct.poll(PATIENCE) is True
    # However much of it poll has taken out of the kernel, an event loop must be told as well.
    assert is_ready(duct)
    assert duct.poll(0) is True
    assert is_ready(duct)
    writer.result()
    assert duct.recv() == bytes(size)
    assert not is_ready(duct)


@pytest.mark.parametrize("arrived", range(1, 8))
def test_poll_does_not_take_a_part_for_a_message(make_wire, arrived):
    duct, peer = make_wire()
    message = frame(b"123")
    peer.sendall(message[:arrived])
    eventually(lambda: unread_bytes(duct) == arrived, "the part")
    assert duct.poll(0) is False
    assert duct.poll(SHORT) is False
    peer.sendall(message[arrived:])
    assert duct.poll(PATIENCE) is True
    assert is_ready(duct)
    assert duct.recv() == 123


def test_poll_waits_for_the_rest_of_a_message(make_wire):
    duct, peer = make_wire()
    message = frame(b"123")
    for timeout in (PATIENCE, None):
        peer.sendall(message[:6])
        poller = Background(duct.poll, timeout)
        peer.sendall(message[6:])
        assert poller.result() is True
        assert duct.recv() == 123


def test_poll_has_a_timeout_by_default_and_with_zero_does_not_wait(make_wire):
    duct, peer = make_wire()
    assert duct.poll(0) is False
    assert duct.poll(timeout=0.0) is False
    peer.sendall(frame(b"1"))
    assert duct.poll() is True
    assert duct.recv() == 1


def test_a_part_that_a_timed_out_recv_has_taken_is_not_called_a_message(make_wire):
    duct, peer = make_wire(timeout=SHORT)
    message = frame(b"123")
    for arrived in range(1, len(message)):
        peer.sendall(message[:arrived])
        with pytest.raises(socket.timeout):
            duct.recv()
        assert duct.poll(0) is False
        peer.sendall(message[arrived:])
        assert becomes_ready(duct)
        assert duct.poll(PATIENCE) is True
        assert is_ready(duct)
        assert duct.recv() == 123
        assert not is_ready(duct)


def test_wait_takes_ducts_sockets_and_descriptors_mixed(make_wire, make_pair):
    duct, peer = make_wire()
    other, other_peer = make_wire()
    pipe, tell_pipe = os.pipe()
    plain, tell_plain = socket.socketpair()
    waiting = [duct, other, pipe, plain]
    wait = multiprocessing.connection.wait
    assert wait(waiting, 0) == []
    peer.sendall(frame(b"1") * 2)
    assert wait(waiting, PATIENCE) == [duct]
    assert duct.recv() == 1
    assert wait(waiting, PATIENCE) == [duct]
    assert duct.recv() == 1
    assert wait(waiting, 0) == []
    other_peer.sendall(frame(b"2"))
    tell_plain.send(b"!")
    os.write(tell_pipe, b"!")
    eventually(lambda: set(wait(waiting, PATIENCE)) == {other, pipe, plain}, "all three")
    for thing in (plain, tell_plain):
        thing.close()
    for number in (pipe, tell_pipe):
        os.close(number)


def test_selectors_take_a_duct_for_a_file(make_wire):
    duct, peer = make_wire()
    with selectors.DefaultSelector() as selector:
        selector.register(duct, selectors.EVENT_READ, "the duct")
        assert selector.select(0) == []
        peer.sendall(frame(b"1"))
        ((key, _),) = selector.select(PATIENCE)
        assert key.data == "the duct"
        assert duct.recv() == 1
        assert selector.select(0) == []


def test_an_asyncio_reader_is_called_for_every_message(make_wire):
    duct, peer = make_wire()
    count = 200

    async def receive_all():
        loop = asyncio.get_running_loop()
        received, done = [], loop.create_future()

        def receive_one():
            received.append(duct.recv())
            if len(received) == count:
                done.set_result(None)

        loop.add_reader(duct.fileno(), receive_one)
        writer = loop.run_in_executor(
            None, peer.sendall, b"".join(frame(b"%d" % number) for number in range(count))
        )
        await asyncio.wait_for(done, PATIENCE)
        await writer
        loop.remove_reader(duct.fileno())
        return received

    assert asyncio.run(receive_all()) == list(range(count))


def test_the_descriptor_stays_the_same_for_the_whole_connection(make_wire):
    duct, peer = make_wire()
    before = (duct.fileno(), duct.get_conn_file_descriptor(), descriptor(duct))
    peer.sendall(frame(b"1"))
    assert duct.recv() == 1
    duct.send(2)
    assert before == (duct.fileno(),) * 3


def test_poll_reports_the_end_and_recv_raises_it(make_wire):
    duct, peer = make_wire()
    peer.close()
    assert duct.poll(None) is True
    with pytest.raises(RemoteDuctClosed):
        duct.recv()
    assert duct.poll(0) is True
