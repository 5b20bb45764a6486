"""Listener and Client of ductworks.connection: addresses, keys, and clients that misbehave."""

import contextlib
import hmac
import multiprocessing
import multiprocessing.connection as stock
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import ductworks.connection as ours
import pytest
from marks import needs_root
from support import (
    PATIENCE,
    SHORT,
    Background,
    eventually,
    handling,
    read_to_end,
    signal_once_blocked,
    wait_until_blocked,
)

KEY = b"correct horse"


@pytest.fixture(params=[stock, ours], ids=["stock", "ours"])
def api(request):
    return request.param


@contextlib.contextmanager
def client_of(listener, module=ours, **options):
    """A client that connects from another thread, since that may take the listener's part."""
    outcome = {}

    def connect():
        try:
            outcome["connection"] = module.Client(listener.address, **options)
        except Exception as error:
            outcome["error"] = error

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    try:
        yield outcome, thread
    finally:
        thread.join(PATIENCE)
        if "connection" in outcome:
            outcome["connection"].close()


def exchange(listener, module=ours, **options):
    with client_of(listener, module, **options) as (outcome, thread):
        with listener.accept() as server:
            thread.join(PATIENCE)
            client = outcome["connection"]
            client.send({"to": "server"})
            assert server.recv() == {"to": "server"}
            server.send_bytes(b"to client")
            assert client.recv_bytes() == b"to client"


# The same code against both


def test_a_client_reaches_a_listener_at_a_path(api, tmp_path):
    path = str(tmp_path / "listener")
    with api.Listener(path) as listener:
        assert listener.address == path
        exchange(listener, api)
    assert not os.path.exists(path)


def test_a_client_reaches_a_listener_at_a_port(api):
    with api.Listener(("127.0.0.1", 0)) as listener:
        host, port = listener.address
        assert host == "127.0.0.1"
        assert port > 0
        exchange(listener, api)


def test_a_listener_without_an_address_makes_one(api):
    with api.Listener() as listener:
        assert isinstance(listener.address, str)
        exchange(listener, api)
    with api.Listener(family="AF_INET") as listener:
        assert isinstance(listener.address, tuple)
        exchange(listener, api)


def test_a_key_lets_those_in_who_know_it(api):
    with api.Listener(authkey=KEY) as listener:
        exchange(listener, api, authkey=KEY)


def test_the_last_client_is_known(api):
    with api.Listener(("127.0.0.1", 0)) as listener:
        assert listener.last_accepted is None
        with client_of(listener, api) as (outcome, thread), listener.accept():
            thread.join(PATIENCE)
            with socket.socket(fileno=os.dup(outcome["connection"].fileno())) as mine:
                assert listener.last_accepted == mine.getsockname()


def test_a_closed_listener_says_so(api):
    listener = api.Listener()
    listener.close()
    listener.close()
    with pytest.raises(OSError, match=r"^listener is closed$"):
        listener.accept()


def test_a_client_of_nobody_fails_at_once(api, tmp_path):
    with pytest.raises(FileNotFoundError):
        api.Client(str(tmp_path / "nobody"))
    with socket.socket() as keeper:
        keeper.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            api.Client(keeper.getsockname())


def test_an_address_in_use_is_refused(api, tmp_path):
    path = str(tmp_path / "taken")
    with api.Listener(path), pytest.raises(OSError, match=r"[Aa]ddress already in use") as refusal:
        api.Listener(path)
    assert refusal.value.errno is not None


@pytest.mark.parametrize("make", ["Listener", "Client"])
def test_a_key_must_be_bytes(api, make, tmp_path):
    with api.Listener() as listener:
        address = listener.address if make == "Client" else str(tmp_path / "listener")
        with pytest.raises(TypeError, match=r"^authkey should be a byte string$"):
            getattr(api, make)(address, authkey="text")


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_handshake_that_may_take_no_time_is_refused_beforehand(timeout):
    with pytest.raises(ValueError, match="handshake_timeout of more than zero"):
        ours.Listener(authkey=KEY, handshake_timeout=timeout)


def test_unknown_addresses_and_families_are_refused(api):
    with pytest.raises(TypeError, match=r"^address type of 5 unrecognized$"):
        api.Client(5)
    with pytest.raises(ValueError, match=r"^address type of b'path' unrecognized$"):
        api.Client(b"path")
    with pytest.raises(ValueError, match=r"^Family AF_PIPE is not recognized\.$"):
        api.Client("\\\\.\\pipe\\name")
    with pytest.raises(ValueError, match=r"^Family AF_PIPE is not recognized\.$"):
        api.Listener(family="AF_PIPE")
    with pytest.raises(ValueError, match=r"^unrecognized family$"):
        api.Listener(family="AF_SOMETHING")


def test_a_client_with_a_wrong_key_is_told(api):
    with api.Listener(authkey=KEY) as listener:
        with client_of(listener, api, authkey=b"wrong") as (outcome, thread):
            if api is stock:
                with pytest.raises(multiprocessing.AuthenticationError):
                    listener.accept()
            else:
                with pytest.raises(TimeoutError):
                    accept_until(listener, thread)
            thread.join(PATIENCE)
        assert isinstance(outcome["error"], multiprocessing.AuthenticationError)
        assert str(outcome["error"]) == "digest sent was rejected"


def accept_until(listener, thread):
    """Listen for as long as a thread lives."""
    while True:
        alive = thread.is_alive()
        try:
            return listener.accept(timeout=SHORT)
        except TimeoutError:
            if not alive:
                raise


def test_a_listener_with_a_wrong_key_is_found_out(api):
    with api.Listener() as liar:
        with client_of(liar, api, authkey=KEY) as (outcome, thread):
            with liar.accept() as server:
                challenge(server, b"wrong")
                thread.join(PATIENCE)
        assert isinstance(outcome["error"], multiprocessing.AuthenticationError)


def challenge(server, key):
    """Play the listener's part up to the verdict, with a key that is not the client's."""
    server.send_bytes(b"#CHALLENGE#{sha256}" + os.urandom(40))
    server.recv_bytes(256)
    server.send_bytes(b"#WELCOME#")
    message = server.recv_bytes(256)[len(b"#CHALLENGE#") :]
    server.send_bytes(b"{sha256}" + hmac.new(key, message, "sha256").digest())


# Listening goes on


def connected(listener):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(listener.address)
    return peer


def frame(message):
    return struct.pack("!i", len(message)) + message


def nothing(peer):
    """Says nothing."""


def half_a_header(peer):
    peer.sendall(b"\0\0")


def half_a_message(peer):
    peer.sendall(struct.pack("!i", 40) + b"{sha256}")


def a_wrong_answer(peer):
    peer.sendall(frame(b"{sha256}" + bytes(32)))


def an_unknown_digest(peer):
    peer.sendall(frame(b"{sha1}" + bytes(20)))


def the_challenge_itself(peer):
    head = peer.recv(4, socket.MSG_WAITALL)
    message = peer.recv(*struct.unpack("!i", head), socket.MSG_WAITALL)
    peer.sendall(frame(message))


def a_welcome(peer):
    peer.sendall(frame(b"#WELCOME#"))


def a_negative_length(peer):
    peer.sendall(struct.pack("!i", -2))


def a_huge_length(peer):
    peer.sendall(struct.pack("!iQ", -1, 2**63))


def a_megabyte_of_rubbish(peer):
    peer.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while peer.send(b"\0\0\0\x04" * 1000):
            pass


def an_end(peer):
    peer.close()


def a_message_of_the_duct_protocol(peer):
    peer.sendall(b"\x54\0\0\0\x02{}")


STRANGERS = [
    nothing,
    half_a_header,
    half_a_message,
    a_wrong_answer,
    an_unknown_digest,
    the_challenge_itself,
    a_welcome,
    a_negative_length,
    a_huge_length,
    a_megabyte_of_rubbish,
    an_end,
    a_message_of_the_duct_protocol,
]


@pytest.mark.parametrize("behaviour", STRANGERS, ids=lambda behaviour: behaviour.__name__)
def test_an_honest_client_gets_in_beside_one_that_sends(behaviour):
    with ours.Listener(authkey=KEY, backlog=8, handshake_timeout=PATIENCE) as listener:
        accepted = []
        thread = threading.Thread(target=lambda: accepted.append(listener.accept()), daemon=True)
        thread.start()
        with connected(listener) as stranger:
            behaviour(stranger)
            with ours.Client(listener.address, authkey=KEY) as client:
                thread.join(PATIENCE)
                client.send("in")
                assert accepted[0].recv() == "in"
                accepted[0].close()


@pytest.mark.parametrize("behaviour", [nothing, half_a_header, half_a_message])
def test_a_client_that_does_not_finish_is_turned_away_in_time(behaviour):
    with ours.Listener(authkey=KEY, handshake_timeout=SHORT) as listener:
        with connected(listener) as stranger:
            behaviour(stranger)
            stranger.settimeout(PATIENCE)
            # What it is told, and then the end.
            hearing = Background(read_to_end, stranger)
            with pytest.raises(TimeoutError):
                accept_until(listener, hearing)
            hearing.result()


def test_an_honest_client_gets_in_beside_sixty_four_stalled_ones():
    with ours.Listener(authkey=KEY, backlog=100, handshake_timeout=PATIENCE) as listener:
        with contextlib.ExitStack() as stack:
            for _ in range(64):
                stack.enter_context(connected(listener))
            with client_of(listener, authkey=KEY) as (outcome, thread), listener.accept():
                thread.join(PATIENCE)
                assert "connection" in outcome


def test_a_stalled_client_takes_next_to_no_memory():
    with ours.Listener(authkey=KEY, backlog=100, handshake_timeout=PATIENCE) as listener:
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                peer = stack.enter_context(connected(listener))
                peer.sendall(struct.pack("!iQ", -1, 200))
            with pytest.raises(TimeoutError):
                listener.accept(timeout=SHORT)
            before = resident()
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    listener.accept(timeout=SHORT / 10)
            assert resident() - before < 1 << 20


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("part", [b"", b"\0", struct.pack("!i", -2), frame(b"hello")])
def test_a_client_does_not_wait_for_ever_for_a_listener_that_says(part, tmp_path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        thread = threading.Thread(target=lambda: silent.accept()[0].sendall(part), daemon=True)
        thread.start()
        errors = (TimeoutError, EOFError, ConnectionError, multiprocessing.AuthenticationError)
        with pytest.raises(errors):
            ours.Client(str(tmp_path / "silent"), authkey=KEY, handshake_timeout=SHORT)
        thread.join(PATIENCE)


# Waiting


def test_accept_gives_up_in_time():
    for options in ({}, {"authkey": KEY}):
        with ours.Listener(**options) as listener:
            begin = time.monotonic()
            with pytest.raises(TimeoutError):
                listener.accept(timeout=SHORT)
            assert time.monotonic() - begin >= SHORT


@pytest.mark.parametrize("options", [{}, {"authkey": KEY}])
def test_close_wakes_whoever_accepts(options):
    listener = ours.Listener(**options)
    errors = []

    def accept():
        try:
            listener.accept()
        except OSError as error:
            errors.append(str(error))

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    wait_until_blocked(thread)
    listener.close()
    thread.join(PATIENCE)
    assert errors == ["listener is closed"]


@pytest.mark.parametrize("options", [{}, {"authkey": KEY}])
def test_a_signal_handler_ends_accept(options):
    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    with ours.Listener(**options) as listener:
        with handling(signal.SIGALRM, ring), pytest.raises(Alarm):
            with signal_once_blocked(signal.SIGALRM):
                listener.accept()


def test_a_listener_is_readable_when_somebody_waits():
    with ours.Listener() as listener:
        assert ours.wait([listener], 0) == []
        with client_of(listener):
            assert ours.wait([listener], PATIENCE) == [listener]
            listener.accept().close()


def test_a_forked_child_leaves_its_parents_clients_alone():
    context = multiprocessing.get_context("fork")
    with ours.Listener(authkey=KEY, backlog=8) as listener:
        with connected(listener) as stalled:
            with pytest.raises(TimeoutError):
                listener.accept(timeout=0)  # The lobby has its guest.
            child = context.Process(target=accept_one, args=(listener,))
            child.start()
            with ours.Client(listener.address, authkey=KEY) as client:
                assert client.recv() == "child"
            child.join(PATIENCE)
            assert child.exitcode == 0
            with client_of(listener, authkey=KEY), listener.accept():
                stalled.settimeout(PATIENCE)
                assert stalled.recv(100)  # It still has its challenge.
        assert os.path.exists(listener.address)


def accept_one(listener):
    with listener.accept() as connection:
        connection.send("child")


def test_a_unix_name_is_removed_by_its_maker_only(tmp_path):
    context = multiprocessing.get_context("fork")
    listener = ours.Listener(str(tmp_path / "name"))
    child = context.Process(target=listener.close)
    child.start()
    child.join(PATIENCE)
    assert (tmp_path / "name").exists()
    listener.close()
    assert not (tmp_path / "name").exists()


def test_listeners_leave_no_descriptors():
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def use():
        with ours.Listener(authkey=KEY) as listener, connected(listener):
            exchange(listener, authkey=KEY)

    use()
    before = descriptors()
    for _ in range(3):
        use()
    eventually(lambda: descriptors() <= before, "the number of descriptors before")


def test_abstract_names_are_refused():
    for use in (ours.Listener, ours.Client):
        with pytest.raises(OSError, match="NUL"):
            use("\0abstract")


@needs_root
def test_another_user_cannot_connect():
    with tempfile.TemporaryDirectory(dir="/tmp") as place, ours.Listener(f"{place}/l") as listener:
        path = listener.address
        os.chmod(place, 0o777)
        os.chmod(path, 0o777)
        program = f"""
import os, socket
os.setuid(65534)
peer = socket.socket(socket.AF_UNIX)
peer.connect({path!r})
assert peer.recv(1) == b"", "it was let in"
"""
        with subprocess.Popen([sys.executable, "-c", program]) as stranger:
            with pytest.raises(TimeoutError):
                accept_until_over(listener, stranger)
            assert stranger.returncode == 0


def accept_until_over(listener, process):
    """Listen for as long as a process lives."""
    while True:
        over = process.poll() is not None
        try:
            return listener.accept(timeout=SHORT)
        except TimeoutError:
            if over:
                raise
