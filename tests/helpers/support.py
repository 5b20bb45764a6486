"""What the tests share: ducts, plain peers, and ways to wait without sleeping.

The misspelt names are used on purpose: they exist in this package and in the original, so the
helpers (and the ordinary tests) also run against the original.
"""

import contextlib
import fcntl
import os
import pickletools
import platform
import re
import shutil
import signal
import socket
import struct
import tempfile
import termios
import threading
import time
from pathlib import Path

from ductworks.base_duct import RawDuctChild, RawDuctParent
from ductworks.message_duct import MessageDuctChild, MessageDuctParent

HELPERS = Path(__file__).resolve().parent
TESTS = HELPERS.parent
ROOT = TESTS.parent
PATIENCE = 20  # Seconds after which something counts as a hang; never a measure of speed.
SHORT = 0.05  # A timeout that is meant to expire.


# Waiting


def eventually(condition, what="the condition"):
    """Return the first true value of condition(); fail once PATIENCE is over."""
    deadline = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true in {PATIENCE} s")
        time.sleep(0.001)


def is_blocked(thread_id):
    """Whether a thread of this process waits in a system call, other than for a lock."""
    task = Path(f"/proc/self/task/{thread_id}")
    futex = 202 if platform.machine() == "x86_64" else 98
    try:
        call = (task / "syscall").read_text().split()[0]
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True  # The thread has ended: whoever waits for it need not wait any longer.
    # Only an "S" can be interrupted; a "D" is busy, for instance with memory, and goes on at once.
    return state == "S" and call != "running" and int(call) not in (futex, -1)


def wait_until_blocked(thread):
    eventually(lambda: not thread.is_alive() or is_blocked(thread.native_id), "blocking")


class Background(threading.Thread):
    """Runs a call in another thread; result() gives back what it returned or raised."""

    def __init__(self, call, *arguments):
        super().__init__(daemon=True)
        self.call, self.arguments = call, arguments
        self.value = self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.call(*self.arguments)
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(PATIENCE)
        assert not self.is_alive(), f"{self.call} is still blocked after {PATIENCE} s"
        if self.error is not None:
            raise self.error
        return self.value


@contextlib.contextmanager
def signal_once_blocked(signal_number=signal.SIGINT):
    """Send a signal to this process as soon as its main thread blocks inside the with block."""
    main = threading.main_thread()
    left = threading.Event()

    def send():
        eventually(lambda: left.is_set() or is_blocked(main.native_id), "blocking")
        if not left.is_set():
            os.kill(os.getpid(), signal_number)

    sender = Background(send)
    try:
        yield
    finally:
        left.set()
        sender.result()


@contextlib.contextmanager
def handling(signal_number, handler):
    before = signal.signal(signal_number, handler)
    try:
        yield
    finally:
        signal.signal(signal_number, before)


@contextlib.contextmanager
def alarms(handler, first, interval=0.0):
    """Let a timer call the handler, once or again and again, until the with block ends."""
    with handling(signal.SIGALRM, handler):
        signal.setitimer(signal.ITIMER_REAL, first, interval)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


# The wire, written out a second time and independently of the package


def frame(payload):
    return b"\x54" + struct.pack("!L", len(payload)) + payload


def frame_v2(payload):
    head = b"\xd2\x20" + bytes(6) + struct.pack("!Q", len(payload))
    return (head + payload).ljust(128, b"\0")


def read_exactly(sock, count):
    pieces = []
    while count:
        piece = sock.recv(min(count, 1 << 20))
        if not piece:
            raise AssertionError(f"the stream ended {count} bytes too early")
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def read_frame(sock):
    header = read_exactly(sock, 5)
    assert header[:1] == b"\x54", f"no frame starts with {header!r}"
    return read_exactly(sock, struct.unpack("!L", header[1:])[0])


def read_to_end(sock):
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while True:
            piece = sock.recv(1 << 20)
            if not piece:
                break
            pieces.append(piece)
    return b"".join(pieces)


def drain_end(duct):
    """All messages that are left, and the error that ended them."""
    messages = []
    while True:
        try:
            messages.append(duct.recv())
        except EOFError as end:
            return messages, end


def send_insistently(duct, message):
    """Send, however often it times out before the first byte."""

    def send():
        try:
            duct.send(message)
        except socket.timeout:
            return False
        return True

    eventually(send, "the sending")


# Generated cases

LONG = "DUCTWORKS_TEST_LONG" in os.environ  # make test-all


def examples(count):
    """How many examples of a property a run tries: a long one ten times as many."""
    return 10 * count if LONG else count


# Names of tests


def stable_repr(value):
    """repr() without addresses: each worker must collect tests of the same names."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


# Serializers that leave bytes alone


def raw_bytes(payload):
    return payload


RAW = {"serialize": raw_bytes, "deserialize": bytes}


# Pickles


def is_harmless(message):
    """Whether the pickle module can be given this. What comes of looking a name up depends on the
    import system. For a place in the memo it takes 16 bytes times its number, and fills them."""
    try:
        for opcode, argument, _ in pickletools.genops(bytes(message)):
            if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
                return False
            if opcode.name in ("PUT", "LONG_BINPUT") and argument > 1000:
                return False
    except Exception:  # It goes no further, and neither does the pickle module.
        return True
    return True


# Transports


class Unix:
    name = "unix"
    family = socket.AF_UNIX

    def parent(self, **options):
        return MessageDuctParent.psuedo_anonymous_parent_duct(**options)

    def child(self, address, **options):
        return MessageDuctChild.psuedo_anonymous_child_duct(address, **options)

    @contextlib.contextmanager
    def listener(self):
        directory = tempfile.mkdtemp()
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(os.path.join(directory, "listener"))
                sock.listen()
                yield sock
        finally:
            shutil.rmtree(directory)


class Tcp:
    name = "tcp"
    family = socket.AF_INET

    def parent(self, **options):
        return MessageDuctParent.psuedo_anonymous_tcp_parent_duct("127.0.0.1", **options)

    def child(self, address, **options):
        return MessageDuctChild.psuedo_anonymous_tcp_child_duct(address[0], address[1], **options)

    @contextlib.contextmanager
    def listener(self):
        with socket.socket(socket.AF_INET) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            yield sock


TRANSPORTS = {"unix": Unix(), "tcp": Tcp()}


def connected_pair(transport, parent_options=None, **options):
    parent = transport.parent(**{**options, **(parent_options or {})})
    parent.bind()
    child = transport.child(parent.listener_address, **options)
    child.connect()
    assert parent.listen()
    return parent, child


def wired(transport, role="parent", small_buffers=False, **options):
    """A duct and the plain socket at its other end."""
    plain = socket.socket(transport.family)
    if role == "parent":
        duct = transport.parent(**options)
        duct.bind()
        if small_buffers:
            shrink_buffers(plain)
        plain.connect(duct.listener_address)
        assert duct.listen()
    else:
        plain.close()
        with transport.listener() as listener:
            if small_buffers:
                shrink_buffers(listener)
            duct = transport.child(listener.getsockname(), **options)
            duct.connect()
            plain, _ = listener.accept()
    plain.settimeout(PATIENCE)
    if small_buffers:
        with same_socket(duct) as sock:
            shrink_buffers(sock)
    return duct, plain


def shrink_buffers(sock):
    is_tcp = sock.family == socket.AF_INET
    # With less, TCP waits for timers when it is full: once, for minutes.
    size = 16 * 1024 if is_tcp else 4096
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    if is_tcp:
        # It would also wait for segments of 64 KiB, the loopback's.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 600)


def descriptor(duct):
    """fileno(), under the name that the published original has too."""
    return duct.get_conn_file_descriptor()


@contextlib.contextmanager
def same_socket(duct):
    """A second handle on the duct's socket, to ask the kernel about it."""
    with socket.socket(fileno=os.dup(descriptor(duct))) as sock:
        yield sock


def unread_bytes(duct):
    """How many bytes wait in the kernel for this duct."""
    count = fcntl.ioctl(descriptor(duct), termios.FIONREAD, struct.pack("i", 0))
    return struct.unpack("i", count)[0]


def raw_pair(timeout=PATIENCE):
    directory = tempfile.mkdtemp()
    try:
        parent = RawDuctParent(os.path.join(directory, "duct"), timeout=timeout)
        parent.bind()
        child = RawDuctChild(parent.listener_address, timeout=timeout)
        child.connect()
        assert parent.listen()
        return parent, child
    finally:
        shutil.rmtree(directory)
