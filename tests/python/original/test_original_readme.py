"""The examples that the original's users have, unchanged."""

import pytest

PUBLISHED = """
from ductworks.message_duct import create_psuedo_anonymous_duct_pair
from ductworks.message_duct import MessageDuctParent, MessageDuctChild

parent, child = create_psuedo_anonymous_duct_pair()
parent.send("hello world")
assert child.recv() == "hello world"
parent.close()
child.close()

parent = MessageDuctParent.psuedo_anonymous_parent_duct()
parent.bind()
connect_address = parent.listener_address
child = MessageDuctChild.psuedo_anonymous_child_duct(connect_address)
child.connect()
assert parent.listen()
parent.send("hello world")
assert child.recv() == "hello world"
child.send("hello this is dog")
assert parent.recv() == "hello this is dog"
parent.close()
child.close()
"""

LAST_COMMIT = """
from ductworks.message_duct import create_psuedo_anonymous_duct_pair
from ductworks.message_duct import MessageDuctParent, MessageDuctChild

# Build a simple local pair of message ducts
parent, child = create_psuedo_anonymous_duct_pair()
parent.send("hello world")
assert child.recv() == "hello world"
parent.close()
child.close()

# For situations where a child can't be strictly inherited, create a parent and bind
parent = MessageDuctParent.psuedo_anonymous_parent_duct()
parent.bind()

# Get the address for the child client to connect to.
connect_address = parent.listener_address

# Build and connect the child.
child = MessageDuctChild.psuedo_anonymous_child_duct(connect_address)
child.connect()

# Finalize the connection on the parent side:
assert parent.listen()

# Send data freely
parent, child = create_psuedo_anonymous_duct_pair()
parent.send("hello world")
assert child.recv() == "hello world"
child.send("hello this is dog")
assert parent.recv() == "hello this is dog"
parent.close()
child.close()
"""


@pytest.mark.parametrize("example", [PUBLISHED, LAST_COMMIT])
def test_the_readme_example_runs_unchanged_and_in_silence(start_python, example):
    child = start_python(example)
    assert child.finish() == ""
    assert child.errors == ""
