"""Rewrites ONNX networks of early operator sets, at import, so that bundles hold one range of them."""

from onnx import version_converter

from models.errors import DamagedBundle
from models.extractors.graph_checks import OPSETS, check_parts

TARGET = 18
EARLIEST = 7
"""Earliest operator set that ONNX's own converter starts from with few losses."""


def raise_opset(content: bytes) -> bytes:
    """The network with the operators of opset 18 where it has those of 7 to 12; other files unchanged.

    The converter gets only files that hold no loop, no external data and no oversized tensor.

    Raises:
        DamagedBundle: no ONNX file, a part that `check_graph` refuses, or a network that the converter cannot rewrite.
    """
    model, opset = check_parts(content)
    if not EARLIEST <= opset < OPSETS[0]:
        return content
    try:
        raised = version_converter.convert_version(model, TARGET)
    except Exception as error:  # the converter's C++ part has no error class of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DamagedBundle(
            f"The extractor is of opset {opset}, and ONNX's converter cannot raise it to {TARGET} ({reason}). Export "
            f"the network again with opset_version={TARGET}."
        ) from error
    written: bytes = raised.SerializeToString(deterministic=True)
    return written
