"""Every public name of the original: present, with the same parameters, defaults and bases.

The published version is asked itself, in its own interpreter; what the repository's last commit
renamed stands here as literals.
"""

import json
import subprocess

import describe_api
import pytest
from ductworks import base_duct, message_duct
from support import HELPERS

# What the original documents but does not take.
ADDED = {
    "bind": [["listen_queue_depth", "POSITIONAL_OR_KEYWORD", "1"]],
    "listen": [["timeout", "POSITIONAL_OR_KEYWORD", "60"]],
    "connect": [
        ["connect_retry_count", "POSITIONAL_OR_KEYWORD", "3"],
        ["connect_retry_delay", "POSITIONAL_OR_KEYWORD", "3"],
    ],
}
MESSAGE_DUCTS = (message_duct.MessageDuctParent, message_duct.MessageDuctChild)
RAW_DUCTS = (base_duct.RawDuctParent, base_duct.RawDuctChild)
MODULES = (base_duct, message_duct)


@pytest.fixture(scope="session")
def original(original_python):
    command = [str(original_python), "-I", str(HELPERS / "describe_api.py")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output)


def public_classes(described):
    return {name: item for name, item in described.items() if "members" in item}


@pytest.mark.parametrize("module", MODULES)
def test_every_name_of_the_original_is_there(original, module):
    assert set(original[module.__name__]) <= set(vars(module))


@pytest.mark.parametrize("module", MODULES)
def test_functions_and_constants_are_as_in_the_original(original, module):
    ours = describe_api.describe_module(module)
    for name, described in original[module.__name__].items():
        if "members" not in described:
            assert (name, ours[name]) == (name, described)


@pytest.mark.parametrize("module", MODULES)
def test_classes_have_the_bases_of_the_original(original, module):
    ours = describe_api.describe_module(module)
    for name, described in public_classes(original[module.__name__]).items():
        bases = described["bases"]
        assert [base for base in ours[name]["bases"] if base in bases] == bases, name


@pytest.mark.parametrize("module", MODULES)
def test_constructors_have_the_parameters_of_the_original(original, module):
    ours = describe_api.describe_module(module)
    for name, described in public_classes(original[module.__name__]).items():
        assert (name, ours[name].get("signature")) == (name, described.get("signature"))


@pytest.mark.parametrize("module", MODULES)
def test_members_are_as_in_the_original_or_complete_it(original, module):
    ours = describe_api.describe_module(module)
    for class_name, described in public_classes(original[module.__name__]).items():
        for name, member in described["members"].items():
            if "signature" in member and not member["signature"]:
                member["signature"] = ADDED.get(name, [])
            where = f"{class_name}.{name}"
            assert (where, ours[class_name]["members"].get(name)) == (where, member)


def test_instances_have_the_attributes_of_the_original(original):
    ours = describe_api.describe_instances()
    for name, attributes in original["instances"].items():
        assert set(attributes) <= set(ours[name]), name


def test_exceptions_can_be_caught_as_in_the_original():
    assert issubclass(base_duct.DuctworksException, Exception)
    for error in (
        base_duct.CommunicationFaultException,
        base_duct.AlreadyConnectedException,
        base_duct.NotConnectedException,
        base_duct.LocalSocketFault,
        message_duct.MessageProtocolException,
        message_duct.RemoteDuctClosed,
    ):
        assert issubclass(error, base_duct.DuctworksException)
    assert issubclass(message_duct.RemoteDuctClosed, EOFError)
    assert message_duct.DuctworksException is base_duct.DuctworksException


def test_the_new_ends_can_be_caught_as_the_old_one():
    assert issubclass(message_duct.RemoteDuctTruncated, message_duct.RemoteDuctClosed)
    assert issubclass(message_duct.RemoteDuctReset, message_duct.RemoteDuctClosed)
    assert issubclass(message_duct.RemoteDuctReset, ConnectionResetError)


def test_the_magic_byte_is_public():
    assert message_duct.MAGIC_BYTE == b"\x54"


@pytest.mark.parametrize("duct", MESSAGE_DUCTS + RAW_DUCTS)
def test_the_descriptor_has_its_name_of_both_versions(duct):
    for name in ("fileno", "get_conn_file_descriptor"):
        assert describe_api.describe_signature(getattr(duct, name)) == []


def test_the_decoder_constructor_has_its_name_of_both_versions():
    by_name = {
        name: describe_api.describe_signature(getattr(message_duct, name))
        for name in (
            "deserializer_with_encoder_constructor",
            "deserializer_with_decoder_constructor",
        )
    }
    wanted = [
        ["deserialization_func", "POSITIONAL_OR_KEYWORD", None],
        ["decoder_type", "POSITIONAL_OR_KEYWORD", "'utf-8'"],
        ["decoder_error_mode", "POSITIONAL_OR_KEYWORD", "'replace'"],
    ]
    assert by_name == dict.fromkeys(by_name, wanted)


def test_each_misspelt_name_has_an_alias_spelt_right():
    for owner in (message_duct, *MESSAGE_DUCTS):
        misspelt = [name for name in dir(owner) if "psuedo" in name]
        assert misspelt
        for name in misspelt:
            alias = getattr(owner, name.replace("psuedo", "pseudo"))
            describe = describe_api.describe_signature
            assert describe(alias) == describe(getattr(owner, name))


def test_the_aliases_make_working_ducts(closing):
    closing(*message_duct.create_pseudo_anonymous_duct_pair())
    unix = closing(message_duct.MessageDuctParent.pseudo_anonymous_parent_duct())
    tcp = closing(message_duct.MessageDuctParent.pseudo_anonymous_tcp_parent_duct())
    for parent in (unix, tcp):
        parent.bind()
    unix_child = closing(
        message_duct.MessageDuctChild.pseudo_anonymous_child_duct(unix.listener_address)
    )
    tcp_child = closing(
        message_duct.MessageDuctChild.pseudo_anonymous_tcp_child_duct(*tcp.listener_address[:2])
    )
    for parent, child in ((unix, unix_child), (tcp, tcp_child)):
        child.connect()
        assert parent.listen()
        child.send(child.connect_address)
        assert parent.recv() is not None
        assert parent.bind_address is not None


def test_class_methods_of_a_subclass_make_that_subclass():
    class Special(message_duct.MessageDuctParent):
        pass

    assert type(Special.psuedo_anonymous_parent_duct()) is Special
    assert type(Special.psuedo_anonymous_tcp_parent_duct()) is Special
