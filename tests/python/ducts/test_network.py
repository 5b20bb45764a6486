"""Ducts across a network that goes away."""

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, errno, fcntl, os, socket, struct, sys, threading
import ductworks

def set_loopback(is_up):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, 0x8914, struct.pack("16sh14x", b"lo", int(is_up)))  # SIOCSIFFLAGS

libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x40000000) != 0:  # CLONE_NEWNET
    sys.exit(77 if ctypes.get_errno() == errno.EPERM else 1)
set_loopback(True)
with ductworks.listen(sys.argv[1], keepalive=2) as listener:
    ducts = []
    connecting = lambda: ducts.append(ductworks.connect(listener.ticket, keepalive=2))
    child = threading.Thread(target=connecting)
    child.start()
    duct = listener.accept(20)
    child.join()
duct.send("in time")
assert ducts[0].recv(20) == "in time"
set_loopback(False)
if sys.argv[2] == "busy":
    duct.send("never acknowledged")
try:
    duct.recv(20)
except ductworks.PeerDied as death:
    assert "timed out" in str(death).lower(), death
else:
    sys.exit("it was not noticed")
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("address", ["tcp:127.0.0.1:0", "tls:127.0.0.1:0"])
def test_a_network_that_goes_is_noticed_as_a_death(address, state):
    script = subprocess.run(
        [sys.executable, "-c", SCRIPT, address, state],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if script.returncode == 77:
        pytest.skip("no permission for a network of one's own")
    assert script.returncode == 0, script.stderr
