"""Marks of tests. Not in support, which children import that need no pytest."""

import os

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
