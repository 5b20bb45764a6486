"""What a type checker makes of ductworks: ``make lint`` runs mypy over it, and nothing runs it."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, TypedDict, Union

import ductworks
import ductworks.codecs
from ductworks.connection import Client, Connection, Listener, Pipe
from typing_extensions import assert_type


@dataclass
class Job:
    name: str


@dataclass
class Result:
    value: float


def untyped() -> None:
    a, b = ductworks.pair()
    assert_type(a, ductworks.Duct[Any, Any])
    a.send({"anything": 1})
    assert_type(b.recv(timeout=1.5), Any)
    assert_type(b.recv_bytes(), bytes)
    assert_type(b.recv_into(bytearray(4)), int)
    assert_type(b.poll(None), bool)
    assert_type(a.stats(), ductworks.Stats)
    assert_type(a.address, "str | None")


def typed() -> None:
    a, b = ductworks.pair(type=Job)
    assert_type(a, ductworks.Duct[Job, Job])
    a.send(Job("one"))
    a.send("one")  # type: ignore[arg-type]
    assert_type(b.recv(), Job)
    for job in b:
        assert_type(job, Job)


class Options(TypedDict):
    depth: int


def typed_by_annotations() -> None:
    a, b = ductworks.pair("msgpack", type=list[Job])
    assert_type(b.recv(), list[Job])
    a.send([Result(1.0)])  # type: ignore[list-item]
    c, d = ductworks.pair(type=Options)
    c.send({"depth": 1})
    assert_type(d.recv()["depth"], int)
    e, f = ductworks.pair(type=Union[Job, Result])
    e.send(Job("one"))
    e.send("one")  # type: ignore[arg-type]
    assert_type(f.recv(), Union[Job, Result])
    duct = ductworks.connect("unix:/run/duct", type=Optional[Job])
    assert_type(duct, ductworks.Duct[Optional[Job], Optional[Job]])
    listener = ductworks.listen(codec="cbor", type=Union[Job, Result])
    assert_type(listener.accept(), ductworks.Duct[Union[Job, Result], Union[Job, Result]])


def two_types() -> None:
    codec = ductworks.codecs.Typed(send=Job, recv=Result)
    assert_type(codec, ductworks.codecs.Typed[Job, Result])
    a, b = ductworks.pair(codec)
    assert_type(a, ductworks.Duct[Job, Result])
    assert_type(b, ductworks.Duct[Result, Job])
    unions = ductworks.codecs.Typed(send=Job, recv=Union[Job, Result], format="cbor")
    assert_type(unions, ductworks.codecs.Typed[Job, Union[Job, Result]])
    server = ductworks.listen(codec=unions)
    assert_type(server, ductworks.Listener[Job, Union[Job, Result]])
    client = ductworks.connect("unix:/run/duct", codec=codec)
    assert_type(client, ductworks.Duct[Job, Result])
    client.send(Result(1.0))  # type: ignore[arg-type]
    assert_type(client.recv(), Result)


def servers() -> None:
    with ductworks.listen(type=Job) as listener:
        assert_type(listener, ductworks.Listener[Job, Job])
        assert_type(listener.accept(timeout=5), ductworks.Duct[Job, Job])
        for duct in listener:
            assert_type(duct.recv(), Job)
    assert_type(ductworks.listen(("127.0.0.1", 0)), ductworks.Listener[Any, Any])
    assert_type(ductworks.connect(Path("/run/duct")), ductworks.Duct[Any, Any])
    ductworks.connect(5)  # type: ignore[call-overload]


def a_codec_of_ones_own() -> None:
    class Numbers:
        def encode(self, value: int, /) -> bytes:
            return b"%d" % value

        def decode(self, data: bytes, /) -> int:
            return int(data)

    a, b = ductworks.pair(Numbers())
    assert_type(a, ductworks.Duct[int, int])
    a.send("text")  # type: ignore[arg-type]
    assert_type(b.recv(), int)
    c, _ = ductworks.pair((pickle.dumps, pickle.loads))
    c.send(object())


def connections() -> None:
    a, b = Pipe(duplex=False)
    assert_type(a, Connection)
    b.send([1])
    assert_type(a.recv_bytes(100), bytes)
    with Listener(("localhost", 0), authkey=b"key") as listener:
        assert_type(listener.accept(), Connection)
        assert_type(Client(listener.address, authkey=b"key"), Connection)
    Client("path", authkey="text")  # type: ignore[arg-type]
