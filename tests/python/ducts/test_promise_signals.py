"""Ctrl-C and other signals end whatever waits, at once, and the duct goes on afterwards."""

import contextlib
import mmap
import os
import random
import select
import signal
import socket
import time

import pytest
from ductworks.base_duct import NotConnectedException
from ductworks.message_duct import MessageDuctChild
from processes import fork
from support import (
    PATIENCE,
    TRANSPORTS,
    Background,
    frame,
    handling,
    read_frame,
    signal_once_blocked,
    wait_until_blocked,
    wired,
)

MESSAGE = frame(b'"interrupted"')


class Interrupted(Exception):
    pass


def test_ctrl_c_ends_a_blocked_poll_and_the_duct_goes_on(make_wire):
    duct, peer = make_wire()
    for timeout in (None, 60):
        with pytest.raises(KeyboardInterrupt), signal_once_blocked():
            duct.poll(timeout)
    peer.sendall(MESSAGE)
    assert duct.poll(60) is True
    assert duct.recv() == "interrupted"


def test_ctrl_c_in_a_poll_that_waits_for_the_rest_of_a_message_loses_nothing(make_wire):
    duct, peer = make_wire()
    for arrived in (3, 5, 11):
        peer.sendall(MESSAGE[:arrived])
        with pytest.raises(KeyboardInterrupt), signal_once_blocked():
            duct.poll(60)
        peer.sendall(MESSAGE[arrived:])
        assert duct.poll(60) is True
        assert duct.recv() == "interrupted"


def test_ctrl_c_ends_a_blocked_listen_which_may_be_called_again(transport):
    parent = transport.parent()
    parent.bind()
    with pytest.raises(KeyboardInterrupt), signal_once_blocked():
        parent.listen()
    child = transport.child(parent.listener_address)
    child.connect()
    assert parent.listen()
    child.send("connected")
    assert parent.recv() == "connected"
    child.close()
    parent.close()


def test_ctrl_c_ends_connect_between_two_attempts(tmp_path):
    child = MessageDuctChild.psuedo_anonymous_child_duct(str(tmp_path / "later"))
    with pytest.raises(KeyboardInterrupt), signal_once_blocked():
        child.connect(connect_retry_count=5, connect_retry_delay=600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "later"))
        listener.listen()
        child.connect()
        child.send("connected")
        connection, _ = listener.accept()
        assert read_frame(connection) == b'"connected"'
        connection.close()
    child.close()


def test_interrupting_one_thread_does_not_wake_another():
    duct, peer = wired(TRANSPORTS["unix"])
    receiver = Background(duct.recv)
    wait_until_blocked(receiver)
    with pytest.raises(KeyboardInterrupt), signal_once_blocked():
        select.select([], [], [], PATIENCE)
    assert receiver.is_alive()
    peer.sendall(frame(b'"for the receiver"'))
    assert receiver.result() == "for the receiver"
    duct.close()
    peer.close()


# What a signal's handler may do


def test_a_handler_may_close_the_duct_that_the_main_thread_waits_in(make_wire):
    for call in ("recv", "poll"):
        duct, _ = make_wire()
        closing_handler = handling(signal.SIGUSR1, lambda *_, duct=duct: duct.close())
        closed = pytest.raises(NotConnectedException)
        with closed, closing_handler, signal_once_blocked(signal.SIGUSR1):
            getattr(duct, call)()


def test_a_handler_may_send_while_the_main_thread_waits_in_recv(make_wire):
    duct, peer = make_wire()

    def answer():
        assert read_frame(peer) == b'"from the handler"'
        peer.sendall(frame(b'"answer"'))

    answerer = Background(answer)
    sending_handler = handling(signal.SIGUSR1, lambda *_: duct.send("from the handler"))
    with sending_handler, signal_once_blocked(signal.SIGUSR1):
        assert duct.recv() == "answer"
    answerer.result()


@pytest.mark.parametrize("call", ["recv", "poll"])
def test_a_handler_that_uses_what_it_interrupts_fails_at_once(make_wire, call):
    duct, peer = make_wire(timeout=None)
    reentering = handling(signal.SIGUSR1, lambda *_: getattr(duct, call)())
    refused = pytest.raises(RuntimeError, match="same direction")
    with refused, reentering, signal_once_blocked(signal.SIGUSR1):
        getattr(duct, call)()
    peer.sendall(frame(b'"still in step"'))
    assert duct.recv() == "still in step"


def test_a_signal_at_any_moment_ends_a_recv_that_waits_for_ever(make_wire):
    duct, _ = make_wire(timeout=None)
    trials = 250
    trial = mmap.mmap(-1, 1)
    armed = False

    def interrupt(*_):
        nonlocal armed
        if armed:
            armed = False
            raise Interrupted

    def in_the_child():
        # A signal that comes before the wait begins must count as much as one that comes in it.
        moments = random.Random(3)
        for number in range(1, trials + 1):
            while trial[0] < number:
                os.sched_yield()
            if trial[0] == 255:
                break
            moment = time.perf_counter() + moments.uniform(0, 60e-6)
            while time.perf_counter() < moment:
                pass
            os.kill(os.getppid(), signal.SIGUSR1)

    with handling(signal.SIGUSR1, interrupt):
        join = fork(in_the_child)
        try:
            for number in range(1, trials + 1):
                with contextlib.suppress(Interrupted):
                    armed = True
                    trial[0] = number
                    duct.recv()
        finally:
            trial[0] = 255
            join()
