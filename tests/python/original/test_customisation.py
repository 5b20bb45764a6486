"""What users may put in: socket constructors and destructors, raw ducts."""

import collections
import socket
import ssl

import pytest
from ductworks.base_duct import (
    RawDuctChild,
    RawDuctParent,
    client_socket_destructor,
    tcp_socket_constructor,
    tcp_socket_listener_destructor,
    unix_domain_socket_constructor,
    unix_domain_socket_listener_destructor,
)
from ductworks.message_duct import (
    MessageDuctChild,
    MessageDuctParent,
    RemoteDuctClosed,
    default_serializer,
)
from support import (
    PATIENCE,
    Background,
    frame,
    same_socket,
)

# Constructors and destructors


class Recorder:
    """Wraps a constructor or destructor and remembers what passed through it."""

    def __init__(self, function):
        self.function = function
        self.calls = []

    def __call__(self, *arguments, **keywords):
        result = self.function(*arguments, **keywords)
        self.calls.append((arguments, keywords, result))
        return result


def test_constructors_make_the_sockets_and_destructors_end_them(tmp_path, closing):
    constructor = Recorder(unix_domain_socket_constructor)
    listener_destructor = Recorder(unix_domain_socket_listener_destructor)
    connection_destructor = Recorder(client_socket_destructor)
    parent = RawDuctParent(
        str(tmp_path / "duct"), constructor, listener_destructor, connection_destructor
    )
    child_constructor = Recorder(unix_domain_socket_constructor)
    child_destructor = Recorder(client_socket_destructor)
    child = RawDuctChild(str(tmp_path / "duct"), child_constructor, child_destructor)
    closing(parent, child)

    parent.bind()
    child.connect()
    assert parent.listen()
    assert len(constructor.calls) == len(child_constructor.calls) == 1
    ((listener,), keywords, _) = listener_destructor.calls[0]
    assert listener is constructor.calls[0][2]
    assert keywords == {"shutdown": True}
    assert not connection_destructor.calls

    parent.close()
    child.close()
    child.close()
    assert [keywords for _, keywords, _ in connection_destructor.calls] == [{"shutdown": False}]
    assert [keywords for _, keywords, _ in child_destructor.calls] == [{"shutdown": False}]
    assert child_destructor.calls[0][0][0] is child_constructor.calls[0][2]


def test_close_before_the_connection_ends_the_listener_once(tmp_path):
    destructor = Recorder(unix_domain_socket_listener_destructor)
    parent = RawDuctParent(str(tmp_path / "duct"), server_listener_socket_destructor=destructor)
    parent.bind()
    parent.close()
    parent.close()
    assert len(destructor.calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_options_that_a_constructor_sets_stay_set(tmp_path, closing):
    def with_large_buffer():
        sock = socket.socket(socket.AF_UNIX)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 77_777)
        return sock

    parent = MessageDuctParent(RawDuctParent(str(tmp_path / "duct"), with_large_buffer))
    child = MessageDuctChild(RawDuctChild(str(tmp_path / "duct"), with_large_buffer))
    connect(parent, child, closing)
    with same_socket(child) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 77_777


def connect(parent, child, closing):
    closing(parent, child)
    listening = Background(parent.listen)
    while parent.listener_address is None:
        assert listening.is_alive(), listening.result()
    child.connect()
    assert listening.result()


def assert_talk(parent, child, messages=("hello", {"n": [1, 2]}, "x" * 300_000)):
    for one, other in ((parent, child), (child, parent)):
        for message in messages:
            sender = Background(one.send, message)
            assert other.recv() == message
            sender.result()


class ScramblingSocket:
    """Not a socket.socket, but does all that one does, with every bit turned over on the wire."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __getattr__(self, name):
        return getattr(self.wrapped, name)

    def accept(self):
        connection, address = self.wrapped.accept()
        return ScramblingSocket(connection), address

    def send(self, data, *flags):
        return self.wrapped.send(turn_over(data), *flags)

    def sendall(self, data, *flags):
        return self.wrapped.sendall(turn_over(data), *flags)

    def recv(self, count, *flags):
        return turn_over(self.wrapped.recv(count, *flags))

    def recv_into(self, buffer, *arguments):
        count = self.wrapped.recv_into(buffer, *arguments)
        with memoryview(buffer).cast("B") as view:
            view[:count] = turn_over(view[:count])
        return count


def turn_over(data):
    return bytes(data).translate(bytes(range(255, -1, -1)))


@pytest.mark.parametrize("family", ["unix", "tcp"])
def test_sockets_of_any_class_are_used_through_their_own_methods(tmp_path, closing, family):
    if family == "unix":
        address = str(tmp_path / "duct")
        parent = RawDuctParent(address, lambda: ScramblingSocket(unix_domain_socket_constructor()))
    else:
        parent = RawDuctParent(
            ("127.0.0.1", 0),
            lambda: ScramblingSocket(tcp_socket_constructor()),
            tcp_socket_listener_destructor,
        )
    parent.bind()
    plain = RawDuctChild(
        parent.listener_address,
        unix_domain_socket_constructor if family == "unix" else tcp_socket_constructor,
    )
    plain.connect()
    assert parent.listen()
    closing(parent, plain)
    duct = MessageDuctParent(parent)
    duct.send("hidden")
    assert turn_over(plain.recv(100)) == frame(b'"hidden"')
    plain.send(turn_over(frame(b'"seen"')))
    assert duct.poll(PATIENCE) is True
    assert duct.recv() == "seen"


def test_both_ends_may_use_sockets_of_their_own_class(tmp_path, closing):
    def construct():
        return ScramblingSocket(unix_domain_socket_constructor())

    parent = MessageDuctParent(RawDuctParent(str(tmp_path / "duct"), construct))
    child = MessageDuctChild(RawDuctChild(str(tmp_path / "duct"), construct))
    connect(parent, child, closing)
    assert_talk(parent, child)
    child.close()
    with pytest.raises(RemoteDuctClosed):
        parent.recv()


def test_ducts_run_over_tls_sockets(closing):
    # A cipher without certificates keeps keys out of the tests; it ends with TLS 1.2.
    def context(side):
        made = ssl.SSLContext(side)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
        return made

    server = context(ssl.PROTOCOL_TLS_SERVER)
    client = context(ssl.PROTOCOL_TLS_CLIENT)
    parent = MessageDuctParent(
        RawDuctParent(
            ("127.0.0.1", 0),
            lambda: server.wrap_socket(tcp_socket_constructor(), server_side=True),
            tcp_socket_listener_destructor,
        )
    )
    parent.bind()
    child = MessageDuctChild(
        RawDuctChild(parent.listener_address, lambda: client.wrap_socket(tcp_socket_constructor()))
    )
    connect(parent, child, closing)
    child.send("first")
    assert parent.poll(PATIENCE) is True
    # Several messages may lie decrypted in memory, where no select sees them.
    child.send("second")
    child.send("third")
    assert [parent.recv(), parent.recv(), parent.recv()] == ["first", "second", "third"]
    assert_talk(parent, child)


# Raw ducts


class MemoryDuct:
    """Has the methods of a raw duct and no socket at all; gives and takes a few bytes at a time."""

    bind_address = listener_address = connect_address = "memory"

    def __init__(self, incoming, outgoing, stutter=False):
        self.incoming, self.outgoing = incoming, outgoing
        self.stutter = stutter
        self.calls = collections.Counter()

    def bind(self, listen_queue_depth=1):
        self.calls["bind"] += 1

    def listen(self, timeout=60):
        self.calls["listen"] += 1
        return True

    def connect(self, connect_retry_count=3, connect_retry_delay=3):
        self.calls["connect"] += 1

    def interrupt_every_other_call(self):
        self.calls["transfers"] += 1
        if self.stutter and self.calls["transfers"] % 2:
            raise socket.timeout("not now")

    def send(self, byte_array, flags=None):
        self.interrupt_every_other_call()
        piece = bytes(byte_array[:3])
        self.outgoing.extend(piece)
        return len(piece)

    def recv(self, buff_size, flags=None):
        self.interrupt_every_other_call()
        piece = bytes(self.incoming[: min(buff_size, 3)])
        del self.incoming[: len(piece)]
        return piece

    def recv_into(self, buffer, recv_num_bytes=None, flags=None):
        count = len(buffer) if recv_num_bytes is None else recv_num_bytes
        piece = self.recv(count)
        buffer[: len(piece)] = piece
        return len(piece)

    def poll(self, timeout=60):
        self.calls["poll"] += 1
        return bool(self.incoming)

    def fileno(self):
        return 4711

    get_conn_file_descriptor = fileno

    def close(self, shutdown=False):
        self.calls["close"] += 1


def memory_pair(**options):
    one, other = bytearray(), bytearray()
    return MemoryDuct(one, other, **options), MemoryDuct(other, one, **options)


def test_any_object_with_the_methods_of_a_raw_duct_will_do():
    raw_parent, raw_child = memory_pair()
    parent, child = MessageDuctParent(raw_parent), MessageDuctChild(raw_child)
    parent.bind()
    assert parent.listen() is True
    child.connect()
    assert (parent.bind_address, parent.listener_address) == ("memory", "memory")
    assert child.connect_address == "memory"
    assert parent.get_conn_file_descriptor() == 4711
    assert parent.socket_duct is raw_parent
    assert_memory_talk(parent, child)
    parent.close()
    assert raw_parent.calls["close"] >= 1
    assert [raw_parent.calls[name] for name in ("bind", "listen")] == [1, 1]
    assert raw_child.calls["connect"] == 1


def assert_memory_talk(parent, child):
    parent.send({"some": "message"})
    parent.send("and more")
    assert child.poll(0) is True
    assert child.recv() == {"some": "message"}
    assert child.recv() == "and more"
    assert child.poll(0) is False
    with pytest.raises(RemoteDuctClosed):
        child.recv()


def test_a_raw_duct_that_times_out_all_the_time_loses_nothing():
    raw_parent, raw_child = memory_pair(stutter=True)
    parent, child = MessageDuctParent(raw_parent), MessageDuctChild(raw_child)

    def insist(call):
        while True:
            try:
                return call()
            except socket.timeout:
                continue

    messages = ["first", list(range(10)), "last"]
    for message in messages:
        insist(lambda message=message: parent.send(message))
    while len(raw_parent.outgoing) < sum(5 + len(default_serializer(m)) for m in messages):
        insist(lambda: parent.poll(0))
    assert [insist(child.recv) for _ in messages] == messages


def test_methods_that_a_subclass_of_a_raw_duct_overrides_are_used(tmp_path, closing):
    counted = collections.Counter()

    class CountingChild(RawDuctChild):
        def send(self, byte_array, flags=None):
            sent = super().send(byte_array, flags)
            counted["sent"] += sent
            return sent

        def recv(self, buff_size, flags=None):
            data = super().recv(buff_size, flags)
            counted["received"] += len(data)
            return data

        def recv_into(self, buffer, recv_num_bytes=None, flags=None):
            count = super().recv_into(buffer, recv_num_bytes, flags)
            counted["received"] += count
            return count

    parent = MessageDuctParent(RawDuctParent(str(tmp_path / "duct")))
    child = MessageDuctChild(CountingChild(str(tmp_path / "duct")))
    connect(parent, child, closing)
    child.send("four")
    assert parent.recv() == "four"
    parent.send("three")
    assert child.recv() == "three"
    assert counted == {"sent": 5 + 6, "received": 5 + 7}
