"""Random calls in random order, on a Pipe of multiprocessing's and on ours: the same answers."""

import multiprocessing.connection as stock
import random

import ductworks.connection as ours
import pytest


def a_value(rng):
    return rng.choice(
        [
            None,
            rng.randint(-(2**70), 2**70),
            "x" * rng.randint(0, 300),
            b"y" * rng.randint(0, 3000),
            (1, 2.5, [3, {"k": (4,)}]),
            {1, 2},
            Ellipsis,
            bytearray(b"q" * rng.randint(0, 50)),
            "é\ud800",
        ]
    )


def send(end, rng):
    return end.send(a_value(rng))


def send_bytes(end, rng):
    return end.send_bytes(b"z" * rng.randint(0, 3000))


def send_a_part(end, rng):
    size = rng.choice([None, rng.randint(-2, 60)])
    return end.send_bytes(bytes(range(50)), rng.randint(-2, 60), size)


def send_text(end, rng):
    return end.send_bytes("text")


def receive(end, rng):
    return repr(end.recv()) if ready(end) else "nothing there"


def receive_bytes(end, rng):
    return message(end.recv_bytes()) if ready(end) else "nothing there"


def receive_at_most(end, rng):
    # Much or little, since the two do not pickle in the same number of bytes.
    most = rng.choice([-1, 1, 10**6])
    return message(end.recv_bytes(most)) if ready(end) else "nothing there"


def receive_into(end, rng):
    place, offset = bytearray(rng.choice([1, 8000])), rng.choice([0, 0, 1, -1, 9000])
    if not ready(end):
        return "nothing there"
    size = end.recv_bytes_into(place, offset)
    return message(bytes(place[offset : offset + size]))


def poll(end, rng):
    return end.poll(rng.choice([0, -1, 0.0]))


def look(end, rng):
    return end.closed, end.readable, end.writable


def close(end, rng):
    return end.close() if rng.random() < 0.1 else None


CALLS = [send, send, send_bytes, send_bytes, send_a_part, send_text, poll, look, close]
CALLS += [receive, receive, receive_bytes, receive_at_most, receive_into]


def ready(end):
    """Whether a receive would not wait, or fail at once."""
    try:
        return end.poll(0)
    except OSError:
        return True


def message(data):
    return "a pickle" if data[:1] == b"\x80" else data


def answer(call, end, rng):
    try:
        return call(end, rng)
    except stock.BufferTooShort as error:
        return "too short", message(error.args[0])
    except (EOFError, ConnectionResetError):
        # Which of the two depends on what the other end has left unread, padding included.
        return "the end"
    except (TypeError, ValueError, OSError) as error:
        text = "" if isinstance(error, TypeError) else str(error)
        return type(error).__name__, text, getattr(error, "errno", None)
    except Exception as error:
        return type(error).__name__


def conversation(module, seed):
    rng = random.Random(seed)
    ends = module.Pipe(duplex=rng.random() < 0.7)
    try:
        for _ in range(rng.randint(5, 40)):
            call, end = rng.choice(CALLS), rng.choice(ends)
            yield call.__name__, answer(call, end, random.Random(rng.random()))
    finally:
        for end in ends:
            end.close()


@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_any_calls_in_any_order_give_the_same_answers(first):
    for seed in range(first, first + 100):
        assert list(conversation(ours, seed)) == list(conversation(stock, seed)), seed
