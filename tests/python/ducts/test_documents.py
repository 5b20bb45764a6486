"""The Python blocks of the documents run as they stand.

A block that is preceded by ``<!-- file: NAME -->`` is a file of that name. All such files of one
document lie in one folder, and ``parent.py`` is the one that a reader starts.
"""

import re
import subprocess
import sys

import pytest
from support import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- file: (?P<name>\S+) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)


def blocks(document):
    return [(match["name"], match["code"]) for match in BLOCK.finditer(document.read_text())]


ALONE = [
    pytest.param(code, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    for number, (name, code) in enumerate(blocks(document))
    if name is None
]
WITH_FILES = [
    document for document in DOCUMENTS if "parent.py" in {name for name, _ in blocks(document)}
]


def run(path):
    command = [sys.executable, path.name]
    result = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=50)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("code", ALONE)
def test_a_block_runs_by_itself(code, tmp_path):
    path = tmp_path / "block.py"
    path.write_text(code)
    run(path)


@pytest.mark.parametrize("document", WITH_FILES, ids=lambda document: document.name)
def test_the_files_of_an_example_work_together(document, tmp_path):
    for name, code in blocks(document):
        if name is not None:
            (tmp_path / name).write_text(code)
    run(tmp_path / "parent.py")


def test_the_readme_and_the_protocol_have_examples_that_are_run():
    assert {document.name for document in WITH_FILES} >= {"README.md", "protocol.md"}
    assert ALONE


def test_every_test_that_the_semantics_names_exists():
    text = (ROOT / "docs" / "semantics.md").read_text()
    places = [ROOT / "crates" / "ductworks", ROOT / "tests" / "python"]
    sources = {
        path: path.read_text()
        for place in places
        for path in place.rglob("*")
        if path.suffix in (".rs", ".py")
    }
    named = re.findall(r"`([\w/]+\.(?:rs|py))::(\w+)`", text)
    assert named
    for file, test in named:
        found = [source for path, source in sources.items() if str(path).endswith("/" + file)]
        assert any(re.search(rf"(fn|def) {test}\b", source) for source in found), (file, test)
