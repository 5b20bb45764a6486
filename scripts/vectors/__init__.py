"""The test vectors of the protocol; scripts/make-vectors.py writes them."""
