"""Arrays of an `.npz` file, read in blocks: a large one into a temporary file, so that memory stays bounded."""

import math
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.images.scratch import BLOCK, reserve_array

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def list_members(archive: zipfile.ZipFile) -> list[str]:
    """Names of the arrays in an `.npz` file."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """The array of that name; its checksum is checked, and nothing is unpickled.

    Compressed or not, it is read block by block; beyond 64 MiB into a temporary file that ends with the array.

    Raises:
        ValueError, EOFError, zipfile.BadZipFile, zlib.error: damaged, or an array of Python objects.
        OSError: it cannot be read, or there is no space for the temporary file.
    """
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        version = npy.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"unknown version {version} of the array format")
        shape, fortran, kind = _HEADERS[version](member)
        if kind.hasobject:
            raise ValueError("an array of Python objects")
        if member.tell() + math.prod(shape) * kind.itemsize != info.file_size:
            raise ValueError("the array's shape and its length contradict each other")
        array = reserve_array(shape[::-1] if fortran else shape, kind)
        content = array.reshape(-1).view(np.uint8)
        at = 0
        while at < len(content):
            block = member.read(min(BLOCK, len(content) - at))
            if not block:
                raise EOFError("the array is cut off")
            content[at : at + len(block)] = np.frombuffer(block, np.uint8)
            at += len(block)
        if member.read(1):  # reading to the end checks the CRC
            raise ValueError("the array is longer than its shape")
    return array.T if fortran else array
