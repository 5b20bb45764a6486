"""Tickets where none belong, and with a slip in them: no exception shows the token."""

import traceback

import ductworks
import ductworks.connection
import pytest
from ductworks.message_duct import MessageDuctChild, MessageDuctParent
from support import SHORT

TOKEN = "0123456789abcdefABCDEF9876543210" * 2


def refusal_of(call, *arguments, **keywords):
    """The exception, which was raised at once and shows no part of the token."""
    with pytest.raises((ValueError, TypeError, OSError)) as refusal:
        call(*arguments, **keywords)
    error = refusal.value
    while error is not None:
        told = "".join(traceback.format_exception_only(type(error), error))
        for shown in (str(error), repr(error), told):
            assert TOKEN[:25] not in shown
        error = error.__cause__ or error.__context__
    return refusal.value


@pytest.mark.parametrize("wrap", [str.encode, lambda text: [text], lambda text: {"ticket": text}])
def test_what_is_no_text_is_named_by_its_type(wrap):
    wrong = wrap(f"unix:/x#{TOKEN}")
    for use in (ductworks.connect, ductworks.listen):
        error = refusal_of(use, wrong)
        assert isinstance(error, TypeError)
        assert f"got a value of type {type(wrong).__name__}" in str(error)
    refusal_of(ductworks.connection.Client, wrong)
    refusal_of(ductworks.connection.Listener, wrong)


@pytest.mark.parametrize("slip", ['"', ";", "'", "\0", " trailing", "/y", "#", "0"])
@pytest.mark.parametrize("address", ["unix:/x", "/x", "tcp:127.0.0.1:1"])
def test_a_ticket_with_a_slip_is_refused_at_once(address, slip):
    error = refusal_of(ductworks.connect, f"{address}#{TOKEN}{slip}", timeout=SHORT)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("sign", ["", "%23", "?token=", "&token="])
@pytest.mark.parametrize("address", ["", "unix:/x", "/x", "tcp:127.0.0.1:1", "tls:127.0.0.1:1"])
def test_a_token_without_its_sign_is_not_shown(address, sign):
    refusal_of(ductworks.connect, f"{address}{sign}{TOKEN}", timeout=0)
    if address != "/x":
        refusal_of(ductworks.listen, f"tcp:{address}{sign}{TOKEN}")


@pytest.mark.parametrize("ticket", [f"unix:/x#{TOKEN}", f"/x#{TOKEN}", f"tcp:h:1#{TOKEN}\n"])
def test_the_originals_api_takes_no_ticket(ticket):
    for make in (
        MessageDuctChild.pseudo_anonymous_child_duct,
        MessageDuctParent.pseudo_anonymous_parent_duct,
    ):
        for each in (ticket, ticket.encode()):
            assert "ductworks.connect" in str(refusal_of(make, each))
    for make in (
        MessageDuctChild.pseudo_anonymous_tcp_child_duct,
        MessageDuctParent.pseudo_anonymous_tcp_parent_duct,
    ):
        assert "ductworks.connect" in str(refusal_of(make, ticket, 1))


@pytest.mark.parametrize("ticket", [f"unix:/x#{TOKEN}", f"/x#{TOKEN}", f"tcp:h:1#{TOKEN}\n"])
def test_multiprocessings_api_takes_no_ticket(ticket):
    for each in (ticket, ticket.encode(), (ticket, 1)):
        refusal_of(ductworks.connection.Client, each)
        refusal_of(ductworks.connection.Listener, each)
