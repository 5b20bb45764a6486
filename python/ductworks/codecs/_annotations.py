"""What can be told of annotations without any library."""

from __future__ import annotations

import dataclasses
import sys
import typing
from typing import Annotated, Any, Callable, Literal, Optional, Union

# The classes of `X | Y`, from Python 3.10 on, are not those of Union[X, Y].
_UNIONS = {Union, getattr(sys.modules.get("types"), "UnionType", Union)}


def is_union(annotation: Any) -> bool:
    """Whether it is ``Union[X, Y]`` or ``X | Y``."""
    return typing.get_origin(annotation) in _UNIONS


def members_of(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation itself."""
    return typing.get_args(annotation) if is_union(annotation) else (annotation,)


def name_of(annotation: Any) -> str:
    """A short name for messages: ``Job``, ``list[Job]``, ``Job or None``."""
    if annotation is None or annotation is type(None):
        return "None"
    if is_union(annotation):
        return " or ".join(map(name_of, typing.get_args(annotation)))
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return name_of(arguments[0])
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is not None and arguments:
        return f"{name_of(origin)}[{', '.join(map(name_of, arguments))}]"
    if annotation is ...:
        return "..."
    name = getattr(annotation, "__name__", None)
    return name if isinstance(name, str) else repr(annotation).replace("typing.", "")


def acceptance(annotation: Any) -> Callable[[Any], bool]:
    """A cheap check of what is to be sent: whether it is of the class, as far as there is one."""
    classes = _classes_of(annotation)
    if classes is None:
        return lambda value: True
    # True is an int to isinstance, but not to those who receive it.
    for_bool = any(each not in (int, float) and issubclass(bool, each) for each in classes)

    def accepts(value: Any) -> bool:
        return isinstance(value, classes) and (for_bool or type(value) is not bool)

    return accepts


def _classes_of(annotation: Any) -> Optional[tuple[type, ...]]:
    """The classes that values are instances of; None if that cannot be told."""
    if annotation is None:
        return (type(None),)
    if annotation is Any:
        return None
    if annotation is float:
        return float, int
    if is_union(annotation):
        found = [_classes_of(member) for member in typing.get_args(annotation)]
        return None if None in found else tuple(each for some in found for each in some or ())
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _classes_of(typing.get_args(annotation)[0])
    if origin is Literal:
        return tuple({type(value) for value in typing.get_args(annotation)})
    if _is_alias(annotation):
        return _classes_of(_aliased(annotation))
    kind = origin or annotation
    if not isinstance(kind, type):
        return None
    if _is_typed_dict(kind):
        return (dict,)
    try:
        isinstance(None, kind)
    except TypeError:  # Some Protocols cannot be asked.
        return None
    return (kind,)


def mentions_pydantic(annotation: Any) -> bool:
    """Whether a type is pydantic's, or contains one that is."""
    # Without the library there are no such types.
    return "pydantic" in sys.modules and _mentions_pydantic(annotation, set())


def _mentions_pydantic(annotation: Any, seen: set[int]) -> bool:
    if id(annotation) in seen:
        return False
    seen.add(id(annotation))
    kind = typing.get_origin(annotation) or annotation
    if hasattr(kind, "__pydantic_core_schema__") or _is_of_pydantic(annotation):
        return True
    inner = [*typing.get_args(annotation)]
    if _is_alias(annotation):
        inner.append(_aliased(annotation))
    if isinstance(kind, type) and (
        dataclasses.is_dataclass(kind) or _is_typed_dict(kind) or hasattr(kind, "_fields")
    ):
        try:
            inner += typing.get_type_hints(kind, include_extras=True).values()
        except Exception:  # The library that takes the type will say what is wrong with it.
            return False
    return any(_mentions_pydantic(each, seen) for each in inner)


def _is_of_pydantic(thing: Any) -> bool:
    """A class of pydantic's own, such as SecretStr, or an instance of one beside a type in
    Annotated, such as Field(gt=0). msgspec would not heed the latter."""
    kind = thing if isinstance(thing, type) else type(thing)
    return kind.__module__.partition(".")[0] in ("pydantic", "annotated_types")


def _is_typed_dict(kind: type) -> bool:
    return issubclass(kind, dict) and hasattr(kind, "__total__")


def _is_alias(annotation: Any) -> bool:
    return not isinstance(annotation, type) and _aliased(annotation) is not None


def _aliased(annotation: Any) -> Any:
    """What a NewType, or a `type X = ...`, stands for."""
    return getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
