"""docs/multiprocessing.md names a test in each row, and each of them exists."""

import re

import pytest
from support import ROOT, TESTS

TABLE = ROOT / "docs" / "multiprocessing.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| What |")
]


def names_of_all_tests():
    return {
        name
        for file in (TESTS / "python").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", file.read_text())
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_row_names_tests_that_exist(row):
    _, _, _, tests = row
    names = tests.split(", ")
    assert names
    assert set(names) <= names_of_all_tests()


def test_the_side_by_side_tests_are_all_in_the_table():
    source = (TESTS / "python" / "multiprocessing" / "test_multiprocessing.py").read_text()
    named = {name for row in ROWS for name in row[3].split(", ")}
    assert set(re.findall(r"def (test_\w+)\(", source)) <= named
