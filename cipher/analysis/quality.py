"""MSE, PSNR and SSIM of two images, and their moments against a uniformly random image."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cipher.analysis.pixels import Image, highest, planes, words

# Wang, Bovik, Sheikh and Simoncelli (2004): an 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03.
_SIGMA, _RADIUS, _K1, _K2 = 1.5, 5, 0.01, 0.03


def mse(first: Image, second: Image) -> float:
    """Mean squared error of the pixels taken as unsigned."""
    difference = words(first).astype(np.float64) - words(second).astype(np.float64)
    return float(np.mean(difference * difference))


def psnr(error: float, maximum: int) -> float:
    """Peak signal to noise ratio in dB for a mean squared error; infinite for none."""
    return math.inf if error == 0 else 10 * math.log10(maximum**2 / error)


def random_mse(image: Image) -> tuple[float, float]:
    """Mean and standard deviation of the MSE between this image and a uniformly random one, exactly.

    For one pixel p and U uniform on 0 .. F, with d = p - F/2 and the central moments of U, the mean of (p - U)^2 is
    d^2 + m2 and its variance m4 - m2^2 + 4 d^2 m2.
    """
    top = float(highest(image))
    m2 = top * (top + 2) / 12
    m4 = m2 * (3 * (top + 1) ** 2 - 7) / 20
    d2 = (words(image).astype(np.float64) - top / 2) ** 2
    pixels = image.size
    return float(d2.mean()) + m2, math.sqrt((m4 - m2**2 + 4 * float(d2.mean()) * m2) / pixels)


def ssim(first: Image, second: Image) -> float:
    """Mean structural similarity over the windows that lie inside the image; at least 11 x 11 pixels a plane.

    The dynamic range is the pixel type's, F.
    """
    x, y = planes(words(first)).astype(np.float64), planes(words(second)).astype(np.float64)
    return structural_similarity(x, y, float(highest(first)))


def structural_similarity(x: NDArray[np.float64], y: NDArray[np.float64], span: float) -> float:
    """Mean SSIM of two stacks of planes (planes, H, W) of one dynamic range `span`; H and W at least 11."""
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x**2
    variance_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    structure = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    structure /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float(structure.mean())


def _blur(layers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian means of (planes, H, W) where the window lies inside: (planes, H - 10, W - 10)."""
    blurred = layers
    for axis in (1, 2):
        blurred = ndimage.gaussian_filter1d(blurred, _SIGMA, axis=axis, radius=_RADIUS)
    inside: NDArray[np.float64] = blurred[:, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    return inside
