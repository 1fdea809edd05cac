"""Encrypted inference: a cloud scores medical images that it never sees.

Layers, lowest first: `ckks` (the encrypted computation), `wire` (what crosses the network), `server` (the untrusted
side) and `client` (the trusted side, the only one that holds a secret key).
"""

from typing import TYPE_CHECKING, Any

from he_infer._origin import check_siblings

if TYPE_CHECKING:
    from he_infer.client.client import Client
    from he_infer.client.images.array import ArrayImage
    from he_infer.client.key_making import make_key_file
    from he_infer.client.results import Result

__all__ = ["ArrayImage", "Client", "Result", "__version__", "make_key_file"]
__version__ = "0.1.0"

check_siblings()


def __getattr__(name: str) -> Any:
    """Load the client at first use: the server imports this package too, and must not be able to load it."""
    if name == "Client":
        from he_infer.client.client import Client

        return Client
    if name == "ArrayImage":
        from he_infer.client.images.array import ArrayImage

        return ArrayImage
    if name == "Result":
        from he_infer.client.results import Result

        return Result
    if name == "make_key_file":
        from he_infer.client.key_making import make_key_file

        return make_key_file
    raise AttributeError(f"module 'he_infer' has no attribute '{name}'")
