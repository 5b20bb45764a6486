"""The original 0.0.1a4 is the other process: as child and as parent, over Unix and TCP."""

import json
import random
import sys

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from processes import process_starter
from support import HELPERS, RAW, TRANSPORTS, Background, descriptor, examples

ECHO = HELPERS / "echo_peer.py"

text = st.text(alphabet=st.characters(exclude_categories=()), max_size=200)
documents = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(10**40), 10**40),
        st.floats(allow_nan=False),
        text,
    ),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(text, inner, max_size=6),
    max_leaves=40,
)


def start_echo(start, python, role, transport, codec, **options):
    """The duct that leads to an echoing peer which has the given role, and the peer's process."""
    if role == "child":
        duct = transport.parent(**options)
        duct.bind()
        address = json.dumps(duct.listener_address)
        peer = start(ECHO, role, transport.name, codec, address, python=python)
        assert duct.listen()
    else:
        peer = start(ECHO, role, transport.name, codec, python=python)
        duct = transport.child(json.loads(peer.hear()), **options)
        duct.connect()
    return duct, peer


def stop_echo(duct, peer, stop):
    duct.send(stop)
    duct.close()
    assert peer.finish() == "clean end\n"


@pytest.fixture(
    scope="module",
    params=[(role, transport) for role in ("parent", "child") for transport in TRANSPORTS],
    ids=lambda parameters: f"original-is-{parameters[0]}-{parameters[1]}",
)
def original_echo(request, original_python):
    """A lasting duct to the original, which decodes and encodes everything that it sends back."""
    role, transport = request.param
    transport = TRANSPORTS[transport]
    with process_starter() as start:
        duct, peer = start_echo(start, original_python, role, transport, "json")
        yield duct
        stop_echo(duct, peer, "stop")


@settings(
    max_examples=examples(100),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(document=documents)
def test_generated_documents_come_back_unchanged(original_echo, document):
    sender = Background(original_echo.send, document)
    assert original_echo.recv() == document
    sender.result()


@pytest.mark.parametrize(
    "document",
    [
        "\u2603 \U0001f600 \x00 \x7f",
        "\ud800 alone",
        10**300,
        -(10**300),
        [0.1, 1e308, 5e-324, -0.0, float("inf")],
        {"": {"": [[[[[[]]]]]]}},
        list(range(10_000)),
        "x" * (1 << 20),
    ],
    ids=lambda document: ascii(document)[:24],
)
def test_chosen_documents_come_back_unchanged(original_echo, document):
    sender = Background(original_echo.send, document)
    assert original_echo.recv() == document
    sender.result()


def test_deep_documents_come_back_unchanged(original_echo):
    document = text = "end"
    for level in range(150):
        document = [document] if level % 2 else {text: document}
    original_echo.send(document)
    assert original_echo.recv() == document


def test_many_documents_on_the_way_at_once_keep_their_order(original_echo):
    random_numbers = random.Random(5)
    sent = [[number, "x" * random_numbers.randrange(2000)] for number in range(500)]

    def send_all():
        for document in sent:
            original_echo.send(document)

    sender = Background(send_all)
    assert [original_echo.recv() for _ in sent] == sent
    sender.result()


@pytest.mark.parametrize("role", ["parent", "child"])
def test_messages_from_nothing_to_32_mib_come_back_unchanged(
    start_python, original_python, transport, role
):
    duct, peer = start_echo(start_python, original_python, role, transport, "raw", **RAW)
    random_numbers = random.Random(7)
    mib = 1 << 20
    for size in (0, 1, 4, 5, 6, 255, 256, 4095, 65536, 65541, mib, mib + 1, 5 * mib, 32 * mib):
        message = random_numbers.getrandbits(8 * size).to_bytes(size, "big") if size else b""
        sender = Background(duct.send, message)
        assert duct.recv() == message
        sender.result()
    stop_echo(duct, peer, b"stop")


@pytest.mark.parametrize("role", ["parent", "child"])
def test_the_original_ends_cleanly_and_so_do_we(start_python, original_python, transport, role):
    duct, peer = start_echo(start_python, original_python, role, transport, "json")
    assert descriptor(duct) >= 0
    duct.send("last words")
    duct.send("stop")
    assert duct.poll(10) is True
    assert duct.recv() == "last words"
    duct.close()
    assert peer.finish() == "clean end\n"


@pytest.mark.parametrize("role", ["parent", "child"])
def test_an_execd_child_of_our_own_answers_through_the_address_in_its_arguments(
    start_python, transport, role
):
    duct, peer = start_echo(start_python, sys.executable, role, transport, "json")
    for number in range(100):
        duct.send(["ping", number])
        assert duct.recv() == ["ping", number]
    stop_echo(duct, peer, "stop")
