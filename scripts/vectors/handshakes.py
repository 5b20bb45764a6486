"""Who says what in a handshake, and what comes of it."""

import hashlib

from .wire import (
    ACCEPT,
    DEFAULT_LIMIT,
    DESCRIPTORS,
    HELLO,
    MESSAGE,
    OPEN,
    PROOF,
    REFUSED,
    TOKEN,
    changed,
    hello,
    key_of,
    proof_of,
    proved,
    transcript,
    v2_frame,
)

TOKEN_A = bytes(range(0x40, 0x60))
TOKEN_B = hashlib.sha256(b"another token").digest()
CLIENT_NONCE, SERVER_NONCE = bytes([0xC1] * 32), bytes([0x5E] * 32)
BINDING = hashlib.sha256(b"what the exporter of a session of TLS gave").digest()
NO_TLS = bytes(32)


def side(nonce, token=TOKEN_A, limit=DEFAULT_LIMIT, codec="json", capabilities=0, binding=NO_TLS):
    """What one end brings: nobody's token means the open mode."""
    terms = {"limit": limit, "codec": codec, "capabilities": capabilities, "nonce": nonce.hex()}
    return {"token": token and token.hex(), **terms, "binding": binding.hex()}


def client(**terms):
    return side(CLIENT_NONCE, **terms)


def server(**terms):
    return side(SERVER_NONCE, **terms)


def opening(end):
    mode = OPEN if end["token"] is None else TOKEN
    nonce = bytes.fromhex(end["nonce"])
    return hello(mode, end["limit"], nonce, end["codec"], end["capabilities"])


def answered(client, server, heard=None):
    """The server's hello in answer to what it heard."""
    heard = opening(client) if heard is None else heard
    if server["token"] is None:
        return opening(server)
    token, binding = bytes.fromhex(server["token"]), bytes.fromhex(server["binding"])
    return proved(opening(server), token, heard, binding)


def final_proof(client, client_hello, server_hello):
    token, binding = bytes.fromhex(client["token"]), bytes.fromhex(client["binding"])
    return v2_frame(PROOF, proof_of("client", token, client_hello, server_hello, binding))


def exchange(name, about, ends, messages, outcome, honest="both", agreed=None):
    client, server = ends
    names = {
        HELLO: "hello",
        PROOF: "proof",
        ACCEPT: "accept",
        REFUSED: "refused",
        MESSAGE: "message",
    }
    listed = [{"from": who, "is": names[frame[1]], "hex": frame.hex()} for who, frame in messages]
    vector = {"name": name, "about": about, "honest": honest, "client": client, "server": server}
    hellos = [frame for _, frame in messages if frame[1] == HELLO]
    if len(hellos) == 2 and server["token"] is not None:
        token, binding = bytes.fromhex(server["token"]), bytes.fromhex(server["binding"])
        vector["derived"] = {
            "key": key_of(token).hex(),
            "transcript": transcript(*hellos, binding).hex(),
            "server_proof": proof_of("server", token, *hellos, binding).hex(),
            "client_proof": proof_of("client", token, *hellos, binding).hex(),
        }
    return {**vector, "messages": listed, "outcome": outcome, "agreed": agreed}


def complete(client, server):
    """All that is said where the two know the same token."""
    asked, reply = opening(client), answered(client, server)
    proof, verdict = final_proof(client, asked, reply), v2_frame(ACCEPT)
    return [("client", asked), ("server", reply), ("client", proof), ("server", verdict)]


REFUSAL = v2_frame(REFUSED)


def handshake_vectors():
    return accepted() + refused_tokens() + refused_changes() + refused_modes()


def accepted():
    unix = client(limit=1 << 20, capabilities=DESCRIPTORS), server(capabilities=DESCRIPTORS)
    tcp = client(codec=""), server(limit=1 << 16)
    tls = client(binding=BINDING), server(binding=BINDING)
    free = client(token=None, capabilities=DESCRIPTORS), server(token=None, limit=1000)
    named = client(codec="\u00e9" * 17 + "x"), server(codec="")
    newer, newest = client(capabilities=0x8001), server(capabilities=0xFFFF)
    modest = server(capabilities=DESCRIPTORS)
    limit = DEFAULT_LIMIT
    return [
        exchange(
            "a token, over a Unix socket",
            "the smaller limit holds, and both take descriptors",
            unix,
            complete(*unix),
            "accepted",
            agreed={"limit": 1 << 20, "descriptors": True},
        ),
        exchange(
            "a token, over TCP",
            "a codec without a name fits with any",
            tcp,
            complete(*tcp),
            "accepted",
            agreed={"limit": 1 << 16, "descriptors": False},
        ),
        exchange(
            "a token, over TLS",
            "the proofs are bound to the session",
            tls,
            complete(*tls),
            "accepted",
            agreed={"limit": limit, "descriptors": False},
        ),
        exchange(
            "no token",
            "the open mode: two hellos, and descriptors only where both take them",
            free,
            [("client", opening(free[0])), ("server", opening(free[1]))],
            "accepted",
            agreed={"limit": 1000, "descriptors": False},
        ),
        exchange(
            "a codec's name of 35 bytes",
            "the longest, and not of ASCII only",
            named,
            complete(*named),
            "accepted",
            agreed={"limit": limit, "descriptors": False},
        ),
        exchange(
            "a client that can do more",
            "what the server does not know is of no interest to it",
            (newer, modest),
            complete(newer, modest),
            "accepted",
            "server",
            agreed={"limit": limit, "descriptors": True},
        ),
        exchange(
            "a server that can do more",
            "what the client does not know is of no interest to it",
            (client(capabilities=DESCRIPTORS), newest),
            complete(client(capabilities=DESCRIPTORS), newest),
            "accepted",
            "client",
            agreed={"limit": limit, "descriptors": True},
        ),
    ]


def refused_tokens():
    ends = client(), server()
    asked, reply = opening(ends[0]), answered(*ends)
    begun = [("client", asked), ("server", reply)]
    wrong = client(token=TOKEN_B), server()
    reflected = v2_frame(PROOF, reply[96:])
    other = side(bytes([0x0C] * 32))
    replayed = final_proof(other, opening(other), answered(other, ends[1]))
    false_server = proved(opening(ends[1]), TOKEN_B, asked)
    return [
        exchange(
            "a wrong token",
            "the client notices, before it has proved anything",
            wrong,
            [("client", opening(wrong[0])), ("server", answered(*wrong)), ("client", REFUSAL)],
            "refused by the client",
        ),
        exchange(
            "a server that does not know the token",
            "the client notices",
            ends,
            [("client", asked), ("server", false_server), ("client", REFUSAL)],
            "refused by the client",
            "client",
        ),
        exchange(
            "a guessed proof",
            "the server has proved itself, and the client has not",
            ends,
            [*begun, ("client", v2_frame(PROOF, bytes([9] * 32))), ("server", REFUSAL)],
            "refused by the server",
            "server",
        ),
        exchange(
            "a proof of zeros",
            "is a guess as well",
            ends,
            [*begun, ("client", v2_frame(PROOF, bytes(32))), ("server", REFUSAL)],
            "refused by the server",
            "server",
        ),
        exchange(
            "a reflected proof",
            "the server's own is none of a client",
            ends,
            [*begun, ("client", reflected), ("server", REFUSAL)],
            "refused by the server",
            "server",
        ),
        exchange(
            "a replayed proof",
            "of a handshake with another nonce",
            ends,
            [*begun, ("client", replayed), ("server", REFUSAL)],
            "refused by the server",
            "server",
        ),
        exchange(
            "another session of TLS",
            "somebody in between speaks TLS with each of the two",
            (client(binding=BINDING), server(binding=NO_TLS)),
            [("client", asked), ("server", reply), ("client", REFUSAL)],
            "refused by the client",
        ),
        exchange(
            "a refusal of a good proof",
            "the token was used by somebody else meanwhile",
            ends,
            [*complete(*ends)[:3], ("server", REFUSAL)],
            "refused by the server",
            "client",
        ),
    ]


def refused_changes():
    ends = client(), server()
    asked, reply = opening(ends[0]), answered(*ends)
    vectors = []
    for name, place, value in [("limit", 27, 1), ("capability", 19, 1), ("codec", 61, 0x4A)]:
        heard = changed(asked, place, value)
        messages = [("client", asked), ("server", answered(*ends, heard)), ("client", REFUSAL)]
        about = "the client finds that the server has heard something else"
        full = f"a client's {name} changed on its way"
        vectors.append(exchange(full, about, ends, messages, "refused by the client", "client"))
        told = changed(reply, place, value)
        messages = [("client", asked), ("server", told), ("client", REFUSAL)]
        about = "the client finds that the server's proof is of another hello"
        full = f"a server's {name} changed on its way"
        vectors.append(exchange(full, about, ends, messages, "refused by the client", "client"))
    return [
        *vectors,
        exchange(
            "a client's mode changed on its way",
            "a downgrade: the server asks for the token",
            ends,
            [("client", changed(asked, 17, OPEN)), ("server", REFUSAL)],
            "refused by the server",
            "server",
        ),
        exchange(
            "a server's mode changed on its way",
            "a downgrade: the client insists on the proof",
            ends,
            [("client", asked), ("server", changed(reply, 17, OPEN)), ("client", REFUSAL)],
            "refused by the client",
            "client",
        ),
    ]


def refused_modes():
    free, closed = client(token=None), server(token=None)
    other, odd = server(codec="msgpack"), client()
    strange = server(token=None, codec="msgpack")
    talk = complete(odd, other)[:3]
    return [
        exchange(
            "no token where one is asked for",
            "whoever knows the address only is refused",
            (free, server()),
            [("client", opening(free)), ("server", REFUSAL)],
            "refused by the server",
        ),
        exchange(
            "a token where none is asked for",
            "the listener cannot prove to know it",
            (odd, closed),
            [("client", opening(odd)), ("server", REFUSAL)],
            "refused by the server",
        ),
        exchange(
            "codecs that differ",
            "refused once the client has proved itself",
            (odd, other),
            [*talk, ("server", REFUSAL)],
            "refused by the server",
        ),
        exchange(
            "codecs that differ, without a token",
            "refused at once, behind a hello that tells the client why",
            (free, strange),
            [("client", opening(free)), ("server", opening(strange)), ("server", REFUSAL)],
            "refused by the server",
            "server",
        ),
        exchange(
            "a listener's codec that differs, without a token",
            "the client knows by the hello that the two do not fit",
            (free, strange),
            [("client", opening(free)), ("server", opening(strange)), ("client", REFUSAL)],
            "refused by the client",
            "client",
        ),
        exchange(
            "an acceptance instead of a hello",
            "has no place there",
            (odd, server()),
            [("client", v2_frame(ACCEPT)), ("server", REFUSAL)],
            "refused by the server",
            "server",
        ),
        exchange(
            "a second hello instead of a proof",
            "has no place there",
            (odd, server()),
            [*complete(odd, server())[:2], ("client", opening(odd)), ("server", REFUSAL)],
            "refused by the server",
            "server",
        ),
        exchange(
            "an acceptance before the proof",
            "says nothing to a client",
            (odd, server()),
            [("client", opening(odd)), ("server", v2_frame(ACCEPT)), ("client", REFUSAL)],
            "refused by the client",
            "client",
        ),
    ]
