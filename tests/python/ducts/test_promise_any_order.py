"""Any order of calls, timeouts and partial transfers keeps the promises, checked against a model.

The duct has narrow buffers and a short timeout, so that most calls stop somewhere in a frame.
"""

import collections
import contextlib
import select
import socket

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from support import RAW, TRANSPORTS, descriptor, eventually, examples, frame, wired

# Thousands of steps, of which many wait: for a timeout, or for TCP's timers.
pytestmark = pytest.mark.time_limit(240)

sizes = st.sampled_from([0, 1, 4, 5, 6, 300, 5_000, 20_000, 70_000])
counts = st.sampled_from([1, 2, 4, 5, 6, 100, 4_000, 100_000])


class Traffic(RuleBasedStateMachine):
    transport = None

    def __init__(self):
        super().__init__()
        self.duct, self.peer = wired(self.transport, small_buffers=True, timeout=0.002, **RAW)
        self.peer.setblocking(False)
        self.serial = 0
        self.accepted = bytearray()  # All that the peer has to read, now or later.
        self.read = 0
        self.queued = bytearray()  # Bytes of frames that the peer has not written yet.
        self.coming = collections.deque()  # The peer's messages that are to be received.

    def make_message(self, size):
        self.serial += 1
        return bytes([self.serial % 251]) * size

    def has_arrived(self):
        """Whether the next message of the peer has been written whole."""
        later = list(self.coming)[1:]
        return bool(self.coming) and len(self.queued) <= sum(5 + len(m) for m in later)

    @rule(size=sizes)
    def duct_sends(self, size):
        message = self.make_message(size)
        with contextlib.suppress(socket.timeout):
            self.duct.send(message)
            self.accepted += frame(message)

    @rule(count=counts)
    def peer_reads(self, count):
        with contextlib.suppress(BlockingIOError):
            data = self.peer.recv(count)
            assert data == self.accepted[self.read : self.read + len(data)]
            self.read += len(data)

    @rule(size=sizes)
    def peer_queues(self, size):
        message = self.make_message(size)
        self.coming.append(message)
        self.queued += frame(message)

    @rule(count=counts)
    def peer_writes(self, count):
        with contextlib.suppress(BlockingIOError):
            del self.queued[: self.peer.send(self.queued[:count])]

    @rule()
    def duct_receives(self):
        if self.has_arrived():
            assert eventually(self.try_to_receive, "a message")[0] == self.coming.popleft()
        else:
            with pytest.raises(socket.timeout):
                self.duct.recv()

    def try_to_receive(self):
        try:
            return [self.duct.recv()]
        except socket.timeout:
            return None

    @rule()
    def duct_polls(self):
        if self.has_arrived():
            eventually(lambda: self.duct.poll(0), "a message")
            assert select.select([descriptor(self.duct)], [], [], 0)[0]
        else:
            assert self.duct.poll(0) is False

    def teardown(self):
        while self.coming:
            self.peer_writes(100_000)
            received = self.try_to_receive()
            assert received in (None, [self.coming[0]])
            if received:
                self.coming.popleft()
        while self.read < len(self.accepted):
            self.peer_reads(1 << 20)
            self.try_to_flush()
        self.duct.close()
        self.peer.setblocking(True)
        assert self.peer.recv(1) == b""
        self.peer.close()

    def try_to_flush(self):
        with contextlib.suppress(socket.timeout):
            self.duct.poll(0)


class UnixTraffic(Traffic):
    transport = TRANSPORTS["unix"]


class TcpTraffic(Traffic):
    transport = TRANSPORTS["tcp"]


TestUnixTraffic = UnixTraffic.TestCase
TestTcpTraffic = TcpTraffic.TestCase
TestUnixTraffic.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
TestTcpTraffic.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
