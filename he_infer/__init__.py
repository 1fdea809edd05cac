"""Encrypted inference: a cloud scores medical images that it never sees.

Layers, lowest first: `ckks` (the encrypted computation), `wire` (what crosses the network), `server` (the untrusted
side) and `client` (the trusted side, the only one that holds a secret key).
"""

from he_infer._origin import check_siblings

__version__ = "0.1.0"

check_siblings()
