"""The other process of a test: connects or listens, and sends back all it gets until "stop".

usage: echo_peer.py (parent|child) (unix|tcp) (json|raw) [ADDRESS]

A parent prints its address as JSON. This file uses only what the original 0.0.1a4 has too.
"""

import json
import sys

from ductworks.message_duct import MessageDuctChild, MessageDuctParent


def main(role, transport, codec, address="null"):
    options = {}
    if codec == "raw":
        options = {"serialize": bytes, "deserialize": bytes}
    if role == "parent":
        if transport == "unix":
            duct = MessageDuctParent.psuedo_anonymous_parent_duct(**options)
        else:
            duct = MessageDuctParent.psuedo_anonymous_tcp_parent_duct("127.0.0.1", **options)
        duct.bind()
        print(json.dumps(duct.listener_address), flush=True)
        assert duct.listen()
    else:
        address = json.loads(address)
        if transport == "unix":
            duct = MessageDuctChild.psuedo_anonymous_child_duct(address, **options)
        else:
            duct = MessageDuctChild.psuedo_anonymous_tcp_child_duct(*address, **options)
        duct.connect()
    while True:
        message = duct.recv()
        if message in ("stop", b"stop"):
            break
        duct.send(message)
    try:
        duct.recv()
    except EOFError:
        print("clean end", flush=True)
    duct.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
