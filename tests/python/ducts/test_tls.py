"""Ducts over TLS, with listeners known by their key or by an authority."""

import logging
import multiprocessing
import os
import pickle
import re
import select
import socket
import ssl
import subprocess
import sys

import ductworks
import pytest
import trustme
from support import PATIENCE, SHORT, Background

CHILD = """
import os, ductworks
with ductworks.connect(os.environ.pop("DUCT")) as duct:
    for job in duct:
        duct.send({"done": job})
"""

ANY = "tls:127.0.0.1:0"


def meet(listener, address=None, **options):
    """Connect to a listener of this thread; both ends."""
    connected = Background(lambda: ductworks.connect(address or listener.ticket, **options))
    accepted = listener.accept(PATIENCE)
    return connected.result(), accepted


def refused(listener, address=None, **options):
    """The exception that a client gets while the listener listens on."""
    connected = Background(lambda: ductworks.connect(address or listener.ticket, **options))
    while connected.is_alive():
        with pytest.raises(TimeoutError):
            listener.accept(SHORT)
    with pytest.raises(PermissionError) as caught:
        connected.result()
    return str(caught.value)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority; a function that gives options with its certificates."""
    place = tmp_path_factory.mktemp("authority")
    root = trustme.CA()
    root.cert_pem.write_to_path(place / "root.pem")

    def options(name=None):
        found = {"cafile": place / "root.pem"}
        if name:
            certificate = root.issue_cert(name)
            certificate.private_key_pem.write_to_path(place / f"{name}.key")
            with open(place / f"{name}.pem", "wb") as file:
                file.writelines(blob.bytes() for blob in certificate.cert_chain_pems)
            found.update(certfile=place / f"{name}.pem", keyfile=place / f"{name}.key")
        return found

    return options


def test_a_ticket_is_all_that_another_process_needs():
    with ductworks.listen("tls:0.0.0.0:0") as listener:
        assert listener.address.startswith("tls:")
        assert "?pin=" in listener.address
        assert listener.ticket.startswith(listener.address + "#")
        environment = {
            **os.environ,
            "DUCT": listener.ticket.replace(host_of(listener), "127.0.0.1", 1),
        }
        child = subprocess.Popen([sys.executable, "-c", CHILD], env=environment)
        with listener.accept(PATIENCE) as duct:
            duct.send("sweep")
            assert duct.recv(PATIENCE) == {"done": "sweep"}
            big = "x" * 3_000_000
            duct.send(big)
            assert duct.recv(PATIENCE) == {"done": big}
        assert child.wait(PATIENCE) == 0


def host_of(listener):
    return listener.address.partition("?")[0][len("tls:") :].rpartition(":")[0]


def test_a_duct_is_readable_exactly_while_something_waits():
    with ductworks.listen(ANY) as listener:
        a, b = meet(listener)
    with a, b:
        assert not select.select([b], [], [], 0)[0]
        a.send(1)
        a.send(2)
        for number in (1, 2):
            assert select.select([b], [], [], PATIENCE)[0]
            assert ductworks.wait([b], PATIENCE) == [b]
            assert b.try_recv() == number
        assert not select.select([b], [], [], 0)[0]


def test_the_end_is_told_from_a_death():
    with ductworks.listen(ANY) as listener:
        a, b = meet(listener)
    a.send(1)
    a.close()
    assert list(b) == [1]
    with pytest.raises(ductworks.PeerClosed):
        b.recv()


@pytest.mark.parametrize("address", [None, "tcp:127.0.0.1:0", ANY])
def test_an_address_alone_does_not_admit_and_the_log_says_who_tried(address, caplog):
    caplog.set_level(logging.WARNING, logger="ductworks")
    with ductworks.listen(address) as listener:
        assert "with its ticket" in refused(listener, listener.address)
        assert "it brought no token" in caplog.text
        # The client may be gone by then, and its port with it.
        whom = r"(somebody at )?127\.0\.0\.1(:\d+)?" if address else f"process {os.getpid()}"
        assert re.search(f"refused {whom}: ", caplog.text)
        assert listener.ticket.rpartition("#")[2] not in caplog.text
        a, b = meet(listener)
        a.send("in")
        assert b.recv() == "in"


def test_another_key_than_the_tickets_is_refused(caplog):
    with ductworks.listen(ANY) as listener, ductworks.listen(ANY) as trap:
        theirs = listener.ticket.partition("?pin=")[2]
        ticket = trap.address.partition("?pin=")[0] + "?pin=" + theirs
        assert "somebody is in between" in refused(trap, ticket)


def test_who_speaks_an_older_tls_only_is_told_of_as_that(authority, caplog):
    caplog.set_level(logging.WARNING, logger="ductworks")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with ductworks.listen(ANY) as listener:
        port = int(listener.address.partition("?")[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            calling = Background(lambda: old.wrap_socket(connection))
            while calling.is_alive():
                with pytest.raises(TimeoutError):
                    listener.accept(SHORT)
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                calling.result()
    assert "does not speak TLS 1.3" in caplog.text

    serving = authority("localhost")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.load_cert_chain(serving["certfile"], serving["keyfile"])
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_server(("localhost", 0)) as listening:
        serving = Background(lambda: old.wrap_socket(listening.accept()[0], server_side=True))
        with pytest.raises(ductworks.ProtocolError, match=r"does not speak TLS 1\.3"):
            ductworks.connect(f"tls:localhost:{listening.getsockname()[1]}", **authority())
        with pytest.raises(ssl.SSLError):
            serving.result()


def test_an_authority_vouches_for_both_sides(authority):
    serving = authority("localhost")
    with ductworks.listen("tls:localhost:0", token=False, **serving) as listener:
        assert "#" not in listener.ticket
        bare = listener.address.partition("?")[0]
        for _ in range(2):
            a, b = meet(listener, bare, **authority("client.example.com"))
            a.send("in")
            assert b.recv() == "in"
        assert "certificate" in refused(listener, bare, **authority())
        assert "UnknownIssuer" in refused(listener, bare, cafile=other_root(authority))


def other_root(authority):
    path = authority()["cafile"].with_name("other.pem")
    trustme.CA().cert_pem.write_to_path(path)
    return path


def test_files_that_are_of_no_use_say_so(authority, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        ductworks.listen(ANY, certfile=tmp_path / "missing.pem")
    assert caught.value.filename == str(tmp_path / "missing.pem")
    (tmp_path / "empty.pem").write_text("")
    for options, why in (
        ({"certfile": tmp_path / "empty.pem"}, "private key"),
        ({"cafile": tmp_path / "empty.pem"}, "certificates in PEM"),
        ({"certfile": authority()["cafile"]}, "private key"),
        ({"keyfile": authority()["cafile"]}, "certfile"),
        ({"token": False}, "anybody"),
        ({"v1": True}, "version 1"),
    ):
        with pytest.raises(ValueError, match=why):
            ductworks.listen(ANY, **options)


def test_the_host_that_is_told_can_be_chosen():
    with ductworks.listen("tls:0.0.0.0:0", advertise="duct.example.com") as listener:
        assert host_of(listener) == "duct.example.com"


def test_a_duct_over_tls_stays_in_its_process():
    with ductworks.listen(ANY) as listener:
        a, b = meet(listener)
    with a, b:
        with pytest.raises(ValueError, match="TLS"):
            a.detach()
        process = multiprocessing.get_context("spawn").Process(target=print, args=(a,))
        with pytest.raises(ValueError, match="TLS"):
            process.start()
        with pytest.raises(TypeError):
            pickle.dumps(a)
        a.send("still here")
        assert b.recv() == "still here"


def test_a_forked_child_is_refused_and_disturbs_nothing():
    with ductworks.listen(ANY) as listener:
        a, b = meet(listener)

    def use():
        for call in (a.try_recv, lambda: a.send(1)):
            with pytest.raises(ductworks.DuctError, match="forked"):
                call()
        a.close()

    with a, b:
        process = multiprocessing.get_context("fork").Process(target=use)
        process.start()
        process.join(PATIENCE)
        assert process.exitcode == 0
        a.send("still here")
        assert b.recv() == "still here"
