"""Addresses and tickets as text."""

import hashlib

from .handshakes import TOKEN_A


def ticket_vectors():
    token, pin = TOKEN_A.hex(), hashlib.sha256(b"a key").hexdigest()
    path = {"scheme": "unix", "path": "/run/duct"}

    def good(name, text, address, token=None, canonical=None):
        canonical = canonical or text
        return {
            "name": name,
            "text": text,
            "address": address,
            "token": token,
            "canonical": canonical,
        }

    def tcp(host, port):
        return {"scheme": "tcp", "host": host, "port": port}

    def tls(host, port, pin=None):
        return {"scheme": "tls", "host": host, "port": port, "pin": pin}

    bad = [
        ("an unknown scheme", "udp:127.0.0.1:4000"),
        ("a relative path without a scheme", "run/duct"),
        ("an empty path", "unix:"),
        ("a path of 108 bytes", "unix:/" + "x" * 107),
        ("no port", "tcp:127.0.0.1"),
        ("a port that is too large", "tcp:127.0.0.1:65536"),
        ("a port with a sign", "tcp:127.0.0.1:+1"),
        ("an IPv6 address without brackets", "tcp:::1:4000"),
        ("a token that is too short", f"tcp:127.0.0.1:4000#{token[:-1]}"),
        ("a token that is too long", f"tcp:127.0.0.1:4000#{token}0"),
        ("an empty token", "tcp:127.0.0.1:4000#"),
        ("a token that is not hexadecimal", f"unix:/run/duct#{'g' * 64}"),
        ("a pin at a TCP address", f"tcp:127.0.0.1:4000?pin={pin}"),
        ("a pin that is too short", f"tls:host.example:4000?pin={pin[:-2]}"),
        ("another query", f"tls:host.example:4000?key={pin}"),
    ]
    return [
        good("a Unix path", "unix:/run/duct", path),
        good("a path alone", "/run/duct", path, canonical="unix:/run/duct"),
        good("a Unix ticket", f"unix:/run/duct#{token}", path, token),
        good(
            "a path alone with a token",
            f"/run/duct#{token}",
            path,
            token,
            f"unix:/run/duct#{token}",
        ),
        good(
            "digits of the other case",
            f"unix:/run/duct#{token.upper()}",
            path,
            token,
            f"unix:/run/duct#{token}",
        ),
        good(
            "a path with the sign in it",
            "unix:/run/duct#1",
            {"scheme": "unix", "path": "/run/duct#1"},
        ),
        good(
            "a path with the sign in it, and a token",
            f"unix:/run/a#b#{token}",
            {"scheme": "unix", "path": "/run/a#b"},
            token,
        ),
        good(
            "a path of 107 bytes", "unix:/" + "x" * 106, {"scheme": "unix", "path": "/" + "x" * 106}
        ),
        good("a TCP ticket", f"tcp:127.0.0.1:4000#{token}", tcp("127.0.0.1", 4000), token),
        good("a TCP address with a name", "tcp:localhost:65535", tcp("localhost", 65535)),
        good("an IPv6 ticket", f"tcp:[::1]:4000#{token}", tcp("::1", 4000), token),
        good(
            "a TLS ticket with a pin",
            f"tls:host.example:4000?pin={pin}#{token}",
            tls("host.example", 4000, pin),
            token,
        ),
        good("a TLS address without a pin", "tls:[2001:db8::1]:4000", tls("2001:db8::1", 4000)),
        *({"name": name, "text": text, "refused": True} for name, text in bad),
    ]
