"""What each codec takes for a message: microseconds, for docs/codecs.md.

    .venv/bin/python benchmarks/codecs.py [seconds]

All codecs take turns, in rounds, and the fastest round counts: what else runs on the machine can
only add to it. "Duct" is send and then recv by the same thread, on a pair of ducts. Libraries that
are not installed are left out.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Callable, NamedTuple, Optional

import ductworks
from ductworks import _native, codecs

ROUNDS = 40


@dataclass
class Small:
    id: int
    name: str
    score: float


@dataclass
class Item:
    id: int
    name: str
    price: float
    tags: list[str]
    active: bool
    parent: Optional[int]
    note: str


@dataclass
class Medium:
    items: list[Item]


SMALL = Small(7, "duct", 2.5)
MEDIUM = Medium(
    [
        Item(
            i, f"item {i}", i * 1.25, ["a", "bb", "ccc"], i % 2 == 0, None, "a text of a few words"
        )
        for i in range(83)
    ]
)


class Entry(NamedTuple):
    name: str
    value: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    codec: Any  # What a duct takes; None if it is here for comparison.


def entries(value: Any) -> Iterator[Entry]:
    plain = asdict(value)
    native = _native.default_serializer, _native.default_deserializer
    yield Entry("json", plain, *native, "json")
    for name in ("msgpack", "cbor"):
        if has("msgspec" if name == "msgpack" else "cbor2"):
            codec = codecs.resolve(name)
            yield Entry(name, plain, codec.encode, codec.decode, name)
    pickled = partial(pickle.dumps, protocol=5)
    yield Entry("pickle (by the pickle module)", plain, pickled, pickle.loads, "pickle")
    if has("msgspec"):
        for format in ("json", "msgpack", "cbor") if has("cbor2") else ("json", "msgpack"):
            typed = codecs.Typed(send=type(value), recv=type(value), format=format)
            name = f"dataclass, {format}"
            yield Entry(name, value, typed.encode, typed.decode, typed)
    if has("pydantic"):
        import pydantic

        model = pydantic.TypeAdapter(pydantic.dataclasses.dataclass(type(value)))
        kind = type(model.validate_python(plain))
        typed = codecs.Typed(send=kind, recv=kind)
        made = model.validate_python(plain)
        yield Entry("pydantic, json", made, typed.encode, typed.decode, typed)
    yield Entry(
        "the json module", plain, lambda value: json.dumps(value).encode(), json.loads, None
    )
    if has("orjson"):
        import orjson

        yield Entry("orjson", plain, orjson.dumps, orjson.loads, None)


def has(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def through(entry: Entry) -> Callable[[], None]:
    """Send and receive on a pair of ducts."""
    a, b = ductworks.pair(entry.codec)
    value = entry.value

    def turn() -> None:
        a.send(value)
        b.recv()

    return turn


def measured(value: Any, seconds: float) -> dict[str, list[Optional[float]]]:
    """Microseconds for encode, decode, and both through a duct; by name."""
    work: list[tuple[str, Callable[[], Any]]] = []
    for entry in entries(value):
        message = entry.encode(entry.value)
        work.append((entry.name, partial(entry.encode, entry.value)))
        work.append((entry.name, partial(entry.decode, message)))
        if entry.codec is not None:
            work.append((entry.name, through(entry)))
    share = seconds / ROUNDS / len(work)
    counts = [max(1, round(share / timed(call, 20))) for _, call in work]
    rounds = [[timed(call, count) for (_, call), count in zip(work, counts)] for _ in range(ROUNDS)]
    table: dict[str, list[Optional[float]]] = {}
    for (name, _), times in zip(work, zip(*rounds)):
        table.setdefault(name, []).append(min(times) * 1e6)
    return table


def timed(call: Callable[[], Any], count: int) -> float:
    repeat = range(count)
    begin = time.perf_counter()
    for _ in repeat:
        call()
    return (time.perf_counter() - begin) / count


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    sizes = [len(json.dumps(asdict(value))) for value in (SMALL, MEDIUM)]
    small, medium = (measured(value, seconds / 2) for value in (SMALL, MEDIUM))
    print(f"microseconds; small is {sizes[0]} B of JSON, medium {sizes[1]:,} B\n")
    columns = [f"{size} {what}" for size in ("small", "medium") for what in ("out", "in", "duct")]
    print("| " + " | ".join(["", *columns]) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, times in small.items():
        cells = [*times, None][:3] + [*medium[name], None][:3]
        print("| " + " | ".join([name, *map(written, cells)]) + " |")


def written(time: Optional[float]) -> str:
    if time is None:
        return ""
    return f"{time:.2f}" if time < 10 else f"{time:.0f}"


if __name__ == "__main__":
    main()
