"""Timeouts, signals and Ctrl-C, at any byte, in both directions, lose and shift nothing.

A recv that was interrupted goes on where it was. A send of which no byte went out is not sent; any
other is accepted, and the rest of it goes out before anything else.
"""

import contextlib
import signal
import socket
import threading

import pytest
from support import (
    RAW,
    SHORT,
    TRANSPORTS,
    Background,
    alarms,
    frame,
    handling,
    read_frame,
    send_insistently,
    signal_once_blocked,
    wired,
)

LONG = bytes(range(256)) * 8192  # 2 MiB: more than the shrunken buffers of a wire can hold.
MESSAGE = frame(b'"interrupted"')


class Interrupted(Exception):
    pass


def raise_interrupted(*_):
    raise Interrupted


# Receiving


def test_recv_that_times_out_after_every_byte_loses_none(make_wire, role):
    duct, peer = make_wire(role, timeout=0.01)
    for byte in MESSAGE[:-1]:
        peer.sendall(bytes([byte]))
        with pytest.raises(socket.timeout):
            duct.recv()
    peer.sendall(MESSAGE[-1:])
    assert duct.recv() == "interrupted"


def test_the_timeout_bounds_the_whole_recv_not_each_byte_of_it(make_wire):
    duct, peer = make_wire(timeout=SHORT)
    stop = threading.Event()

    def trickle():
        for byte in frame(bytes(10_000)):
            if stop.wait(SHORT / 5):
                break
            peer.sendall(bytes([byte]))

    trickler = Background(trickle)
    with pytest.raises(socket.timeout):
        duct.recv()
    assert trickler.is_alive(), "recv waited for every single byte"
    stop.set()
    trickler.result()


@pytest.mark.parametrize("arrived", range(len(MESSAGE)))
def test_ctrl_c_after_any_byte_of_a_blocked_recv_loses_none(make_wire, arrived):
    duct, peer = make_wire()
    peer.sendall(MESSAGE[:arrived])
    with pytest.raises(KeyboardInterrupt), signal_once_blocked():
        duct.recv()
    peer.sendall(MESSAGE[arrived:] + frame(b'"next"'))
    assert duct.recv() == "interrupted"
    assert duct.recv() == "next"


def test_an_alarm_whose_handler_raises_ends_a_blocked_recv(make_wire, role):
    duct, peer = make_wire(role)
    peer.sendall(MESSAGE[:7])
    with pytest.raises(Interrupted), alarms(raise_interrupted, SHORT):
        duct.recv()
    peer.sendall(MESSAGE[7:])
    assert duct.recv() == "interrupted"


def test_a_duct_with_timeout_zero_never_waits_and_loses_nothing():
    duct, peer = wired(TRANSPORTS["unix"], timeout=0)
    for byte in MESSAGE[:-1]:
        peer.sendall(bytes([byte]))
        with pytest.raises((BlockingIOError, socket.timeout)):
            duct.recv()
    peer.sendall(MESSAGE[-1:])
    assert duct.recv() == "interrupted"
    duct.close()
    peer.close()


def test_a_handler_that_returns_lets_recv_go_on(make_wire):
    duct, peer = make_wire()
    handled = threading.Event()

    def finish():
        handled.wait()
        peer.sendall(MESSAGE[7:])

    peer.sendall(MESSAGE[:7])
    with handling(signal.SIGUSR1, lambda *_: handled.set()), signal_once_blocked(signal.SIGUSR1):
        finisher = Background(finish)
        assert duct.recv() == "interrupted"
    finisher.result()


def test_a_handler_that_returns_does_not_prolong_the_timeout(make_wire):
    duct, _ = make_wire(timeout=SHORT)
    with alarms(lambda *_: None, SHORT / 10, SHORT / 10), pytest.raises(socket.timeout):
        duct.recv()


def test_a_storm_of_interruptions_takes_nothing_from_a_stream(make_wire):
    received = []
    # Being C code, append cannot be interrupted between the message's arrival and its keeping.
    duct, peer = make_wire(serialize=bytes, deserialize=received.append)
    sent = [bytes([number % 256]) * (number * 37 % 5000) for number in range(300)]
    armed = False

    def interrupt(*_):
        nonlocal armed
        if armed:
            armed = False
            raise Interrupted

    def write():
        stream = b"".join(map(frame, sent))
        for start in range(0, len(stream), 1499):
            peer.sendall(stream[start : start + 1499])

    with alarms(interrupt, 0.001, 0.0007):
        writer = Background(write)
        while len(received) < len(sent):
            with contextlib.suppress(Interrupted):
                armed = True
                duct.recv()
                armed = False
    writer.result()
    assert received == sent
    assert duct.poll(0) is False


# Sending


@pytest.fixture
def make_narrow_wire(make_wire, role):
    """Wires on which LONG gets stuck until the peer reads."""
    return lambda **options: make_wire(role, small_buffers=True, **RAW, **options)


def test_send_that_times_out_in_its_frame_is_accepted(make_narrow_wire):
    duct, peer = make_narrow_wire(timeout=SHORT)
    duct.send(LONG)
    reader = Background(lambda: [read_frame(peer), read_frame(peer)])
    send_insistently(duct, b"next")
    assert reader.result() == [LONG, b"next"]


def test_send_of_which_no_byte_went_out_is_not_sent(make_narrow_wire):
    duct, peer = make_narrow_wire(timeout=SHORT)
    duct.send(LONG)
    for _ in range(3):
        with pytest.raises(socket.timeout):
            duct.send(b"never sent")
    reader = Background(lambda: [read_frame(peer), read_frame(peer)])
    send_insistently(duct, b"sent")
    assert reader.result() == [LONG, b"sent"]


def test_ctrl_c_in_a_blocked_send_leaves_whole_frames(make_narrow_wire):
    duct, peer = make_narrow_wire()
    with pytest.raises(KeyboardInterrupt), signal_once_blocked():
        duct.send(LONG)
    reader = Background(lambda: [read_frame(peer), read_frame(peer)])
    duct.send(b"next")
    assert reader.result() == [LONG, b"next"]


def test_ctrl_c_before_the_first_byte_of_a_send_leaves_nothing_of_it(make_narrow_wire):
    duct, peer = make_narrow_wire()
    for message in (LONG, b"never sent"):
        with pytest.raises(KeyboardInterrupt), signal_once_blocked():
            duct.send(message)
    reader = Background(lambda: [read_frame(peer), read_frame(peer)])
    duct.send(b"sent")
    assert reader.result() == [LONG, b"sent"]


@pytest.mark.parametrize("call", ["poll", "recv"])
def test_the_rest_of_an_accepted_message_goes_out_with_any_next_call(make_narrow_wire, call):
    duct, peer = make_narrow_wire(timeout=SHORT)
    duct.send(LONG)
    reader = Background(read_frame, peer)
    while reader.is_alive():
        with contextlib.suppress(socket.timeout):
            assert duct.poll(SHORT) is False if call == "poll" else duct.recv()
    assert reader.result() == LONG


def test_a_blocked_recv_sends_the_rest_while_it_waits(make_narrow_wire):
    duct, peer = make_narrow_wire()
    with pytest.raises(KeyboardInterrupt), signal_once_blocked():
        duct.send(LONG)

    def answer():
        message = read_frame(peer)
        peer.sendall(frame(b"answer"))
        return message

    answerer = Background(answer)
    assert duct.recv() == b"answer"
    assert answerer.result() == LONG


def test_a_storm_of_interruptions_leaves_whole_frames_in_order(make_narrow_wire):
    duct, peer = make_narrow_wire()
    armed = False

    def interrupt(*_):
        nonlocal armed
        if armed:
            armed = False
            raise Interrupted

    def read():
        numbers = []
        while True:
            message = read_frame(peer)
            if message == b"end":
                return numbers
            number = int.from_bytes(message[:4], "big")
            assert message == number.to_bytes(4, "big") + bytes([number % 251]) * 30_000
            numbers.append(number)

    reader = Background(read)
    returned = []
    with alarms(interrupt, 0.001, 0.0007):
        for number in range(150):
            with contextlib.suppress(Interrupted):
                armed = True
                duct.send(number.to_bytes(4, "big") + bytes([number % 251]) * 30_000)
                returned.append(number)
                armed = False
    duct.send(b"end")
    arrived = reader.result()
    assert arrived == sorted(set(arrived))
    assert set(returned) <= set(arrived)
