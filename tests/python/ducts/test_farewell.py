"""The end of a duct: a close is told from a death, whatever the processes share."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from typing import Any

import ductworks
import pytest
from support import PATIENCE

METHODS = ["fork", "spawn", "forkserver"]


def nothing(duct: ductworks.Duct[Any, Any]) -> None:
    pass


def return_after_use(duct: ductworks.Duct[Any, Any]) -> None:
    duct.send(duct.recv())


def close_unused(duct: ductworks.Duct[Any, Any]) -> None:
    duct.close()


def exit_after_use(duct: ductworks.Duct[Any, Any]) -> None:
    duct.send(duct.recv())
    sys.exit(0)


def raise_after_use(duct: ductworks.Duct[Any, Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # The traceback is of no interest.
    duct.send(duct.recv())
    raise RuntimeError("an ordinary end for a process, all the same")


def die_after_use(duct: ductworks.Duct[Any, Any]) -> None:
    duct.send(duct.recv())
    os.kill(os.getpid(), signal.SIGKILL)


def die_unused(duct: ductworks.Duct[Any, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("work", "asks", "died"),
    [
        (return_after_use, True, False),
        (exit_after_use, True, False),
        (raise_after_use, True, False),
        (close_unused, False, False),
        (die_after_use, True, True),
        (die_unused, False, True),
    ],
)
def test_a_process_that_ends_is_told_from_one_that_dies(
    method: str, work: Any, asks: bool, died: bool
) -> None:
    context = multiprocessing.get_context(method)
    ours, theirs = ductworks.pair()
    process = context.Process(target=work, args=(theirs,))
    process.start()
    theirs.close()  # Each side closes the end that it does not use.
    if asks:
        ours.send(1)
        assert ours.recv(30) == 1
    for _ in range(3):
        with pytest.raises(ductworks.PeerClosed) as caught:
            ours.recv(30)
        assert isinstance(caught.value, ductworks.PeerDied) == died, caught.value
        assert isinstance(caught.value, EOFError)
    process.join()


@pytest.mark.parametrize("method", METHODS)
def test_iterating_over_the_messages_of_a_child_ends_with_the_child(method: str) -> None:
    context = multiprocessing.get_context(method)
    ours, theirs = ductworks.pair()
    process = context.Process(target=count_to_three, args=(theirs,))
    process.start()
    theirs.close()
    assert list(ours) == [1, 2, 3]
    process.join()


def count_to_three(duct: ductworks.Duct[Any, Any]) -> None:
    for number in (1, 2, 3):
        duct.send(number)


def test_a_forked_child_that_has_nothing_to_do_with_a_duct_says_nothing_on_it() -> None:
    ours, theirs = ductworks.pair()
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    assert not ours.poll()
    assert not theirs.poll()
    assert ductworks.wait([ours, theirs], 0) == []
    ours.send("still here")
    assert theirs.recv() == "still here"


def test_an_ordinary_program_says_farewell_at_its_end_and_a_crash_does_not() -> None:
    program = (
        "import sys, os, ductworks; duct = ductworks.Duct(0, 'json'); duct.send(duct.protocol);"
    )
    for end, died in (("", False), ("sys.exit(3)", False), ("os._exit(0)", True)):
        ours, theirs = ductworks.pair()
        number = theirs.detach()
        worker = subprocess.Popen([sys.executable, "-c", program + end], stdin=number)
        os.close(number)
        assert ours.recv(30) == 2
        with pytest.raises(ductworks.PeerClosed) as caught:
            ours.recv(30)
        assert isinstance(caught.value, ductworks.PeerDied) == died, end
        worker.wait()


def test_a_detached_duct_is_closed_and_its_descriptor_goes_on() -> None:
    a, b = ductworks.pair()
    a.send("before")
    number = b.detach()
    assert b.closed
    with pytest.raises(ductworks.DuctClosed):
        b.detach()
    again = ductworks.Duct[Any, Any](number, "json")
    assert again.protocol == 2
    assert again.recv() == "before"
    again.send("after")
    assert a.recv() == "after"
    again.close()
    with pytest.raises(ductworks.PeerClosed):
        a.recv()


def test_a_duct_in_the_middle_of_a_message_is_not_detached() -> None:
    a, _b = ductworks.pair()
    a.send_bytes(bytes(10_000_000), 0)
    with pytest.raises(ValueError, match="in the middle of a message"):
        a.detach()
    assert not a.closed


def test_finish_ends_one_direction() -> None:
    a, b = ductworks.pair()
    for number in range(3):
        a.send(number)
    a.finish()
    a.finish()
    with pytest.raises(ductworks.DuctClosed, match="finished sending"):
        a.send(3)
    assert list(b) == [0, 1, 2]
    b.send("the answer")
    assert a.recv() == "the answer"


def test_drain_returns_once_everything_is_received() -> None:
    a, b = ductworks.pair()
    a.drain(0)
    for number in range(3):
        a.send(number)
    with pytest.raises(ductworks.NotDrained, match="up to 3 had not been received") as caught:
        a.drain(0.01)
    assert caught.value.unreceived == 3
    assert isinstance(caught.value, TimeoutError)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.unreceived) == (str(caught.value), 3)

    received: list[Any] = []
    reader = threading.Thread(target=lambda: received.extend(b))
    reader.start()
    a.drain(30)
    assert received == [0, 1, 2]
    a.close()
    reader.join()


def test_drain_says_so_when_the_other_end_goes_away_first() -> None:
    a, b = ductworks.pair()
    a.send(1)
    a.send(2)
    assert b.recv() == 1
    b.close()
    with pytest.raises(ductworks.NotDrained) as caught:
        a.drain(30)
    assert caught.value.unreceived == 1


def test_what_was_received_before_a_duct_was_handed_on_confirms_nothing_sent_after() -> None:
    a, b = ductworks.pair()
    for number in range(5):
        a.send(number)
        assert b.recv() == number
    heir = ductworks.Duct(a.detach(), "json")
    heir.send("unread")
    b.close()
    with pytest.raises(ductworks.PeerReset):
        heir.recv()
    with pytest.raises(ductworks.NotDrained) as caught:
        heir.drain(30)
    assert caught.value.unreceived == 1


def test_the_protocol_of_a_pickled_duct_is_kept() -> None:
    carrier, other = ductworks.pair("pickle")
    a, b = ductworks.pair()
    carrier.send(b)
    copy = other.recv()
    b.close()  # It may be shared now, so this is not the end.
    assert copy.protocol == 2
    a.send("to the copy")
    assert copy.recv() == "to the copy"
    copy.send("back")
    assert a.recv() == "back"
    copy.close()
    with pytest.raises(ductworks.PeerClosed):
        a.recv(30)


def receive_one_and_the_end(duct) -> None:
    assert duct.recv(PATIENCE) == "for the worker"
    with pytest.raises(ductworks.PeerClosed) as caught:
        duct.recv(PATIENCE)
    assert type(caught.value) is ductworks.PeerClosed


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_end_that_went_to_a_process_and_was_closed_here_is_no_reset_there(method) -> None:
    ours, theirs = ductworks.pair()
    context = multiprocessing.get_context(method)
    worker = context.Process(target=receive_one_and_the_end, args=(theirs,))
    worker.start()
    theirs.close()
    ours.send("for the worker")
    ours.close()
    worker.join(PATIENCE)
    assert worker.exitcode == 0
