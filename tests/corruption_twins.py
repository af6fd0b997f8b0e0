"""Slow twins of the corruptions, an image at a time: NumPy, SciPy, Pillow and loops, written from the published definition.

`image` is uint8 (32, 32, 3); what comes back is 0 … 255 and not yet cut to bytes. `drawn` is the image's row of parameters.
"""

import colorsys
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.stats import poisson

import opencv_twins

Drawn = dict[str, np.ndarray]


def planar(values: np.ndarray) -> np.ndarray:
    """(3, 32, 32) as (32, 32, 3)."""
    return values.transpose(1, 2, 0)


def gaussian_noise(image: np.ndarray, drawn: Drawn, scale: float) -> np.ndarray:
    return np.clip(image / 255 + scale * planar(drawn["noise"]).astype(float), 0, 1) * 255


def shot_noise(image: np.ndarray, drawn: Drawn, photons: float) -> np.ndarray:
    counts = poisson.ppf(planar(drawn["quantile"]), image / 255 * photons)
    return np.clip(np.where(image == 0, 0, counts) / photons, 0, 1) * 255


def impulse_noise(image: np.ndarray, drawn: Drawn, amount: float) -> np.ndarray:
    out = image.astype(float)
    for channel in range(3):
        for row in range(32):
            for column in range(32):
                if drawn["hit"][channel, row, column]:
                    out[row, column, channel] = 255 if drawn["salt"][channel, row, column] else 0
    return out


def speckle_noise(image: np.ndarray, drawn: Drawn, scale: float) -> np.ndarray:
    x = image / 255
    return np.clip(x + x * planar(drawn["noise"]).astype(float) * scale, 0, 1) * 255


def blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest", truncate=4.0)


def gaussian_blur(image: np.ndarray, drawn: Drawn, sigma: float) -> np.ndarray:
    return blurred(image / 255, sigma) * 255


def defocus_blur(image: np.ndarray, drawn: Drawn, radius: float, softness: float) -> np.ndarray:
    across, down = np.meshgrid(np.arange(-8, 9), np.arange(-8, 9))
    disk = (across**2 + down**2 <= radius**2).astype(float)
    disk /= disk.sum()
    taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * softness**2))
    taps /= taps.sum()
    disk = ndimage.correlate(disk, np.outer(taps, taps), mode="mirror")
    return np.stack([ndimage.correlate(image[..., c] / 255, disk, mode="mirror") for c in range(3)], 2) * 255


def glass_blur(image: np.ndarray, drawn: Drawn, sigma: float, rounds: int) -> np.ndarray:
    x = np.uint8(blurred(image / 255, sigma) * 255 + 1e-6)
    for number in range(rounds):
        for h in range(32 - 1, 1, -1):
            for w in range(32 - 1, 1, -1):
                dx, dy = (int(step) for step in drawn["steps"][number, h - 2, w - 2])
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]  # of views: see GlassBlur
    return blurred(x / 255, sigma) * 255


def moved(image: np.ndarray, angle: float, radius: int, sigma: float) -> np.ndarray:
    """ImageMagick's motion blur of (32, 32, channels), a pixel and a tap at a time."""
    width = 2 * radius + 1
    kernel = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(width)]
    x, y = width * math.sin(math.radians(angle)), width * math.cos(math.radians(angle))
    offsets = [(math.ceil(i * y / math.hypot(x, y) - 0.5), math.ceil(i * x / math.hypot(x, y) - 0.5)) for i in range(width)]
    out = np.zeros(image.shape)
    for row in range(32):
        for column in range(32):
            for weight, (right, down) in zip(kernel, offsets, strict=True):
                out[row, column] += weight * image[min(max(row + down, 0), 31), min(max(column + right, 0), 31)].astype(float)
    return np.floor(out / sum(kernel) + 0.5)


def motion_blur(image: np.ndarray, drawn: Drawn, radius: int, sigma: float) -> np.ndarray:
    return moved(image, float(drawn["angle"]), radius, sigma)


def zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """(32, 32, channels): the middle of it, enlarged."""
    inner = math.ceil(32 / factor)
    top = (32 - inner) // 2
    large = ndimage.zoom(x[top : top + inner, top : top + inner], (factor, factor, 1), order=1)
    cut = (len(large) - 32) // 2
    return large[cut : cut + 32, cut : cut + 32]


def zoom_blur(image: np.ndarray, drawn: Drawn, end: float) -> np.ndarray:
    x = image / 255
    factors = np.arange(1, end, 0.01)
    return (x + sum(zoomed(x, float(factor)) for factor in factors)) / (len(factors) + 1) * 255


def plasma(wobble: np.ndarray, decay: float) -> np.ndarray:
    """Diamond-square, a point at a time."""
    heights, step, amplitude, numbers = np.zeros((32, 32)), 32, 100.0, iter(wobble)
    while step >= 2:
        half = step // 2
        for r in range(half, 32, step):
            for c in range(half, 32, step):
                corners = [heights[(r + i) % 32, (c + j) % 32] for i in (-half, half) for j in (-half, half)]
                heights[r, c] = sum(corners) / 4 + amplitude * amplitude * next(numbers)
        for first_row, first_column in ((0, half), (half, 0)):
            for r in range(first_row, 32, step):
                for c in range(first_column, 32, step):
                    near = [heights[(r + i) % 32, (c + j) % 32] for i, j in ((-half, 0), (half, 0), (0, -half), (0, half))]
                    heights[r, c] = sum(near) / 4 + amplitude * amplitude * next(numbers)
        step, amplitude = half, amplitude / decay
    assert next(numbers, None) is None
    heights -= heights.min()
    return heights / heights.max()


def fog(image: np.ndarray, drawn: Drawn, strength: float, decay: float) -> np.ndarray:
    x = image / 255
    brightest = x.max()
    x = x + strength * plasma(drawn["wobble"], decay)[..., None]
    return np.clip(x * brightest / (brightest + strength), 0, 1) * 255


def snow(
    image: np.ndarray,
    drawn: Drawn,
    mean: float,
    spread: float,
    size: float,
    threshold: float,
    radius: int,
    sigma: float,
    kept: float,
) -> np.ndarray:
    x = image / 255
    layer = zoomed((mean + spread * drawn["flakes"])[..., None], size)
    layer[layer < threshold] = 0
    layer = np.uint8(np.clip(layer, 0, 1) * 255 + 1e-6)
    layer = moved(layer, float(drawn["angle"]), radius, sigma) / 255
    grey = (x @ [0.299, 0.587, 0.114])[..., None]
    x = kept * x + (1 - kept) * np.maximum(x, grey * 1.5 + 0.5)
    return np.clip(x + layer + np.rot90(layer, k=2), 0, 1) * 255


def spatter(
    image: np.ndarray, drawn: Drawn, mean: float, spread: float, size: float, threshold: float, last: float, mud: int
) -> np.ndarray:
    x = image / 255
    liquid = ndimage.gaussian_filter(mean + spread * drawn["noise"], size, mode="nearest", truncate=4.0)
    liquid[liquid < threshold] = 0
    if mud:
        cover = ndimage.gaussian_filter(np.where(liquid > threshold, 1.0, 0.0), last, mode="nearest", truncate=4.0)
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        return np.clip(x * (1 - cover) + np.array([63, 42, 20]) / 255 * cover, 0, 1) * 255
    layer = (liquid * 255).astype(int).astype(np.uint8)
    way = np.minimum(opencv_twins.distance(opencv_twins.canny(layer, 50, 150), 100) / 65536, 20)
    light = opencv_twins.equalised(np.floor(opencv_twins.averaged(way) + 1e-9).astype(np.uint8))
    light = opencv_twins.filtered(light, [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    shine = layer * np.rint(opencv_twins.averaged(light))
    return np.clip(x + last * (shine / shine.max())[..., None] * np.array([175, 238, 238]) / 255, 0, 1) * 255


def in_hsv(image: np.ndarray, change: Callable[[float, float, float], tuple[float, float, float]]) -> np.ndarray:
    """A pixel at a time through the standard library's HSV."""
    out = np.empty(image.shape)
    for row in range(32):
        for column in range(32):
            out[row, column] = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*(image[row, column] / 255))))
    return np.clip(out, 0, 1) * 255


def brightness(image: np.ndarray, drawn: Drawn, amount: float) -> np.ndarray:
    return in_hsv(image, lambda h, s, v: (h, s, min(v + amount, 1.0)))


def saturate(image: np.ndarray, drawn: Drawn, factor: float, offset: float) -> np.ndarray:
    return in_hsv(image, lambda h, s, v: (h, min(s * factor + offset, 1.0), v))


def contrast(image: np.ndarray, drawn: Drawn, factor: float) -> np.ndarray:
    x = image / 255
    means = x.mean((0, 1), keepdims=True)
    return np.clip((x - means) * factor + means, 0, 1) * 255


def elastic_transform(image: np.ndarray, drawn: Drawn, distance: float, sigma: float, shear: float) -> np.ndarray:
    before = np.array([[26.0, 26.0], [26.0, 6.0], [6.0, 6.0]])  # (x, y)
    after = before + shear * drawn["corners"]
    forward = np.linalg.solve(np.column_stack([before, np.ones(3)]), after).T  # (2, 3): where a point goes
    back = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))
    y, x = np.mgrid[:32, :32].astype(float)
    source = np.tensordot(back, np.stack([x, y, np.ones((32, 32))]), 1)
    stretched = [ndimage.map_coordinates(image[..., c] / 255, [source[1], source[0]], order=1, mode="mirror") for c in range(3)]
    across, down = (ndimage.gaussian_filter(noise, sigma, mode="reflect", truncate=3) * distance for noise in drawn["noise"])
    bent = [ndimage.map_coordinates(channel, [y + down, x + across], order=1, mode="reflect") for channel in stretched]
    return np.clip(np.stack(bent, 2), 0, 1) * 255


def pixelate(image: np.ndarray, drawn: Drawn, factor: float) -> np.ndarray:
    small = Image.fromarray(image).resize((int(32 * factor),) * 2, Image.Resampling.BOX)
    return np.asarray(small.resize((32, 32), Image.Resampling.BOX)).astype(float)


def jpeg_compression(image: np.ndarray, drawn: Drawn, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream)).astype(float)


TWINS: dict[str, Callable[..., Any]] = {
    twin.__name__: twin
    for twin in (
        gaussian_noise, shot_noise, impulse_noise, speckle_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, gaussian_blur,
        snow, fog, brightness, contrast, elastic_transform, pixelate, jpeg_compression, saturate,
        spatter,
    )
}  # fmt: skip

PUBLISHED: dict[str, list[Any]] = {
    "gaussian_noise": [0.04, 0.06, 0.08, 0.09, 0.10],
    "shot_noise": [500, 250, 100, 75, 50],
    "impulse_noise": [0.01, 0.02, 0.03, 0.05, 0.07],
    "speckle_noise": [0.06, 0.1, 0.12, 0.16, 0.2],
    "gaussian_blur": [0.4, 0.6, 0.7, 0.8, 1],
    "glass_blur": [(0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)],  # the reach is 1 in all of them
    "defocus_blur": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    "motion_blur": [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    "zoom_blur": [1.06, 1.11, 1.16, 1.21, 1.26],
    "fog": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    "snow": [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ],
    "spatter": [
        (0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ],
    "contrast": [0.75, 0.5, 0.4, 0.3, 0.15],
    "brightness": [0.05, 0.1, 0.15, 0.2, 0.3],
    "saturate": [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
    "jpeg_compression": [80, 65, 58, 50, 40],
    "pixelate": [0.95, 0.9, 0.85, 0.75, 0.65],
    "elastic_transform": [
        (32 * distance, 32 * sigma, 32 * shear)
        for distance, sigma, shear in ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
    ],
}  # fmt: skip
"""The constants for CIFAR of severities 1 to 5, in the order of the twins' arguments (arXiv 1903.12261, make_cifar_c.py)."""


def arguments_of(name: str, severity: int) -> tuple[Any, ...]:
    constants = PUBLISHED[name][severity - 1]
    return constants if isinstance(constants, tuple) else (constants,)
