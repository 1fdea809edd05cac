"""Fig. 6b: noise reduction on an encrypted image, beside the same filter in clear."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipher.analysis import quality
from cipher.analysis.pixels import planes
from experiments.image_cipher.images import load_image
from experiments.paper import filtering
from experiments.paper.item import PaperRequest, PaperResult
from experiments.present.drawing import draw_picture, show_image
from he_infer.terminal import show_progress

IMAGE = "CT_small.dcm"
NOISE = 0.08
"""Standard deviation of the added noise, as a share of the shown range."""
LARGEST = 256
"""Side to which a larger image is cropped, so that a run takes seconds."""
FILTERS = (
    ("Gaussian 3 x 3", filtering.make_gaussian_kernel(3)),
    ("Gaussian 5 x 5", filtering.make_gaussian_kernel(5)),
    ("mean 3 x 3", filtering.make_mean_kernel(3)),
)


def run_denoising(request: PaperRequest) -> PaperResult:
    """Add noise to an image, filter it encrypted and in clear, and compare both with the image without noise."""
    named = load_image(request.image or IMAGE)
    original = _stretch_contrast(np.asarray(planes(named.pixels)[0], dtype=np.float64))
    random = np.random.default_rng(request.seed)
    noisy = np.clip(original + random.normal(0, NOISE, original.shape), 0, 1)
    figures: dict[str, Any] = {"noisy": _likeness(original, noisy)}
    shown: dict[str, NDArray[np.float64]] = {"original": original, "with noise": noisy}
    lines = [f"{named.name}, {original.shape[0]} x {original.shape[1]}; noise of {NOISE:.0%} of the shown range: "]
    lines[0] += f"PSNR {figures['noisy']['psnr']:.2f} dB, SSIM {figures['noisy']['ssim']:.4f}."
    client = filtering.FilterClient()
    for name, kernel in FILTERS:
        keys = client.galois_keys(kernel)
        server = filtering.FilterServer(kernel, keys)
        total = sum(1 for _ in filtering.cut_tiles(original.shape[0], original.shape[1], kernel.shape[0] // 2))
        began = time.perf_counter()
        with show_progress(f"Encrypted {name}", total, console=request.console) as step:
            sealed = filtering.filter_encrypted(noisy, client, server, kernel, step)
        seconds = time.perf_counter() - began
        plain = filtering.filter_in_clear(noisy, kernel)
        shown[f"{name},\nin clear"], shown[f"{name},\nencrypted"] = plain, sealed
        figures[name] = {
            "clear": _likeness(original, plain),
            "encrypted": _likeness(original, sealed),
            "largest_difference": float(np.abs(plain - sealed).max()),
            "differing_8_bit_pixels": int((_octets(plain) != _octets(sealed)).sum()),
            "rotations": len(filtering.list_rotations(kernel)),
            "galois_key_bytes": len(keys["galois"]),
            "tiles": total,
            "seconds": seconds,
        }
        one = figures[name]
        lines.append(
            f"{name}: PSNR {one['clear']['psnr']:.2f} dB in clear, {one['encrypted']['psnr']:.2f} dB encrypted; SSIM "
            f"{one['clear']['ssim']:.4f} and {one['encrypted']['ssim']:.4f}; largest difference "
            f"{one['largest_difference']:.1e} of the range, {one['differing_8_bit_pixels']} pixels of 8 bits differ; "
            f"{one['rotations']} rotations a tile, Galois keys {one['galois_key_bytes'] / 1e6:.1f} MB, {total} tiles "
            f"in {seconds:.1f} s with encryption and decryption."
        )

    def draw(figure: Any) -> None:
        axes = figure.subplots(2, 4)
        names = list(shown)
        places = [names[0], names[2], names[4], names[6], names[1], names[3], names[5], names[7]]
        for axis, name in zip(axes.ravel(), places, strict=True):
            likeness = "" if name == "original" else f"\n{_likeness(original, shown[name])['psnr']:.2f} dB"
            show_image(axis, shown[name], name + likeness, limits=(0, 1), size=9)

    return PaperResult(
        title="Fig. 6b: denoising an encrypted image",
        parameters={"image": named.described, "noise": NOISE, "parameters": str(filtering.PARAMETERS)},
        figures=figures,
        picture=draw_picture(
            draw,
            (8.4, 5.2),
            "An image, the same with noise, and three linear filters of it: in clear above, encrypted below, alike",
        ),
        lines=tuple(lines),
    )


def _stretch_contrast(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels between their 0.5 and 99.5 percentiles as 0 to 1, cropped to the middle LARGEST x LARGEST."""
    top, left = (max(0, (side - LARGEST) // 2) for side in image.shape)
    image = image[top : top + LARGEST, left : left + LARGEST]
    low, high = np.percentile(image, [0.5, 99.5])
    return np.asarray(np.clip((image - low) / max(high - low, 1e-12), 0, 1))


def _octets(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _likeness(original: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, float]:
    error = float(np.mean((original - other) ** 2))
    return {
        "psnr": quality.psnr(error, 1),
        "ssim": quality.structural_similarity(original[None], other[None], 1.0),
    }
