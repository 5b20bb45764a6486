"""A duct carried over a fork works in both processes, and neither copy's end disturbs the other."""

import fcntl
import gc
import multiprocessing
import os
import struct
import termios

import ductworks
import pytest
from ductworks.message_duct import RemoteDuctClosed
from processes import fork
from support import (
    PATIENCE,
    RAW,
    SHORT,
    Background,
    eventually,
    frame,
    read_frame,
    wait_until_blocked,
)


def test_both_copies_can_send_and_receive(make_wire, role):
    duct, peer = make_wire(role)

    def in_the_child():
        duct.send("from the child")
        assert duct.recv() == "to the child"

    join = fork(in_the_child)
    assert read_frame(peer) == b'"from the child"'
    peer.sendall(frame(b'"to the child"'))
    join()
    duct.send("from the parent")
    assert read_frame(peer) == b'"from the parent"'
    peer.sendall(frame(b'"to the parent"'))
    assert duct.recv() == "to the parent"


def test_close_in_the_child_leaves_the_parents_copy_alone(make_wire, role):
    duct, peer = make_wire(role)
    fork(duct.close)()
    duct.send("still open")
    assert read_frame(peer) == b'"still open"'
    peer.sendall(frame(b'"indeed"'))
    assert duct.recv() == "indeed"


def test_close_in_the_parent_leaves_the_childs_copy_alone(make_wire, role):
    duct, peer = make_wire(role)
    closed, tell_closed = os.pipe()

    def in_the_child():
        assert os.read(closed, 1) == b"c"
        duct.send("still open")
        assert duct.recv() == "answer"
        duct.close()

    join = fork(in_the_child)
    duct.close()
    os.write(tell_closed, b"c")
    assert read_frame(peer) == b'"still open"'
    peer.sendall(frame(b'"answer"'))
    join()
    assert peer.recv(1) == b""
    os.close(closed)
    os.close(tell_closed)


def test_the_collection_of_the_childs_copy_leaves_the_parents_alone(make_wire):
    holder = list(make_wire())

    def in_the_child():
        holder.clear()
        gc.collect()

    fork(in_the_child)()
    duct, peer = holder
    duct.send("still open")
    assert read_frame(peer) == b'"still open"'


def test_a_child_that_exits_as_usual_leaves_the_parents_copy_alone(make_pair):
    parent, child = make_pair()
    unconnected = type(parent).psuedo_anonymous_parent_duct()
    unconnected.bind()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=child.send, args=("from the process",))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert parent.recv() == "from the process"
    parent.send("still open")
    assert child.recv() == "still open"
    assert os.path.exists(unconnected.listener_address)
    unconnected.close()


def test_ducts_stand_in_for_a_pipe_with_multiprocessing(make_pair):
    parent, child = make_pair()

    def in_the_child():
        parent.close()
        child.send("hello world")
        child.close()

    process = multiprocessing.get_context("fork").Process(target=in_the_child)
    process.start()
    child.close()
    assert parent.recv() == "hello world"
    with pytest.raises(RemoteDuctClosed):
        parent.recv()
    process.join()


def test_a_child_forked_while_a_thread_waits_in_recv_can_use_and_close_the_duct(make_wire, role):
    duct, peer = make_wire(role)
    receiver = Background(duct.recv)
    wait_until_blocked(receiver)

    def in_the_child():
        assert duct.poll(0) is False
        duct.send("from the child")
        duct.close()

    fork(in_the_child)()
    assert read_frame(peer) == b'"from the child"'
    assert receiver.is_alive()
    peer.sendall(frame(b'"for the thread"'))
    assert receiver.result() == "for the thread"


def test_a_child_forked_while_a_thread_waits_in_recv_can_receive(make_wire):
    # Without a lock, one process may take the head of a message and the other its payload.
    duct, peer = make_wire(lock=multiprocessing.get_context("fork").Lock())
    receiver = Background(duct.recv)
    wait_until_blocked(receiver)

    done, tell_done = os.pipe()

    def in_the_child():
        assert duct.recv() == "for either"
        os.write(tell_done, b"d")

    join = fork(in_the_child)
    # Two readers in two processes: each takes one message.
    peer.sendall(frame(b'"for either"') * 2)
    assert os.read(done, 1) == b"d"
    join()
    assert receiver.result() == "for either"
    os.close(done)
    os.close(tell_done)


def test_a_child_forked_while_a_thread_is_stuck_in_send_can_close_the_duct(make_wire):
    duct, peer = make_wire(small_buffers=True, **RAW)
    sender = Background(duct.send, bytes(1 << 20))
    wait_until_blocked(sender)
    fork(duct.close)()
    assert sender.is_alive()
    assert read_frame(peer) == bytes(1 << 20)
    sender.result()


def test_children_forked_in_the_midst_of_traffic_can_close_their_copies(make_pair):
    parent, child = make_pair()
    sent = [[number, "x" * (number * 389 % 9_000)] for number in range(3_000)]

    def send_all(duct):
        for message in sent:
            duct.send(message)

    def receive_all(duct):
        return [duct.recv() for _ in sent]

    senders = [Background(send_all, duct) for duct in (parent, child)]
    receivers = [Background(receive_all, duct) for duct in (parent, child)]

    def in_the_child():
        parent.close()
        child.close()

    for _ in range(15):
        fork(in_the_child)()
    for thread in senders:
        thread.result()
    for thread in receivers:
        assert thread.result() == sent


def test_the_rest_of_an_accepted_message_is_sent_once_although_two_processes_hold_it(make_wire):
    duct, peer = make_wire(small_buffers=True, timeout=SHORT, **RAW)
    message = bytes(range(256)) * 8192
    duct.send(message)
    fork(duct.close)()
    reader = Background(read_frame, peer)
    eventually(lambda: duct.poll(0) or not reader.is_alive(), "the rest of the message")
    assert reader.result() == message
    duct.send(b"next")
    assert read_frame(peer) == b"next"


def test_a_bound_parent_can_listen_in_a_forked_child(transport):
    parent = transport.parent()
    parent.bind()

    def in_the_child():
        assert parent.listen()
        parent.send("from the child")
        assert parent.recv() == "answer"

    join = fork(in_the_child)
    child = transport.child(parent.listener_address)
    child.connect()
    assert child.recv() == "from the child"
    child.send("answer")
    join()
    parent.close()
    child.close()


LARGE = b"m" * 20_000_000


def send_large(duct):
    duct.send_bytes(LARGE)
    duct.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("how", ["close", "drop"])
def test_the_close_of_a_copy_says_nothing_in_the_middle_of_another_processs_message(method, how):
    a, b = ductworks.pair("raw")
    child = multiprocessing.get_context(method).Process(target=send_large, args=(b,))
    child.start()
    # It waits for room in the middle of its message.
    eventually(lambda: is_full(a))
    child._args = ()  # A reference of its own.
    if how == "close":
        b.close()
    del b
    assert a.recv_bytes(PATIENCE) == LARGE
    with pytest.raises(ductworks.PeerClosed) as caught:
        a.recv_bytes(PATIENCE)
    assert not isinstance(caught.value, ductworks.PeerDied)
    a.close()
    child.join()


def is_full(duct):
    """Whether so much lies there to be received that its sender waits."""
    waiting = struct.unpack("i", fcntl.ioctl(duct, termios.FIONREAD, bytes(4)))[0]
    return waiting > 150_000
