"""Libraries that are extras: imported when a codec is asked for, and not before."""

from __future__ import annotations

import importlib
from typing import Any

from ductworks.codecs._annotations import mentions_pydantic

NAMES = ("json", "msgpack", "cbor", "pickle", "raw")


def format_by_name(name: str) -> Any:
    """The module with ``encode`` and ``decode`` of a format that is not native."""
    if name == "msgpack":
        return _import("_msgpack", library="msgspec", extra="msgpack")
    if name == "cbor":
        return _import("_cbor", library="cbor2", extra="cbor")
    raise ValueError(f"unknown codec {name!r}: expected one of {', '.join(NAMES)}")


def library_for(annotation: Any) -> Any:
    """The module with ``encoder`` and ``decoder`` for a type."""
    if mentions_pydantic(annotation):
        return _import("_pydantic", library="pydantic", extra="pydantic")
    return _import("_msgspec", library="msgspec", extra="typed")


def _import(module: str, library: str, extra: str) -> Any:
    try:
        return importlib.import_module(f"ductworks.codecs.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise ImportError(
            f"this codec needs {library}, which is not installed: pip install 'ductworks[{extra}]'",
            name=library,
        ) from error
