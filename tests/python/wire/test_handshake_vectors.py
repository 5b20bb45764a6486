"""The handshake over real sockets, with a plain socket that says what the vectors' script makes.

The nonces of a real end are random, so what it says cannot stand in a file.
"""

import os
import socket

import ductworks
import pytest
from ductworks import _native
from support import PATIENCE, Background, read_exactly, read_to_end
from vector_files import vectors, wire

HANDSHAKES = {vector["name"]: vector for vector in vectors("handshake.json")}
LIMIT = 64 << 20


@pytest.fixture(params=["unix", "tcp"])
def listener(request):
    address = "tcp:127.0.0.1:0" if request.param == "tcp" else None
    with ductworks.listen(address) as listener:
        yield listener


def dial(listener):
    """A plain connection to where version 2 is spoken, and the token."""
    address, _, token = listener.ticket.partition("#")
    scheme, _, place = address.partition(":")
    if scheme == "unix":
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(place + ".v2")
    else:
        host, _, port = place.rpartition(":")
        peer = socket.create_connection((host, int(port)))
    peer.settimeout(PATIENCE)
    return peer, bytes.fromhex(token)


def descriptors_at(listener):
    return wire.DESCRIPTORS if listener.address.startswith("unix:") else 0


def greet(peer, client_hello):
    """Says hello and hears one, whose nonce is of the other end's choice."""
    peer.sendall(client_hello)
    return read_exactly(peer, 128)


@pytest.fixture
def accepted(listener):
    return Background(listener.accept, PATIENCE)


def test_a_client_of_plain_python_gets_in_with_the_vectors_proofs(listener, accepted):
    peer, token = dial(listener)
    with peer:
        ours = wire.hello(wire.TOKEN, 1 << 20, os.urandom(32), "json", capabilities=0x8000)
        theirs = greet(peer, ours)
        capabilities = descriptors_at(listener)
        assert theirs == wire.proved(
            wire.hello(wire.TOKEN, LIMIT, theirs[28:60], "json", capabilities), token, ours
        )
        assert theirs[28:60] != bytes(32)
        peer.sendall(wire.v2_frame(wire.PROOF, wire.proof_of("client", token, ours, theirs)))
        assert read_exactly(peer, 128) == wire.v2_frame(wire.ACCEPT)
        with accepted.result() as duct:
            assert duct.protocol == 2
            with pytest.raises(ductworks.ProtocolError, match="limit"):
                duct.send("x" * (1 << 20))
            peer.sendall(wire.message(b'"from the client"'))
            assert duct.recv(PATIENCE) == "from the client"
            duct.send("from the server")
            assert read_exactly(peer, 128) == wire.message(b'"from the server"')
            peer.sendall(wire.end(received=1))
            peer.shutdown(socket.SHUT_WR)
            with pytest.raises(ductworks.PeerClosed) as caught:
                duct.recv(PATIENCE)
            assert not isinstance(caught.value, ductworks.PeerDied)
            duct.drain(0)  # The farewell said that the message was received.
    assert listener.ticket.partition("#")[2] != token.hex()


def guessed(token, ours, theirs):
    return wire.v2_frame(wire.PROOF, bytes(32))


def reflected(token, ours, theirs):
    return wire.v2_frame(wire.PROOF, theirs[96:])


def of_another_token(token, ours, theirs):
    proof = wire.proof_of("client", bytes(32), ours, theirs)
    return wire.v2_frame(wire.PROOF, proof)


def of_another_hello(token, ours, theirs):
    proof = wire.proof_of("client", token, wire.changed(ours, 27, 1), theirs)
    return wire.v2_frame(wire.PROOF, proof)


def bound_to_tls(token, ours, theirs):
    proof = wire.proof_of("client", token, ours, theirs, binding=bytes([1] * 32))
    return wire.v2_frame(wire.PROOF, proof)


def recorded(token, ours, theirs):
    return bytes.fromhex(HANDSHAKES["a token, over TCP"]["messages"][2]["hex"])


def no_proof(token, ours, theirs):
    return wire.v2_frame(wire.ACCEPT)


def second_hello(token, ours, theirs):
    return ours


@pytest.mark.parametrize(
    "answer",
    [
        guessed,
        reflected,
        of_another_token,
        of_another_hello,
        bound_to_tls,
        recorded,
        no_proof,
        second_hello,
    ],
)
def test_a_proof_that_is_none_is_refused_in_the_same_words_and_uses_no_token_up(
    listener, accepted, answer
):
    peer, token = dial(listener)
    with peer:
        ours = wire.hello(wire.TOKEN, LIMIT, os.urandom(32), "json")
        theirs = greet(peer, ours)
        peer.sendall(answer(token, ours, theirs))
        assert read_to_end(peer) == wire.v2_frame(wire.REFUSED)
    test_a_client_of_plain_python_gets_in_with_the_vectors_proofs(listener, accepted)


@pytest.mark.parametrize(
    ("opening", "heard"),
    [
        (wire.hello(wire.OPEN, LIMIT, bytes(32), "json"), wire.v2_frame(wire.REFUSED)),
        (wire.v2_frame(wire.ACCEPT), wire.v2_frame(wire.REFUSED)),
        (wire.v2_frame(wire.PROOF, bytes(32)), wire.v2_frame(wire.REFUSED)),
        # No frames of a handshake: there is nobody to tell anything.
        (wire.message(b"too early"), b""),
        (wire.v1_frame(b"of version 1").ljust(128, b"\0"), b""),
        (wire.hello(wire.TOKEN, LIMIT, bytes(32), version=3), b""),
    ],
    ids=["open", "accept", "proof", "message", "v1", "version 3"],
)
def test_what_is_no_hello_of_a_token_is_refused(listener, accepted, opening, heard):
    peer, _ = dial(listener)
    with peer:
        peer.sendall(opening)
        assert read_to_end(peer) == heard
    test_a_client_of_plain_python_gets_in_with_the_vectors_proofs(listener, accepted)


@pytest.mark.parametrize("change", ["none", "proof", "limit", "mode", "token", "session"])
def test_a_client_of_ours_lets_in_none_but_the_holder_of_its_token(tmp_path, change):
    path = str(tmp_path / "duct")
    token = os.urandom(32)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + ".v2")
        listener.listen()
        listener.settimeout(PATIENCE)
        client = Background(ductworks.connect, f"unix:{path}#{token.hex()}")
        peer, _ = listener.accept()
    with peer:
        peer.settimeout(PATIENCE)
        ours = read_exactly(peer, 128)
        assert ours == wire.hello(wire.TOKEN, LIMIT, ours[28:60], "json", wire.DESCRIPTORS)
        theirs = wire.hello(wire.TOKEN, 1000, os.urandom(32), "json", capabilities=0xFFFE)
        binding = bytes([change == "session"] * 32)
        theirs = wire.proved(theirs, bytes(32) if change == "token" else token, ours, binding)
        places = {"proof": (127, theirs[127] ^ 1), "limit": (27, 1), "mode": (17, wire.OPEN)}
        if change in places:
            theirs = wire.changed(theirs, *places[change])
        peer.sendall(theirs)
        answer = read_exactly(peer, 128)
        if change != "none":
            assert answer == wire.v2_frame(wire.REFUSED)
            with pytest.raises(PermissionError):
                client.result()
            return
        assert answer == wire.v2_frame(wire.PROOF, wire.proof_of("client", token, ours, theirs))
        peer.sendall(wire.v2_frame(wire.ACCEPT) + wire.message(b"1"))
        with client.result() as duct:
            assert duct.recv(PATIENCE) == 1
            with pytest.raises(ductworks.ProtocolError, match="1000"):
                duct.send("x" * 1000)
            with open(os.devnull) as file, pytest.raises(ValueError, match="descriptors"):
                duct.send_fds(1, [file])


def test_a_client_that_is_refused_is_told_so(tmp_path):
    path = str(tmp_path / "duct")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + ".v2")
        listener.listen()
        listener.settimeout(PATIENCE)
        client = Background(ductworks.connect, f"unix:{path}#{'00' * 32}")
        peer, _ = listener.accept()
    with peer:
        read_exactly(peer, 128)
        peer.sendall(wire.v2_frame(wire.REFUSED))
        with pytest.raises(PermissionError, match="refused"):
            client.result()


def test_where_no_token_is_asked_for_two_hellos_are_all(tmp_path):
    path = str(tmp_path / "duct")
    with ductworks.listen(path, v1=True) as listener:
        accepted = Background(listener.accept, PATIENCE)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(PATIENCE)
            peer.connect(path + ".v2")
            # Nobody has to wait for the answer.
            peer.sendall(wire.hello(wire.OPEN, 100, bytes(32)) + wire.message(b"1"))
            theirs = read_exactly(peer, 128)
            capabilities = wire.DESCRIPTORS
            assert theirs == wire.hello(wire.OPEN, LIMIT, theirs[28:60], "json", capabilities)
            with accepted.result() as duct:
                assert (duct.protocol, duct.recv(PATIENCE)) == (2, 1)
                with pytest.raises(ductworks.ProtocolError, match="100"):
                    duct.send("x" * 100)


# Tickets


@pytest.mark.parametrize("vector", vectors("tickets.json"), ids=lambda vector: vector["name"])
def test_tickets_are_read_as_the_vectors_say(vector):
    if vector.get("refused"):
        with pytest.raises(ValueError, match="bad") as caught:
            _native.address_of(vector["text"])
        secret = vector["text"].partition("#")[2]
        assert not secret or secret not in str(caught.value)
        return
    address = vector["canonical"]
    if vector["token"] is not None:
        address = address[: -len(f"#{vector['token']}")]
    assert _native.address_of(vector["text"]) == address
