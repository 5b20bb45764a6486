"""The other process is killed at a byte of the conversation: whoever is left never waits for ever,
never receives what was not sent, and is told what has become of the other one.

Every single byte is tried by the Rust tests (offsets.rs); here the processes are real, and so are
the exceptions.
"""

import contextlib
import json
import logging
import queue

import ductworks
import pytest
from killed_peer import MESSAGES
from support import HELPERS, LONG, PATIENCE, RAW, Background

KILLED = HELPERS / "killed_peer.py"
BLOCK = 128


class Spoken:
    """What is said in a conversation, in bytes."""

    def __init__(self, api, transport):
        self.api = api
        self.version = 1 if api == "v1" or (api, transport.name) == ("module", "tcp") else 2
        self.suffix = ".v2" if self.version == 2 and transport.name == "unix" else ""
        self.handshake = {"v1": 0, "v2": 2 * BLOCK, "module": BLOCK * (self.version - 1)}[api]
        self.ends = []  # of the messages' frames
        place = self.handshake
        for message in MESSAGES:
            head, least = (16, BLOCK) if self.version == 2 else (5, 0)
            place += max(least, head + len(message))
            self.ends.append(place)
        self.farewell = place + BLOCK * (self.version - 1)

    def counts(self, way):
        """The beginning, the bytes around each border, and some of the rest."""
        borders = [BLOCK, self.handshake, *self.ends, self.farewell]
        counts = {*range(6), *range(0, self.farewell, 61 if LONG else 499)}
        counts |= {border + step for border in borders for step in (-1, 0, 1)}
        if way == "read":
            # Before it has read anything, it is chance how much it has written.
            return sorted(count for count in counts if 0 < count <= self.ends[-1])
        return sorted(count for count in counts if 0 <= count <= self.farewell)

    def check(self, duct, way, count):
        """Send back what comes: it is what was wholly delivered, and then the end by its name."""
        received = []
        with pytest.raises(ductworks.PeerClosed) as caught:
            while True:
                received.append(duct.recv())
                with contextlib.suppress(ConnectionError):
                    duct.send(received[-1])
        for _ in range(2):
            assert duct.poll()
            with pytest.raises(type(caught.value)):
                duct.recv()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                duct.send(b"")  # TCP takes one before it notices.
        shown = f"{way} {count}: {caught.value!r}"
        if way == "written":
            whole = sum(end <= count for end in self.ends)
            # A handshake of its own is over before there is a duct.
            begins = self.api == "v2" and count <= self.handshake
            is_cut = not begins and count not in {0, self.handshake, *self.ends, self.farewell}
        else:
            # The last answer that it began to read is one to a message of its own.
            whole = sum(end < count for end in self.ends) + 1
            if count <= self.handshake:
                whole = 0 if self.api == "v2" else len(received)
                assert whole <= 1, shown
            is_cut = False
        assert received == MESSAGES[:whole], shown
        if is_cut:
            assert type(caught.value) is ductworks.PeerTruncated, shown
        elif self.version == 1:
            # It depends on what the relay had not read yet.
            assert type(caught.value) in (ductworks.PeerClosed, ductworks.PeerReset), shown
        elif (way, count) == ("written", self.farewell):
            assert type(caught.value) is ductworks.PeerClosed, shown
        else:
            assert type(caught.value) is ductworks.PeerDied, shown


@pytest.fixture
def killed(start_python):
    peer = start_python(KILLED)
    assert peer.hear() == "ready"
    return peer


@pytest.fixture(params=["v2", "v1", "module"])
def spoken(request, transport):
    return Spoken(request.param, transport)


@pytest.fixture(params=["written", "read"])
def way(request):
    return request.param


def tell(killed, spoken, transport, role, **case):
    facts = {"api": spoken.api, "transport": transport.name, "suffix": spoken.suffix, "role": role}
    killed.say(json.dumps({**facts, **case}))


def test_a_parent_outlives_a_child_that_is_killed_at_any_byte(killed, spoken, transport, way):
    if spoken.api == "module":
        for count in spoken.counts(way):
            with contextlib.closing(transport.parent(**RAW)) as parent:
                parent.bind()
                address = parent.listener_address
                tell(killed, spoken, transport, "child", address=address, way=way, count=count)
                assert parent.listen(PATIENCE)
                spoken.check(parent, way, count)
            assert killed.hear() == "killed"
        return
    where = "tcp:127.0.0.1:0" if transport.name == "tcp" else None
    with ductworks.listen(where, codec="raw", v1=spoken.version == 1) as listener:
        kind, _, address = listener.address.partition(":")
        address = address if kind == "unix" else address.split(":")
        with events_of(listener) as events:
            for count in spoken.counts(way):
                ticket = listener.ticket
                token = ticket[len(listener.address) :]
                case = {"address": address, "token": token, "way": way, "count": count}
                tell(killed, spoken, transport, "child", **case)
                event = events.get(timeout=PATIENCE)
                proof = spoken.handshake if way == "written" else BLOCK
                if isinstance(event, str):
                    assert spoken.version == 2
                    assert count <= proof
                    assert "went away in its handshake" in event
                    # The ticket is not used up, and the call that accepts went on.
                    assert listener.ticket == ticket
                    with ductworks.connect(ticket, codec="raw") as honest:
                        with events.get(timeout=PATIENCE) as accepted:
                            honest.send(b"in")
                            assert accepted.recv() == b"in"
                else:
                    assert spoken.version == 1 or count >= proof
                    with event as duct:
                        spoken.check(duct, way, count)
                assert killed.hear() == "killed"


@contextlib.contextmanager
def events_of(listener):
    """A queue of the ducts that a listener accepts, and of what its log says."""
    events = queue.Queue()

    class Log(logging.Handler):
        def emit(self, record):
            events.put(record.getMessage())

    def accept():
        for duct in listener:
            events.put(duct)

    log = Log()
    logging.getLogger("ductworks").addHandler(log)
    accepting = Background(accept)
    try:
        yield events
    finally:
        logging.getLogger("ductworks").removeHandler(log)
        listener.close()
        accepting.result()


def test_a_child_outlives_a_parent_that_is_killed_at_any_byte(killed, spoken, transport, way):
    for count in spoken.counts(way):
        tell(killed, spoken, transport, "parent", way=way, count=count)
        address, ticket = json.loads(killed.hear())
        if spoken.api == "module":
            with contextlib.closing(transport.child(address, **RAW)) as child:
                child.connect()
                spoken.check(child, way, count)
        elif spoken.version == 2 and count <= spoken.handshake - (way == "written"):
            with pytest.raises(ConnectionResetError, match="went away before it accepted"):
                ductworks.connect(ticket, codec="raw")
        else:
            with ductworks.connect(ticket, codec="raw", v1=spoken.version == 1) as child:
                spoken.check(child, way, count)
        assert killed.hear() == "killed"
