"""From any picture file to pixels: the one function that training data, evaluation and predict share."""

import errno
import io
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from bantamnet.errors import UserError

Resize = Literal["crop", "pad", "squash"]
Pixels = NDArray[np.uint8]

ENDINGS = {
    ".bmp": ("BMP", "DIB"),
    ".gif": ("GIF",),
    ".jpeg": ("JPEG", "MPO"),
    ".jpg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".webp": ("WEBP",),
}
"""What a file of each ending may hold, in Pillow's names (MPO is a JPEG with further pictures behind it, as cameras write)."""
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MAX_PIXELS = 2**27
"""A picture of more pixels (134 million) is taken for a decompression bomb and not decoded."""
BACKGROUND = (255, 255, 255)
"""Colour behind transparent pixels."""
BARS = (0, 0, 0)
"""Colour of the bars of `pad`."""


class PictureError(UserError):
    """A file that holds no picture that can be read; the message says why, without the path."""

    passing = False
    """Whether it may be the machine's fault: no permission, a disk out of reach, too little memory."""


def read_picture(
    path: Path, size: tuple[int, int], resize: Resize = "crop", strict: bool = False
) -> tuple[Pixels, tuple[int, int]]:
    """(pixels uint8 (3, height, width) at `size` (height, width), the picture's own upright (height, width)).

    - PNG, JPEG, WebP, BMP, TIFF, GIF; the first frame or page. `strict` also asks that the content be what the ending says.
    - Upright by its EXIF orientation.
    - Grey is three equal channels; palette and CMYK become RGB (the naive formula: colour profiles are not applied).
    - 16 bits become 8 by their upper byte, as 0 … 65535 is the whole range, so a ramp keeps all 256 levels.
    - Transparent pixels are laid over white.
    - `crop` resizes the shorter side and cuts the centre out, `pad` resizes the longer one and puts black bars beside it,
      `squash` stretches; always bicubic, as `Image.resize` does it.

    Raises `PictureError`, also for a picture of over `MAX_PIXELS` and for floating-point pixels, whose range is unknown.
    """
    try:
        with _open(path, strict) as opened:
            upright = ImageOps.exif_transpose(opened)
            white_is_zero = getattr(opened, "tag_v2", {}).get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
            picture = _as_rgb(upright, white_is_zero)
            fitted = fit(picture, size, resize)
    except PictureError:
        raise
    # Plugins meet damaged bytes with whatever error comes first.
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError, struct.error, zlib.error) as error:
        bad = PictureError(" ".join(str(error).split()) or type(error).__name__)
        # Pillow's, for damaged bytes, have no number; a link to nowhere has another size once it leads somewhere.
        bad.passing = isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ELOOP)
        raise bad from None
    except (EOFError, MemoryError, AttributeError, Image.DecompressionBombError) as error:
        bad = PictureError(f"{type(error).__name__}: {error}")
        bad.passing = isinstance(error, MemoryError)
        raise bad from None
    return np.ascontiguousarray(np.asarray(fitted).transpose(2, 0, 1)), (picture.height, picture.width)


def _open(path: Path, strict: bool) -> Image.Image:
    content = path.read_bytes()
    if not content:
        raise PictureError("the file is empty")
    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise PictureError(f"its content is none of {', '.join(kind for kind in FORMATS if kind != 'DIB')}") from None
    if strict and opened.format not in ENDINGS.get(path.suffix.lower(), ()):
        raise PictureError(f"its content is {opened.format}, its ending {path.suffix or 'missing'}; give it the right ending")
    if opened.width * opened.height > MAX_PIXELS:
        raise PictureError(f"{opened.width} × {opened.height} pixels are more than {MAX_PIXELS:,}; make it smaller")
    if opened.format == "PNG":  # decoding skips the checksums of the pixels
        opened.verify()
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
    return opened


def _as_rgb(picture: Image.Image, white_is_zero: bool) -> Image.Image:
    """RGB of 8 bits, whatever the mode; Pillow minds `white_is_zero` up to 8 bits, but not in 16."""
    if picture.mode == "F":
        raise PictureError("floating-point pixels have no range of their own; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        picture = _upper_byte(picture, white_is_zero)
    if picture.has_transparency_data:
        seen = picture.convert("RGBA")
        behind = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
        return Image.alpha_composite(behind, seen).convert("RGB")
    return picture.convert("RGB")


def _upper_byte(picture: Image.Image, white_is_zero: bool) -> Image.Image:
    """16-bit grey as 8-bit grey."""
    values = np.asarray(picture).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise PictureError("grey values below 0 or above 65535; save it with 8 or 16 bits")
    clear = picture.info.get("transparency")  # the grey value that a PNG shows what is behind
    alpha = np.where(values == clear, 0, 255) if isinstance(clear, int) else None
    if white_is_zero:
        values = 65535 - values
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if alpha is not None:
        grey.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return grey


def fit(picture: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    """An RGB picture at `size` (height, width); one that has that size already stays as it is."""
    height, width = size
    if resize == "crop":
        return ImageOps.fit(picture, (width, height), method=Image.Resampling.BICUBIC)
    if resize == "squash":
        return picture.resize((width, height), Image.Resampling.BICUBIC)
    scale = min(width / picture.width, height / picture.height)
    inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    canvas = Image.new("RGB", (width, height), BARS)
    canvas.paste(picture.resize(inner, Image.Resampling.BICUBIC), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas
