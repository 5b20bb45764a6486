"""The demonstration: ``make demo``.

It runs the original library's example and the modern API, takes the place of multiprocessing's
Pipe, talks to children that were started by exec, in Python and in Rust, over Unix sockets and TCP,
and measures messages per second beside multiprocessing's Pipe.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))

import ductworks  # noqa: E402
from ductworks.connection import Listener  # noqa: E402
from ductworks.message_duct import (  # noqa: E402
    MessageDuctParent,
    create_pseudo_anonymous_duct_pair,
)
from quick import format_rows, quick_table  # noqa: E402

DOCUMENTS: list[Any] = [
    "hello world",
    {"job": 1, "args": [1.5, None, True], "name": "Grüße 🐕"},
    list(range(1000)),
    "x" * 1_000_000,
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rust-child", help="the built Rust example 'echo'")
    options = parser.parse_args()
    started = time.monotonic()

    step("The original's example: a pair, and a parent and a child")
    original_example()

    step("The modern API: two children at one address, waited for together")
    children_at_one_address()

    step("In place of multiprocessing's Pipe, and a stock Python as its client")
    in_place_of_multiprocessing()

    for language, command in children(options.rust_child):
        for transport in ("unix", "tcp"):
            step(f"A {language} child, started by exec, over {transport}")
            talk(transport, command)

    step("Messages per second, measured here and now (one way, both processes on one core)")
    print(format_rows(quick_table(seconds=6)))
    print(f"\nDone in {time.monotonic() - started:.1f} s.")


def step(text: str) -> None:
    print(f"\n== {text}", flush=True)


CHILD = """
import os, ductworks
with ductworks.connect(os.environ.pop("DUCT")) as duct:
    for job in duct:
        duct.send({"text": job["text"], "words": len(job["text"].split())})
"""


def children_at_one_address() -> None:
    with ductworks.listen() as listener:
        workers = []
        ducts = []
        for _ in range(2):
            environment = {**os.environ, "DUCT": listener.ticket}  # A secret, and for one child.
            workers.append(subprocess.Popen([sys.executable, "-c", CHILD], env=environment))
            ducts.append(listener.accept(timeout=30))
    for duct, text in zip(ducts, ["count these four words", "and these"]):
        duct.send({"text": text}, timeout=10)
    while ducts:
        for duct in ductworks.wait(ducts, timeout=30):
            print("   ", duct.recv())
            ducts.remove(duct)
            duct.close()
    for worker in workers:
        worker.wait(30)


STOCK_CLIENT = """
import sys
from multiprocessing.connection import Client
with Client(sys.argv[1], authkey=b"secret") as connection:
    connection.send(sum(connection.recv()))
"""


def in_place_of_multiprocessing() -> None:
    ours, theirs = ductworks.Pipe()
    process = multiprocessing.Process(target=add_up, args=(theirs,))
    process.start()
    ours.send([1, 2, 3])
    print("    the process answers:", ours.recv())
    process.join()
    with Listener(authkey=b"secret") as listener:
        client = subprocess.Popen([sys.executable, "-I", "-c", STOCK_CLIENT, listener.address])
        connection = listener.accept(timeout=30)
    with client, connection:
        connection.send([4, 5, 6])
        print("    the stock client answers:", connection.recv())


def add_up(connection: ductworks.connection.Connection) -> None:
    connection.send(sum(connection.recv()))


def original_example() -> None:
    parent, child = create_pseudo_anonymous_duct_pair()
    parent.send("hello world")
    print("   the child received:", repr(child.recv()))
    child.send("hello this is dog")
    print("   the parent received:", repr(parent.recv()))
    parent.close()
    child.close()


def children(rust_child: Optional[str]) -> list[tuple[str, list[str]]]:
    found = [("Python", [sys.executable, str(HERE / "echo.py")])]
    if rust_child is not None:
        found.append(("Rust", [rust_child]))
    return found


def talk(transport: str, command: list[str]) -> None:
    if transport == "unix":
        parent = MessageDuctParent.pseudo_anonymous_parent_duct()
        parent.bind()
        address = f"unix:{parent.listener_address}"
    else:
        parent = MessageDuctParent.pseudo_anonymous_tcp_parent_duct()
        parent.bind()
        host, port = parent.listener_address[:2]
        address = f"tcp:{host}:{port}"
    print("   address:", address)
    with subprocess.Popen([*command, address]) as child:
        if not parent.listen(timeout=30):
            raise SystemExit(f"the child did not connect (exit code {child.poll()})")
        for document in DOCUMENTS:
            parent.send(document)
            echo = parent.recv()
            if echo != document:
                raise SystemExit(f"sent {document!r:.60}, got {echo!r:.60}")
        parent.close()
        code = child.wait(timeout=30)
    if code != 0:
        raise SystemExit(f"the child ended with exit code {code}")
    print(f"   {len(DOCUMENTS)} documents there and back; the child ended with exit code {code}")


if __name__ == "__main__":
    main()
