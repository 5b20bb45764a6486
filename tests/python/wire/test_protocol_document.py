"""What docs/protocol.md and docs/handshake.md show is true, and their links lead somewhere."""

import re

import pytest
from support import ROOT
from vector_files import wire

DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.glob("**/*.md"))]
FENCED = re.compile(r"```.*?```", re.DOTALL)


def section(document, heading):
    text = (DOCS / document).read_text()
    return re.search(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)[1]


def bytes_of(lines):
    data = b""
    for line in lines:
        zeros = re.fullmatch(r"  \.\.\. (\d+) zeros", line)
        data += bytes(int(zeros[1])) if zeros else bytes.fromhex(line[2:49])
    return data


def recorded():
    """The token of the recorded exchange, and its frames with who said them."""
    token, exchange = re.findall(
        r"```text\n(.*?)```", section("protocol.md", "An exchange of version 2"), re.DOTALL
    )
    frames = []
    for block in exchange.strip().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.endswith("(end of the stream)")]
        if lines:
            frames.append((lines[0], lines[1][0], bytes_of(lines[1:])))
    return bytes.fromhex(token), frames


def test_the_recorded_exchange_is_a_true_one():
    token, frames = recorded()
    ours, theirs = frames[0][2], frames[1][2]
    assert [(name.partition(",")[0], who) for name, who, _ in frames] == [
        ("HELLO", ">"),
        ("HELLO", "<"),
        ("PROOF", ">"),
        ("ACCEPT", "<"),
        ("MESSAGE", ">"),
        ("MESSAGE", "<"),
        ("DRAIN", "<"),
        ("DRAINED", ">"),
        ("END", "<"),
        ("END", ">"),
    ]
    question, listener, client = (
        int.from_bytes(data[start : start + 8], "big")
        for data, start in [(frames[6][2], 16), (frames[8][2], 17), (frames[9][2], 17)]
    )
    assert question > 2**32
    assert listener != client
    limit = 67_108_864
    expected = [
        wire.hello(wire.TOKEN, limit, ours[28:60], "json", wire.DESCRIPTORS),
        wire.proved(
            wire.hello(wire.TOKEN, limit, theirs[28:60], "json", wire.DESCRIPTORS), token, ours
        ),
        wire.v2_frame(wire.PROOF, wire.proof_of("client", token, ours, theirs)),
        wire.v2_frame(wire.ACCEPT),
        wire.message(b'"hello world"'),
        wire.message(b'{"answer": 42}'),
        wire.drain(question),
        wire.drained(question, 1),
        wire.end(0, listener, 1),
        wire.end(0, client, 1),
    ]
    assert [data for _, _, data in frames] == expected


def test_what_the_recorded_handshake_gives_is_told_rightly():
    token, frames = recorded()
    ours, theirs, proof = (data for _, _, data in frames[:3])
    told = re.findall(r"([a-z' ]+?) +([0-9a-f]{64})\n", section("handshake.md", "An exchange"))
    assert told == [
        ("key", wire.key_of(token).hex()),
        ("transcript", wire.transcript(ours, theirs).hex()),
        ("listener's proof", theirs[96:].hex()),
        ("client's proof", proof[16:48].hex()),
    ]


def slugs(document):
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", document.read_text()), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings]
    return [heading.replace(" ", "-") for heading in plain]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_document_leads_to_a_heading_of_it(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", document.read_text())):
        if link.startswith(("http:", "https:")):
            continue
        path, _, heading = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not heading or slugs(target).count(heading) == 1, link
