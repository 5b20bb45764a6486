"""multiprocessing.connection and ductworks.connection side by side: the same code against both.

docs/multiprocessing.md has a row for each of these. Where the two differ, the test is of ours, or
says what each does.
"""

import array
import concurrent.futures
import contextlib
import fcntl
import gc
import multiprocessing
import multiprocessing.connection as stock
import multiprocessing.managers
import os
import pickle
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from multiprocessing import reduction
from pathlib import Path

import ductworks.connection as ours
import pytest
from support import (
    PATIENCE,
    SHORT,
    eventually,
    handling,
    signal_once_blocked,
    wait_until_blocked,
)

SIZES = [0, 1, 255, 16383, 16384, 16385, 65535, 65536, 65537, 1 << 20, 5_500_000]


@pytest.fixture(params=[stock, ours], ids=["stock", "ours"])
def api(request):
    return request.param


@pytest.fixture
def ends(api):
    a, b = api.Pipe()
    with a, b:
        yield a, b


@pytest.fixture
def one_way(api):
    reader, writer = api.Pipe(duplex=False)
    with reader, writer:
        yield reader, writer


@contextlib.contextmanager
def raw_peer(api):
    """A connection, and the plain socket at its other end."""
    mine, theirs = socket.socketpair()
    with theirs, api.Connection(mine.detach()) as connection:
        theirs.settimeout(PATIENCE)
        yield connection, theirs


def head(size):
    return struct.pack("!i", size)


def in_thread(operation):
    thread = threading.Thread(target=operation, daemon=True)
    thread.start()
    return thread


def refusal_of(call):
    try:
        call()
    except Exception as error:
        return type(error), str(error), getattr(error, "errno", None)
    raise AssertionError("it was not refused")


# Messages


@pytest.mark.parametrize("size", SIZES)
def test_bytes_cross(ends, size):
    a, b = ends
    data = os.urandom(size)
    sender = in_thread(lambda: a.send_bytes(data))
    received = b.recv_bytes()
    sender.join(PATIENCE)
    assert type(received) is bytes
    assert received == data


def test_objects_cross_both_ways(ends):
    a, b = ends
    for value in (None, 1, "text", b"bytes", [1, {"a": (2.5, {3})}], Exception("x").args, Shape):
        a.send(value)
        assert b.recv() == value
        b.send(value)
        assert a.recv() == value


class Shape:
    pass


@pytest.mark.parametrize("size", [0, 1000, 16384, 16385, 100_000])
def test_the_wire_is_a_length_and_the_payload(api, size):
    with raw_peer(api) as (connection, peer):
        data = bytes(size)
        sender = in_thread(lambda: connection.send_bytes(data))
        with peer.makefile("rb") as stream:
            assert stream.read(4 + size) == head(size) + data
        sender.join(PATIENCE)
        peer.sendall(head(3) + b"abc")
        assert connection.recv_bytes() == b"abc"


def test_a_long_head_is_understood(api):
    with raw_peer(api) as (connection, peer):
        peer.sendall(struct.pack("!iQ", -1, 5) + b"after")
        assert connection.recv_bytes() == b"after"


def test_the_ends_of_a_pipe_know_each_other_in_an_executed_child(api):
    program = f"""
import sys
import tempfile
from {api.__name__} import Connection
with Connection(int(sys.argv[1])) as connection:
    while True:
        try:
            connection.send(connection.recv())
        except EOFError:
            break
"""
    a, b = api.Pipe()
    command = [sys.executable, "-c", program, str(b.fileno())]
    with subprocess.Popen(command, pass_fds=[b.fileno()]) as child, a:
        b.close()
        numbers = array.array("d", [1.5] * 9000)
        for value in ("short", ["x" * 123], b"y" * 124, "z" * 100_000, numbers):
            a.send(value)
            assert a.recv() == value
        a.close()
        assert child.wait(PATIENCE) == 0


def test_a_stock_connection_may_be_at_the_other_end():
    mine, theirs = socket.socketpair()
    with ours.Connection(mine.detach()) as a, stock.Connection(theirs.detach()) as b:
        for value in (None, {"key": [1.5, "x" * 100]}, b"y" * 200_000):
            sender = in_thread(lambda value=value: a.send(value))
            assert b.recv() == value
            sender.join(PATIENCE)
            sender = in_thread(lambda value=value: b.send(value))
            assert a.recv() == value
            sender.join(PATIENCE)


@pytest.mark.parametrize(
    "data",
    [
        bytearray(b"array"),
        memoryview(b"view"),
        array.array("i", range(50)),
        memoryview(array.array("d", [1.5, 2.5])),
    ],
    ids=lambda data: type(data).__name__,
)
def test_whatever_is_bytes_like_can_be_sent(ends, data):
    a, b = ends
    a.send_bytes(data)
    assert b.recv_bytes() == bytes(data)


def test_a_part_of_a_buffer_can_be_sent(ends):
    a, b = ends
    data = bytes(range(100))
    for arguments in ((10,), (10, 5), (0, 0), (100,), (99, 1), (0, 100), (0, None)):
        a.send_bytes(data, *arguments)
        offset, size = (*arguments, None)[:2]
        expected = data[offset:] if size is None else data[offset : offset + size]
        assert b.recv_bytes() == expected
    a.send_bytes(array.array("h", [1, 2, 3]), offset=2, size=2)  # Both count bytes.
    assert b.recv_bytes() == array.array("h", [2]).tobytes()


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ((b"abc", -1), ValueError, "offset is negative"),
        ((b"abc", 4), ValueError, "buffer length < offset"),
        ((b"abc", 0, -1), ValueError, "size is negative"),
        ((b"abc", 0, 4), ValueError, "buffer length < offset + size"),
        ((b"abc", 2, 2), ValueError, "buffer length < offset + size"),
        (("text",), TypeError, None),
        ((5,), TypeError, None),
    ],
)
def test_bad_arguments_of_send_bytes_are_refused(ends, arguments, kind, text):
    a, b = ends
    found, message, _ = refusal_of(lambda: a.send_bytes(*arguments))
    assert found is kind
    assert text is None or message == text
    a.send_bytes(b"next")
    assert b.recv_bytes() == b"next"


def test_a_message_can_be_received_into_a_buffer(ends):
    a, b = ends
    place = bytearray(10)
    a.send_bytes(b"abc")
    assert b.recv_bytes_into(place) == 3
    a.send_bytes(b"de")
    assert b.recv_bytes_into(place, 8) == 2
    assert place == b"abc\0\0\0\0\0de"
    numbers = array.array("i", [0] * 4)
    a.send_bytes(array.array("i", [7, 8]))
    assert b.recv_bytes_into(numbers, numbers.itemsize) == 2 * numbers.itemsize
    assert list(numbers) == [0, 7, 8, 0]


@pytest.mark.parametrize("size", [0, 100, 100_000, 3_000_000])
def test_a_message_of_any_size_can_be_received_into_a_buffer(ends, size):
    a, b = ends
    data, place = os.urandom(size), bytearray(size)
    sender = in_thread(lambda: a.send_bytes(data))
    assert b.recv_bytes_into(place) == size
    sender.join(PATIENCE)
    assert place == data


@pytest.mark.parametrize(("offset", "text"), [(-1, "negative offset"), (11, "offset too large")])
def test_bad_offsets_of_recv_bytes_into_are_refused(ends, offset, text):
    a, b = ends
    a.send_bytes(b"abc")
    assert refusal_of(lambda: b.recv_bytes_into(bytearray(10), offset)) == (ValueError, text, None)
    assert b.recv_bytes() == b"abc"


@pytest.mark.parametrize("size", [11, 100_000])
def test_a_buffer_too_short_gives_the_whole_message(ends, size):
    a, b = ends
    data = os.urandom(size)
    for place, offset in ((bytearray(10), 0), (bytearray(size), 1)):
        sender = in_thread(lambda: a.send_bytes(data))
        with pytest.raises(multiprocessing.BufferTooShort) as refusal:
            b.recv_bytes_into(place, offset)
        sender.join(PATIENCE)
        assert refusal.value.args == (data,)
    a.send("next")
    assert b.recv() == "next"


def test_a_read_only_buffer_is_refused_and_the_message_kept():
    a, b = ours.Pipe()
    with a, b:
        a.send_bytes(b"abc")
        with pytest.raises(TypeError):
            b.recv_bytes_into(b"constant")
        assert b.recv_bytes() == b"abc"


def test_a_maximum_length_admits_what_fits(ends):
    a, b = ends
    for most in (3, 4, 2**40):
        a.send_bytes(b"abc")
        assert b.recv_bytes(most) == b"abc"
    a.send_bytes(b"")
    assert b.recv_bytes(0) == b""
    assert refusal_of(lambda: b.recv_bytes(-1)) == (ValueError, "negative maxlength", None)


def test_a_longer_message_than_the_maximum_ends_receiving(ends):
    a, b = ends
    a.send_bytes(b"abcd")
    assert refusal_of(lambda: b.recv_bytes(3)) == (OSError, "bad message length", None)
    assert not b.readable
    assert b.writable
    assert refusal_of(b.recv) == (OSError, "connection is write-only", None)
    b.send("still")
    assert a.recv() == "still"


def test_a_longer_message_than_the_maximum_closes_an_end_that_only_receives(one_way):
    reader, writer = one_way
    writer.send_bytes(b"abcd")
    assert refusal_of(lambda: reader.recv_bytes(3)) == (OSError, "bad message length", None)
    assert reader.closed


def test_what_cannot_be_pickled_is_not_sent(ends):
    a, b = ends
    for value in (lambda: None, threading.Lock(), [1, 2, threading.Lock()]):
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            a.send(value)
    a.send("next")
    assert b.recv() == "next"


def test_what_cannot_be_unpickled_is_gone(ends):
    a, b = ends
    a.send_bytes(b"no pickle")
    a.send(Unpicklable())
    a.send("next")
    with pytest.raises(pickle.UnpicklingError):
        b.recv()
    with pytest.raises(LookupError, match="unpicklable"):
        b.recv()
    assert b.recv() == "next"


class Unpicklable:
    def __reduce__(self):
        return fail, ()


def fail():
    raise LookupError("unpicklable")


def test_reducers_that_are_registered_are_used(ends):
    a, b = ends
    reduction.register(Registered, lambda registered: (Registered, (registered.value + 1,)))
    a.send([Registered(1)])
    assert b.recv()[0].value == 2


class Registered:
    def __init__(self, value):
        self.value = value


# Ends


def test_one_way_ends_have_one_direction(one_way):
    reader, writer = one_way
    assert (reader.readable, reader.writable) == (True, False)
    assert (writer.readable, writer.writable) == (False, True)
    writer.send("x")
    assert reader.recv() == "x"
    read_only = (OSError, "connection is read-only", None)
    write_only = (OSError, "connection is write-only", None)
    assert refusal_of(lambda: reader.send(1)) == read_only
    assert refusal_of(lambda: reader.send_bytes(b"")) == read_only
    assert refusal_of(writer.recv) == write_only
    assert refusal_of(writer.recv_bytes) == write_only
    assert refusal_of(lambda: writer.recv_bytes_into(bytearray(1))) == write_only
    assert refusal_of(writer.poll) == write_only


def test_a_closed_end_says_so(ends):
    a, _ = ends
    assert not a.closed
    a.close()
    a.close()
    assert a.closed
    closed = (OSError, "handle is closed", None)
    place = bytearray(1)
    for call in (
        a.recv,
        a.recv_bytes,
        a.poll,
        a.fileno,
        lambda: a.send(1),
        lambda: a.send_bytes(b""),
        lambda: a.recv_bytes_into(place),
    ):
        assert refusal_of(call) == closed


def test_the_checks_come_in_their_order(one_way):
    reader, writer = one_way
    # Direction before arguments, and before pickling.
    assert refusal_of(lambda: reader.send_bytes("text"))[1] == "connection is read-only"
    assert refusal_of(lambda: reader.send(threading.Lock()))[1] == "connection is read-only"
    assert refusal_of(lambda: writer.recv_bytes(-1))[1] == "connection is write-only"
    reader.close()
    writer.close()
    # And before that, whether it is closed.
    assert refusal_of(lambda: reader.send_bytes("text"))[1] == "handle is closed"
    assert refusal_of(lambda: writer.recv_bytes(-1))[1] == "handle is closed"


def test_the_end_is_an_eof_error_every_time(ends):
    a, b = ends
    a.send("last")
    a.close()
    assert b.recv() == "last"
    for call in (b.recv, b.recv_bytes, lambda: b.recv_bytes_into(bytearray(1)), b.recv):
        with pytest.raises(EOFError) as end:
            call()
        assert end.value.args == ()
    assert not b.closed


def test_sending_to_an_end_that_is_gone_is_a_broken_pipe(ends):
    a, b = ends
    b.close()
    for call in (lambda: a.send(1), lambda: a.send_bytes(bytes(100_000))):
        with pytest.raises(BrokenPipeError):
            call()


def test_an_end_in_the_middle_of_a_message_is_told_apart(api):
    with raw_peer(api) as (connection, peer):
        peer.sendall(head(10) + b"half")
        peer.close()
        refusal = (OSError, "got end of file during message", None)
        assert refusal_of(connection.recv_bytes) == refusal


def test_a_context_manager_closes(api):
    a, b = api.Pipe()
    with a as entered:
        assert entered is a
        b.send(1)
    assert a.closed
    with a:  # As multiprocessing: entering a closed one is no error.
        pass
    with b, contextlib.suppress(LookupError):
        raise LookupError
    assert b.closed


def test_an_end_that_nobody_has_any_more_is_closed(api):
    a, b = api.Pipe()
    number = a.fileno()
    del a
    gc.collect()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)
    with b, pytest.raises(EOFError):
        b.recv()


def test_a_connection_takes_a_descriptor_over(api):
    mine, theirs = socket.socketpair()
    with theirs:
        connection = api.Connection(mine.detach())
        number = connection.fileno()
        connection.close()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(number)


def test_what_is_no_descriptor_is_refused(api):
    assert refusal_of(lambda: api.Connection(-1)) == (ValueError, "invalid handle", None)
    text = "at least one of `readable` and `writable` must be True"
    assert refusal_of(lambda: api.Connection(0, False, False)) == (ValueError, text, None)


def test_a_connection_may_be_over_pipes(api):
    reader, writer = os.pipe()
    with api.Connection(reader, writable=False) as r, api.Connection(writer, readable=False) as w:
        assert not r.poll()
        for size in (0, 5, 4096, 300_000):
            data = os.urandom(size)
            sender = in_thread(lambda data=data: w.send_bytes(data))
            assert r.poll(PATIENCE)
            assert r.recv_bytes() == data
            sender.join(PATIENCE)
        w.send({"an": "object"})
        assert r.recv() == {"an": "object"}
        w.close()
        assert r.poll()
        with pytest.raises(EOFError):
            r.recv()


def test_a_class_may_be_derived(api):
    class Counting(api.Connection):
        sent = 0

        def send(self, obj):
            self.sent += 1
            super().send(obj)

    mine, theirs = socket.socketpair()
    with Counting(mine.detach()) as a, api.Connection(theirs.detach()) as b:
        a.label = "its own"
        a.send(1)
        assert (a.sent, b.recv(), a.label) == (1, 1, "its own")


def test_plain_pickle_refuses_a_connection():
    a, b = ours.Pipe()
    with a, b, pytest.raises(TypeError, match="cannot pickle a Connection"):
        pickle.dumps(a)


# Waiting


def test_poll_waits_for_a_message(ends):
    a, b = ends
    assert b.poll() is False
    assert b.poll(0) is False
    assert b.poll(-1) is False
    assert b.poll(SHORT) is False
    sender = in_thread(lambda: a.send(1))
    assert b.poll(None) is True
    sender.join(PATIENCE)
    assert b.poll() is True
    assert b.recv() == 1
    a.close()
    assert b.poll() is True


def test_wait_takes_anything_with_a_descriptor(api):
    a, b = api.Pipe()
    left, right = socket.socketpair()
    reader, writer = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    with a, b, left, right:
        assert api.wait([b, right, reader], 0) == []
        assert api.wait([b, right, reader], SHORT) == []
        a.send(1)
        left.send(b"x")
        os.close(writer)
        process.join(PATIENCE)
        every = [b, right, process.sentinel, reader]
        assert set(api.wait(every, PATIENCE)) == set(every)
    os.close(reader)


def test_each_module_waits_for_the_connections_of_the_other():
    for waiting, making in ((stock, ours), (ours, stock)):
        a, b = making.Pipe()
        with a, b:
            assert waiting.wait([b], 0) == []
            a.send(1)
            assert waiting.wait([b], PATIENCE) == [b]


@pytest.mark.parametrize("kind", ["select", "poll", "epoll", "selectors"])
def test_the_descriptor_is_readable_whenever_a_message_waits(ends, kind):
    a, b = ends

    def readable():
        if kind == "select":
            return bool(select.select([b], [], [], 0)[0])
        if kind == "selectors":
            with selectors.DefaultSelector() as selector:
                selector.register(b, selectors.EVENT_READ)
                return bool(selector.select(0))
        poller = select.poll() if kind == "poll" else select.epoll()
        poller.register(b.fileno(), select.POLLIN)
        return bool(poller.poll(0))

    assert not readable()
    for value in range(3):
        a.send(value)
    for value in range(3):
        assert readable()
        assert b.recv() == value
    assert not readable()


def test_descriptors_block_and_are_not_inherited(ends):
    for end in ends:
        assert not os.get_inheritable(end.fileno())
        assert not fcntl.fcntl(end.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK


def test_a_signal_handler_runs_while_a_receive_waits(ends):
    a, b = ends

    def ring(*_):
        a.send("from the handler")

    with handling(signal.SIGALRM, ring), signal_once_blocked(signal.SIGALRM):
        assert b.recv() == "from the handler"


# Processes

METHODS = ["fork", "spawn", "forkserver"]


@pytest.mark.parametrize("method", METHODS)
def test_connections_are_arguments_of_a_process(api, method):
    context = multiprocessing.get_context(method)
    a, b = api.Pipe()
    reader, writer = api.Pipe(duplex=False)
    process = context.Process(target=answer, args=(b, writer), daemon=True)
    process.start()
    b.close()
    writer.close()
    with a, reader:
        a.send([1, 2, 3])
        assert a.recv() == (6, True, True)
        assert reader.recv() == (False, True)
        with pytest.raises(EOFError):
            reader.recv()
    process.join(PATIENCE)
    assert process.exitcode == 0


def answer(duplex, writer):
    duplex.send((sum(duplex.recv()), duplex.readable, duplex.writable))
    writer.send((writer.readable, writer.writable))


def test_connections_cross_connections(api):
    a, b = api.Pipe()
    c, d = api.Pipe()
    with a, b, c:
        a.send(("take this", d))
        text, received = b.recv()
        d.close()
        with received:
            received.send(text)
            assert c.recv() == "take this"


def test_descriptors_cross_connections(ends):
    a, b = ends
    reader, writer = os.pipe()
    reduction.send_handle(a, writer, os.getpid())
    received = reduction.recv_handle(b)
    os.close(writer)
    os.write(received, b"through")
    assert os.read(reader, 10) == b"through"
    os.close(received)
    os.close(reader)
    a.send("next")
    assert b.recv() == "next"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_connections_are_arguments_of_an_executors_initializer(api, method):
    a, b = api.Pipe()
    context = multiprocessing.get_context(method)
    with (
        a,
        concurrent.futures.ProcessPoolExecutor(
            1, mp_context=context, initializer=keep, initargs=(b,)
        ) as executor,
    ):
        executor.submit(use_kept, "hello").result(PATIENCE)
        assert a.recv() == "hello"
    b.close()


def keep(connection):
    global kept
    kept = connection


def use_kept(value):
    kept.send(value)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_queues_run_on_the_pipe(api, method, kind, monkeypatch):
    monkeypatch.setattr(stock, "Pipe", api.Pipe)
    context = multiprocessing.get_context(method)
    tasks, results = getattr(context, kind)(), getattr(context, kind)()
    workers = [context.Process(target=work, args=(tasks, results), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(60):
        tasks.put((number, "x" * (number * 700)))
    assert {results.get() for _ in range(60)} == {(n, n * 700) for n in range(60)}
    for _ in workers:
        tasks.put(None)
    for worker in workers:
        worker.join(PATIENCE)
        assert worker.exitcode == 0
    assert results.empty()
    for queue in (tasks, results):
        queue.close()


def work(tasks, results):
    while True:
        task = tasks.get()
        if task is None:
            return
        results.put((task[0], len(task[1])))


def test_a_pool_runs_on_the_pipe(api, monkeypatch):
    monkeypatch.setattr(stock, "Pipe", api.Pipe)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, range(-50, 50), chunksize=3) == [abs(n) for n in range(-50, 50)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_manager_runs_on_the_listener(api, method, monkeypatch):
    kinds = {**multiprocessing.managers.listener_client, "pickle": (api.Listener, api.Client)}
    monkeypatch.setattr(multiprocessing.managers, "listener_client", kinds)
    context = multiprocessing.get_context(method)
    with multiprocessing.managers.SyncManager(ctx=context) as manager:
        numbers, queue = manager.list(range(3)), manager.Queue()
        numbers.append(3)
        queue.put("through")
        assert list(numbers) == [0, 1, 2, 3]
        assert queue.get() == "through"
    # Known: in a forked child of multiprocessing, nothing runs the destructor of a Listener.
    for left in Path(tempfile.gettempdir()).glob("ductworks-*"):
        shutil.rmtree(left)


def test_processes_share_an_end_under_a_lock(api):
    context = multiprocessing.get_context("fork")
    a, b = api.Pipe()
    results, sink = api.Pipe(duplex=False)
    lock = context.Lock()
    readers = [context.Process(target=take, args=(b, sink, lock), daemon=True) for _ in range(3)]
    for reader in readers:
        reader.start()
    sent = [bytes([n % 251]) * (n * 997) for n in range(150)]

    def send():
        for message in [*sent, *[b"stop"] * len(readers)]:
            a.send_bytes(message)

    sender = in_thread(send)
    received = [results.recv_bytes() for _ in sent]
    sender.join(PATIENCE)
    for reader in readers:
        reader.join(PATIENCE)
        assert reader.exitcode == 0
    assert sorted(received) == sorted(sent)
    for end in (a, b, results, sink):
        end.close()


def take(end, sink, lock):
    while True:
        with lock:
            assert end.poll(None)
            message = end.recv_bytes()
            if message == b"stop":
                return
            sink.send_bytes(message)


def test_each_side_closes_the_end_that_it_does_not_use(api):
    context = multiprocessing.get_context("fork")
    a, b = api.Pipe()
    process = context.Process(target=until_the_end, args=(a, b), daemon=True)
    process.start()
    b.close()
    for number in range(10):
        a.send(number)
    a.close()
    process.join(PATIENCE)
    assert process.exitcode == 10


def until_the_end(unused, end):
    unused.close()
    count = 0
    with contextlib.suppress(EOFError):
        while True:
            end.recv()
            count += 1
    raise SystemExit(count)


# Where the two differ


def test_views_with_gaps_and_of_many_dimensions_can_be_sent():
    a, b = ours.Pipe()
    with a, b:
        a.send_bytes(memoryview(b"one two")[::2])
        assert b.recv_bytes() == b"oeto"
        a.send_bytes(memoryview(bytes(range(12))).cast("B", (3, 4)))
        assert b.recv_bytes() == bytes(range(12))


def test_a_negative_length_is_refused(api):
    with raw_peer(api) as (connection, peer):
        peer.sendall(head(-5) + b"abc")
        if api is stock:
            assert connection.recv_bytes() == b""
        else:
            with pytest.raises(OSError, match="expected the length of a message, got -5"):
                connection.recv_bytes()
            assert connection.closed


def test_close_wakes_whoever_receives():
    a, b = ours.Pipe()
    refusals = []
    thread = in_thread(lambda: refusals.append(refusal_of(b.recv)))
    wait_until_blocked(thread)
    b.close()
    thread.join(PATIENCE)
    assert refusals == [(OSError, "handle is closed", None)]
    a.close()


def test_an_exception_in_the_middle_of_a_message_loses_nothing(api):
    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    with raw_peer(api) as (connection, peer):
        peer.sendall(head(10) + b"first")
        with handling(signal.SIGALRM, ring), pytest.raises(Alarm):
            with signal_once_blocked(signal.SIGALRM):
                connection.recv_bytes()
        peer.sendall(b"-half" + head(4) + b"next")
        if api is ours:
            assert connection.recv_bytes() == b"first-half"
            assert connection.recv_bytes() == b"next"


def test_an_exception_in_the_middle_of_a_receive_into_a_buffer_lets_go_of_it():
    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    with raw_peer(ours) as (connection, peer):
        peer.sendall(head(10) + b"first")
        place = bytearray(10)
        with handling(signal.SIGALRM, ring), pytest.raises(Alarm):
            with signal_once_blocked(signal.SIGALRM):
                connection.recv_bytes_into(place)
        place.clear()  # A buffer that is held cannot be resized.
        peer.sendall(b"-half")
        assert connection.recv_bytes() == b"first-half"


def test_a_huge_length_takes_no_memory():
    with raw_peer(ours) as (connection, peer):
        peer.sendall(struct.pack("!iQ", -1, 2**62) + b"x" * 1000)
        peer.close()
        refusal = (OSError, "got end of file during message", None)
        assert refusal_of(connection.recv_bytes) == refusal


def test_threads_may_use_an_end_at_the_same_time():
    a, b = ours.Pipe()
    received = []
    lock = threading.Lock()

    def send(sender):
        for number in range(200):
            a.send((sender, number, bytes(number * 50)))

    def receive():
        with contextlib.suppress(EOFError):
            while True:
                message = b.recv()
                with lock:
                    received.append(message)

    receivers = [in_thread(receive) for _ in range(3)]
    for thread in [in_thread(lambda sender=sender: send(sender)) for sender in range(3)]:
        thread.join(PATIENCE)
    a.close()
    for thread in receivers:
        thread.join(PATIENCE)
    expected = {(sender, number, number * 50) for sender in range(3) for number in range(200)}
    assert {(s, n, len(payload)) for s, n, payload in received} == expected
    b.close()


def test_what_has_gone_through_is_counted():
    a, b = ours.Pipe()
    with a, b:
        a.send_bytes(b"abc")
        a.send_bytes(b"")
        b.recv_bytes()
        assert (a.stats().messages_sent, a.stats().bytes_sent, a.stats().largest_sent) == (2, 3, 3)
        assert b.stats().messages_received == 1


def test_descriptors_are_given_back(api):
    def count():
        return len(os.listdir("/proc/self/fd"))

    def use():
        for duplex in (True, False):
            a, b = api.Pipe(duplex)
            with a, b:
                b.send(1)
                a.recv()

    use()
    before = count()
    for _ in range(50):
        use()
    eventually(lambda: count() <= before, "the number of descriptors before")
