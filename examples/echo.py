"""A child that echoes every message until the parent closes: ``python echo.py ADDRESS``.

The address is ``unix:PATH`` or ``tcp:HOST:PORT``.
"""

import sys

from ductworks.message_duct import MessageDuctChild, RemoteDuctClosed


def connect(address: str) -> MessageDuctChild:
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        child = MessageDuctChild.pseudo_anonymous_child_duct(rest)
    elif scheme == "tcp":
        host, _, port = rest.rpartition(":")
        child = MessageDuctChild.pseudo_anonymous_tcp_child_duct(host, int(port))
    else:
        raise SystemExit(f"bad address {address!r}: expected unix:PATH or tcp:HOST:PORT")
    child.connect(connect_retry_count=3, connect_retry_delay=0.1)
    return child


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    duct = connect(sys.argv[1])
    try:
        while True:
            duct.send(duct.recv())
    except RemoteDuctClosed:
        duct.close()


if __name__ == "__main__":
    main()
