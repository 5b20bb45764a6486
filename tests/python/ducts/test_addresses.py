"""Addresses: private directories, who may come in, and that nothing is left behind."""

import gc
import os
import socket
import stat
from pathlib import Path

import pytest
from ductworks.message_duct import MessageDuctChild, MessageDuctParent
from marks import needs_root
from processes import fork
from support import PATIENCE, Background, connected_pair, frame, read_exactly, wait_until_blocked

AS_NOBODY = """
import os, socket, sys
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
"""

PRINT_ADDRESS = """
import sys
from ductworks.message_duct import MessageDuctParent
parent = MessageDuctParent.psuedo_anonymous_parent_duct()
parent.bind()
print(parent.listener_address, flush=True)
sys.stdin.readline()
"""


def anonymous_parent():
    parent = MessageDuctParent.psuedo_anonymous_parent_duct()
    parent.bind()
    return parent, Path(parent.listener_address)


@pytest.fixture
def environment(reachable_directory):
    """An environment with a runtime directory and a temporary directory of its own.

    They have short names, as they have in life; pytest's are too long for a socket's path.
    """
    runtime, temporary = reachable_directory / "runtime", reachable_directory / "temporary"
    runtime.mkdir(mode=0o700)
    temporary.mkdir()
    return {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(temporary)}


# Where an anonymous address lies


def test_an_anonymous_address_is_a_socket_in_a_directory_of_its_own():
    (parent, address), (other, other_address) = anonymous_parent(), anonymous_parent()
    assert stat.S_ISSOCK(address.stat().st_mode)
    assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
    assert address.parent != other_address.parent
    assert address.parent.name.startswith("ductworks-")
    # The second name is for version 2 of the protocol.
    assert set(address.parent.iterdir()) == {address, address.with_name("duct.v2")}
    parent.close()
    other.close()


def test_the_runtime_directory_is_preferred(start_python, environment):
    child = start_python(PRINT_ADDRESS, env=environment)
    assert Path(child.hear()).parents[1] == Path(environment["XDG_RUNTIME_DIR"])
    child.finish()


@pytest.mark.parametrize("wrong", ["relative", "link", "open to others", "missing", "a file", ""])
def test_a_runtime_directory_that_is_not_safe_is_not_used(start_python, environment, wrong):
    runtime = Path(environment["XDG_RUNTIME_DIR"])
    if wrong == "relative":
        environment["XDG_RUNTIME_DIR"] = runtime.name
    elif wrong == "link":
        link = runtime.with_name("link")
        link.symlink_to(runtime)
        environment["XDG_RUNTIME_DIR"] = str(link)
    elif wrong == "open to others":
        runtime.chmod(0o755)
    elif wrong == "missing":
        runtime.rmdir()
    elif wrong == "a file":
        runtime.rmdir()
        runtime.write_text("")
    else:
        environment["XDG_RUNTIME_DIR"] = ""
    child = start_python(PRINT_ADDRESS, env=environment, cwd=runtime.parent)
    assert Path(child.hear()).parents[1] == Path(environment["TMPDIR"])
    child.finish()


@needs_root
def test_a_runtime_directory_of_another_user_is_not_used(start_python, environment):
    os.chown(environment["XDG_RUNTIME_DIR"], 65534, 65534)
    child = start_python(PRINT_ADDRESS, env=environment)
    assert Path(child.hear()).parents[1] == Path(environment["TMPDIR"])
    child.finish()


def test_directories_that_are_too_long_are_passed_over(start_python, environment, tmp_path):
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        long_name = tmp_path / (name.lower() * 10)
        long_name.mkdir(mode=0o700)
        environment[name] = str(long_name)
    child = start_python(PRINT_ADDRESS, env=environment)
    address = child.hear()
    assert len(os.fsencode(address)) < 108
    assert os.path.exists(address)
    child.finish()
    assert not os.path.exists(os.path.dirname(address))


# What is left behind: nothing


def test_a_connection_takes_directory_and_socket_away():
    parent, address = anonymous_parent()
    child = MessageDuctChild.psuedo_anonymous_child_duct(str(address))
    child.connect()
    assert parent.listen()
    assert not address.parent.exists()
    child.send("still connected")
    assert parent.recv() == "still connected"
    parent.close()
    child.close()


@pytest.mark.parametrize("how", ["close", "collection"])
def test_an_end_before_the_connection_takes_directory_and_socket_away(how):
    parent, address = anonymous_parent()
    if how == "close":
        parent.close()
    del parent
    assert not address.parent.exists()


def test_a_parent_that_never_binds_leaves_nothing(start_python, environment):
    child = start_python(
        """
        from ductworks.message_duct import MessageDuctParent
        MessageDuctParent.psuedo_anonymous_parent_duct().close()
        MessageDuctParent.psuedo_anonymous_parent_duct()
        """,
        env=environment,
    )
    child.finish()
    assert list(Path(environment["XDG_RUNTIME_DIR"]).iterdir()) == []


def test_a_program_that_ends_without_close_leaves_nothing(start_python, environment):
    child = start_python(PRINT_ADDRESS, env=environment)
    address = Path(child.hear())
    child.say("end")
    child.finish()
    assert not address.parent.exists()


def test_the_next_start_removes_what_a_killed_parent_left(start_python, environment):
    killed = start_python(PRINT_ADDRESS, env=environment)
    leftover = Path(killed.hear()).parent
    alive = start_python(PRINT_ADDRESS, env=environment)
    in_use = Path(alive.hear()).parent
    killed.kill()
    assert leftover.exists()
    unrelated = leftover.with_name("ductworks-of-somebody-else")
    unrelated.mkdir(mode=0o700)
    (unrelated / "precious").write_text("keep me")

    following = start_python(PRINT_ADDRESS, env=environment)
    following.hear()
    assert not leftover.exists()
    assert in_use.exists()
    assert (unrelated / "precious").read_text() == "keep me"
    for process in (alive, following):
        process.say("end")
        process.finish()


def test_a_chosen_address_is_unlinked_but_never_its_directory(tmp_path):
    for end in ("close", "connection"):
        parent = MessageDuctParent.psuedo_anonymous_parent_duct(str(tmp_path / "duct"))
        parent.bind()
        assert parent.listener_address == str(tmp_path / "duct")
        if end == "connection":
            child = MessageDuctChild.psuedo_anonymous_child_duct(str(tmp_path / "duct"))
            child.connect()
            assert parent.listen()
            child.close()
        parent.close()
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_has_taken_the_place_of_the_socket_is_left_alone(tmp_path):
    path = tmp_path / "duct"
    parent = MessageDuctParent.psuedo_anonymous_parent_duct(str(path))
    parent.bind()
    path.unlink()
    path.write_text("keep me")
    parent.close()
    assert path.read_text() == "keep me"


def test_a_failed_bind_leaves_nothing(tmp_path, closing):
    (tmp_path / "taken").write_text("keep me")
    parent = closing(MessageDuctParent.psuedo_anonymous_parent_duct(str(tmp_path / "taken")))
    with pytest.raises(OSError, match=r"(?i)in use"):
        parent.bind()
    parent.close()
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_only_the_process_that_bound_unlinks(closing):
    parent, address = anonymous_parent()
    closing(parent)

    def in_the_child():
        parent.close()
        assert address.exists()

    fork(in_the_child)()
    assert address.exists()


# Who may come in


@needs_root
def test_a_listening_parent_turns_strangers_away_and_waits_on(start_python, reachable_directory):
    address = reachable_directory / "duct"
    parent = MessageDuctParent.psuedo_anonymous_parent_duct(str(address))
    parent.bind()
    address.chmod(0o777)
    listening = Background(parent.listen)
    wait_until_blocked(listening)
    for _ in range(3):
        stranger = start_python(
            AS_NOBODY
            + "sock = socket.socket(socket.AF_UNIX)\n"
            + "sock.settimeout(20)\n"
            + "sock.connect(sys.argv[1])\n"
            + "try:\n    print(sock.recv(1))\nexcept ConnectionError:\n    print(b'')\n",
            address,
        )
        assert stranger.finish() == "b''\n"
        assert listening.is_alive()
    child = MessageDuctChild.psuedo_anonymous_child_duct(str(address))
    child.connect()
    assert listening.result() is True
    child.send("the real child")
    assert parent.recv() == "the real child"
    parent.close()
    child.close()


@needs_root
def test_strangers_do_not_prolong_the_waiting(start_python, reachable_directory):
    address = reachable_directory / "duct"
    parent = MessageDuctParent.psuedo_anonymous_parent_duct(str(address))
    parent.bind()
    address.chmod(0o777)
    stranger = start_python(
        AS_NOBODY + "socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n", address
    )
    stranger.finish()
    assert parent.listen(0.05) is False
    parent.close()


@needs_root
def test_a_child_refuses_a_parent_of_another_user(start_python, reachable_directory):
    address = reachable_directory / "duct"
    reachable_directory.chmod(0o777)
    stranger = start_python(
        AS_NOBODY
        + "sock = socket.socket(socket.AF_UNIX)\n"
        + "sock.bind(sys.argv[1])\n"
        + "sock.listen()\n"
        + "print('listening', flush=True)\n"
        + "connection, _ = sock.accept()\n"
        + "print(connection.recv(100))\n",
        address,
    )
    assert stranger.hear() == "listening"
    child = MessageDuctChild.psuedo_anonymous_child_duct(str(address))
    with pytest.raises(PermissionError):
        child.connect()
    child.close()
    assert stranger.finish() == "b''\n"


def test_any_process_of_the_same_user_may_come_in_first(tmp_path):
    parent = MessageDuctParent.psuedo_anonymous_parent_duct(str(tmp_path / "duct"))
    parent.bind()
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(str(tmp_path / "duct"))
        assert parent.listen(PATIENCE)
        parent.send("hello")
        assert read_exactly(plain, 12) == frame(b'"hello"')
    parent.close()


# Descriptors


def test_a_connected_duct_has_one_descriptor_that_no_child_inherits(start_python):
    child = start_python(
        """
        import os
        from processes import open_descriptors
        from support import TRANSPORTS, connected_pair, descriptor
        for transport in TRANSPORTS.values():
            before = set(open_descriptors())
            parent, child = connected_pair(transport)
            parent.send(1)
            assert child.poll(10) and child.recv() == 1
            opened = set(open_descriptors()) - before
            assert opened == {descriptor(parent), descriptor(child)}, open_descriptors()
            assert not any(os.get_inheritable(number) for number in opened)
            child.close()
            try:
                parent.recv()
            except EOFError:
                parent.close()
            assert set(open_descriptors()) == before
        """
    )
    child.finish()


def test_a_bound_parent_has_no_descriptor_that_a_child_inherits(start_python):
    child = start_python(
        """
        import os
        from processes import open_descriptors
        from support import TRANSPORTS
        for transport in TRANSPORTS.values():
            before = set(open_descriptors())
            parent = transport.parent()
            parent.bind()
            opened = set(open_descriptors()) - before
            assert opened and not any(os.get_inheritable(number) for number in opened)
            assert parent.listen(0) is False
            parent.close()
            assert set(open_descriptors()) == before
        """
    )
    child.finish()


def test_ducts_that_are_dropped_close_themselves(transport):
    parent, child = connected_pair(transport)
    del child
    with pytest.raises(EOFError):
        parent.recv()
    parent.close()


def test_ducts_in_a_reference_cycle_are_collected(transport):
    parent, child = connected_pair(transport)

    class Holder:
        def decode(self, payload):
            return self.duct

    holder = Holder()
    holder.duct = child
    child.deserialize, child.lock = holder.decode, holder
    child.socket_duct.holder = holder
    del child, holder
    gc.collect()
    with pytest.raises(EOFError):
        parent.recv()
    parent.close()


def test_failed_attempts_leave_no_descriptors(tmp_path):
    gc.collect()  # What other tests have left is not to go in the middle.
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        child = MessageDuctChild.psuedo_anonymous_child_duct(str(tmp_path / "nowhere"))
        with pytest.raises(FileNotFoundError):
            child.connect(0, 0)
        parent = MessageDuctParent.psuedo_anonymous_parent_duct(str(tmp_path / "no" / "where"))
        with pytest.raises(FileNotFoundError):
            parent.bind()
    assert len(os.listdir("/proc/self/fd")) == before
