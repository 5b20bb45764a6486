"""The files in docs/vectors, and the second implementation that has written them."""

import importlib.util
import json
import sys

from support import ROOT

SCRIPT = ROOT / "scripts" / "make-vectors.py"


def load_script():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("make_vectors", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        from vectors import wire
    finally:
        sys.path.pop(0)
    return module, wire


make_vectors, wire = load_script()


def vectors(name):
    return json.loads((ROOT / "docs" / "vectors" / name).read_text())["vectors"]
