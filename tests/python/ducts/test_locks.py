"""lock= takes anything with acquire and release; it is held while a message is transferred."""

import multiprocessing
import socket
import threading

import pytest
from ductworks.message_duct import create_psuedo_anonymous_duct_pair
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


class Lock:
    """No lock of the library; counts, and knows whether it is held."""

    def __init__(self):
        self.inner = threading.Lock()
        self.acquired = self.released = 0

    def acquire(self):
        self.inner.acquire()
        self.acquired += 1

    def release(self):
        self.released += 1
        self.inner.release()

    def is_free(self):
        return not self.inner.locked()


def test_any_object_with_acquire_and_release_is_used_and_let_go(make_wire):
    lock = Lock()
    duct, peer = make_wire(lock=lock)
    duct.send("x")
    assert lock.acquired == lock.released == 1
    peer.sendall(frame(b"1"))
    assert duct.recv() == 1
    assert lock.acquired == lock.released >= 2


def test_the_lock_is_let_go_after_every_kind_of_failure(make_wire):
    lock = Lock()
    duct, peer = make_wire(lock=lock, timeout=SHORT)
    with pytest.raises(TypeError):
        duct.send(object())
    assert lock.is_free()
    with pytest.raises(socket.timeout):
        duct.recv()
    assert lock.is_free()
    peer.sendall(frame(b"12")[:-1])
    with pytest.raises(socket.timeout):
        duct.recv()
    assert lock.is_free()
    peer.sendall(b"2")
    assert duct.recv() == 12
    peer.sendall(frame(b"{"))
    with pytest.raises(ValueError, match="Expecting"):
        duct.recv()
    assert lock.is_free()
    peer.close()
    with pytest.raises(EOFError):
        duct.recv()
    assert lock.is_free()
    assert lock.acquired == lock.released


def test_the_lock_is_free_while_recv_waits_for_a_message(make_wire):
    lock = Lock()
    duct, peer = make_wire(lock=lock)
    receiver = Background(duct.recv)
    wait_until_blocked(receiver)
    eventually(lock.is_free, "the lock")
    peer.sendall(frame(b"1"))
    assert receiver.result() == 1


def test_the_lock_is_held_while_a_message_is_under_way(make_wire):
    lock = Lock()
    duct, peer = make_wire(lock=lock, small_buffers=True, **RAW)
    peer.sendall(frame(b"12345")[:7])
    receiver = Background(duct.recv)
    eventually(lambda: not lock.is_free(), "the receiver's hold")
    peer.sendall(b"345")
    assert receiver.result() == b"12345"
    assert lock.is_free()
    sender = Background(duct.send, bytes(1 << 20))
    eventually(lambda: not lock.is_free(), "the sender's hold")
    wait_until_blocked(sender)
    assert not lock.is_free()
    assert read_frame(peer) == bytes(1 << 20)
    sender.result()
    assert lock.is_free()


def test_send_waits_for_whoever_else_holds_the_lock(make_wire):
    lock = threading.Lock()
    duct, peer = make_wire(lock=lock)
    with lock:
        sender = Background(duct.send, "later")
        peer.settimeout(SHORT)
        with pytest.raises(socket.timeout):
            peer.recv(1)
    sender.result()
    assert read_frame(peer) == b'"later"'


def test_recv_waits_for_whoever_else_holds_the_lock(make_wire):
    lock = threading.Lock()
    duct, peer = make_wire(lock=lock)
    with lock:
        receiver = Background(duct.recv)
        peer.sendall(frame(b"1"))
        receiver.join(SHORT)
        assert receiver.is_alive()
    assert receiver.result() == 1


@pytest.mark.parametrize(
    "make_lock", [threading.Lock, threading.RLock, multiprocessing.Lock, threading.Semaphore]
)
def test_the_usual_locks_fit(make_lock):
    parent, child = create_psuedo_anonymous_duct_pair(
        parent_lock=make_lock(), child_lock=make_lock()
    )
    parent.send(1)
    assert child.recv() == 1
    child.send(2)
    assert parent.recv() == 2
    parent.close()
    child.close()


def test_a_lock_of_several_processes_keeps_their_messages_apart(make_wire):
    duct, peer = make_wire(lock=multiprocessing.Lock(), **RAW)
    senders, each, size = 4, 25, 50_000

    def send_all(sender):
        for _ in range(each):
            duct.send(bytes([sender]) * size)

    joins = [fork(lambda sender=sender: send_all(sender)) for sender in range(senders)]
    received = [read_frame(peer) for _ in range(senders * each)]
    for join in joins:
        join()
    assert sorted(received) == [bytes([s]) * size for s in range(senders) for _ in range(each)]


def test_a_poll_that_waits_under_a_lock_keeps_nobody_from_sending(make_wire, role):
    duct, peer = make_wire(role, lock=threading.Lock())
    polling = Background(duct.poll, PATIENCE)
    wait_until_blocked(polling)
    duct.send("while it polls")
    assert read_frame(peer) == b'"while it polls"'
    peer.sendall(frame(b'"at last"'))
    assert polling.result()
    assert duct.recv() == "at last"
