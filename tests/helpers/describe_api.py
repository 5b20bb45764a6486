"""Prints, as JSON, the public API of the ductworks that is installed with this interpreter."""

import importlib
import inspect
import json
import tempfile

MODULES = ("ductworks.base_duct", "ductworks.message_duct")


def is_own(value):
    module = getattr(value, "__module__", None) or ""
    return module.split(".")[0] == "ductworks"


def describe_default(value):
    if value is inspect.Parameter.empty:
        return None
    if callable(value):
        for module in map(importlib.import_module, MODULES):
            for name, public in sorted(vars(module).items()):
                if public is value:
                    return name
    is_whole = isinstance(value, (int, float)) and value == int(value)
    return repr(int(value) if is_whole else value)


def describe_signature(function):
    return [
        [parameter.name, parameter.kind.name, describe_default(parameter.default)]
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]


def describe_class(cls):
    members = {}
    for name in dir(cls):
        static = inspect.getattr_static(cls, name)
        value = getattr(cls, name)
        if name.startswith("_") or name in dir(Exception):
            continue
        if inspect.isdatadescriptor(static):
            members[name] = {"property": True}
        elif callable(value):
            members[name] = {
                "classmethod": inspect.ismethod(value) or inspect.isbuiltin(value),
                "signature": describe_signature(value),
            }
        else:
            members[name] = {"constant": repr(value)}
    described = {"bases": [base.__name__ for base in cls.__mro__[1:]], "members": members}
    if not issubclass(cls, BaseException):
        described["signature"] = describe_signature(cls)
    return described


def describe_module(module):
    described = {}
    for name, value in vars(module).items():
        if name.startswith("_") or inspect.ismodule(value):
            continue
        if inspect.isclass(value) and is_own(value):
            described[name] = describe_class(value)
        elif callable(value) and is_own(value):
            described[name] = {"signature": describe_signature(value)}
        elif not callable(value):
            described[name] = {"constant": repr(value)}
    return described


def describe_instances():
    from ductworks import base_duct, message_duct

    address = tempfile.gettempdir() + "/nothing-is-bound-here"
    raw_parent, raw_child = base_duct.RawDuctParent(address), base_duct.RawDuctChild(address)
    ducts = [
        raw_parent,
        raw_child,
        message_duct.MessageDuctParent(raw_parent),
        message_duct.MessageDuctChild(raw_child),
    ]
    attributes = {}
    for duct in ducts:
        names = [name for name in dir(duct) if not name.startswith("_")]
        names = [name for name in names if not inspect.ismethod(getattr(duct, name))]
        attributes[type(duct).__name__] = names
    return attributes


if __name__ == "__main__":
    api = {name: describe_module(importlib.import_module(name)) for name in MODULES}
    api["instances"] = describe_instances()
    print(json.dumps(api))
