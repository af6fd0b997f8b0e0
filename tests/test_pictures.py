"""Any picture file becomes the same pixels, or is refused with a reason."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bantamnet.data import pictures
from bantamnet.data.pictures import PictureError, fit, read_picture

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (32, 32), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
# What turns an upright picture into how each EXIF orientation stores it (JEITA CP-3451: where row 0 and column 0 are).
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}


def read(path: Path, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    return read_picture(path, size, strict=True)[0].transpose(1, 2, 0)


def test_a_clear_value_of_deep_grey_shows_white(tmp_path: Path) -> None:
    values = np.full((8, 8), 30000, np.uint16)
    values[:4] = 1000
    chunk = b"tRNS" + (1000).to_bytes(2, "big")
    Image.fromarray(values).save(tmp_path / "plain.png")
    content = (tmp_path / "plain.png").read_bytes()
    place = content.index(b"IDAT") - 4
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "clear.png").write_bytes(content[:place] + chunk + content[place:])
    seen = read(tmp_path / "clear.png", (8, 8))
    assert (seen[:4] == 255).all() and (seen[4:] == 30000 >> 8).all()


def grey_files(folder: Path) -> dict[str, Path]:
    """The same grey picture in every mode and format that keeps it exactly."""
    grey = Image.fromarray(GREY)
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    opaque = grey.convert("RGBA")
    saved: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "grey.png": (grey, {}),
        "rgb.png": (grey.convert("RGB"), {}),
        "rgba.png": (opaque, {}),
        "la.png": (grey.convert("LA"), {}),
        "palette.png": (grey.convert("P"), {}),
        "deep.png": (deep, {}),
        "grey.tif": (grey, {}),
        "deep.tiff": (deep, {}),
        "deep-lzw.tif": (deep, {"compression": "tiff_lzw"}),
        "deep-big-endian.tif": (Image.frombytes("I;16B", (32, 32), (GREY.astype(">u2") * 257).tobytes()), {}),
        "cmyk.tif": (grey.convert("RGB").convert("CMYK"), {}),
        "grey.bmp": (grey, {}),
        "rgb.BMP": (grey.convert("RGB"), {}),
        "rgb.webp": (grey.convert("RGB"), {"lossless": True}),
        "rgba.webp": (opaque, {"lossless": True}),
        "grey.gif": (grey, {}),
        "animated.gif": (grey, {"save_all": True, "append_images": [Image.new("L", (32, 32), 9)]}),
        "pages.tif": (grey, {"save_all": True, "append_images": [Image.new("L", (32, 32), 9)]}),
    }
    for name, (picture, options) in saved.items():
        picture.save(folder / name, **options)  # type: ignore[arg-type]
    return {name: folder / name for name in saved}


def test_every_mode_and_format_gives_the_same_pixels(tmp_path: Path) -> None:
    expected = np.repeat(GREY[:, :, None], 3, axis=2)
    for name, path in grey_files(tmp_path).items():
        assert np.array_equal(read(path), expected), name


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
def test_all_orientations_are_set_upright(ending: str, tmp_path: Path) -> None:
    upright = COLOUR[:20, :28] if ending != "jpg" else np.kron(COLOUR[:3, :4], np.ones((8, 8, 1), np.uint8))
    for orientation, stored in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{ending}"
        options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(ending, {})
        Image.fromarray(np.ascontiguousarray(stored(upright))).save(path, exif=exif, **options)  # type: ignore[arg-type]
        pixels, size = read_picture(path, upright.shape[:2], strict=True)
        assert size == upright.shape[:2]
        assert np.abs(pixels.transpose(1, 2, 0).astype(int) - upright).max() <= (3 if ending == "jpg" else 0), orientation


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_16_bit_ramp_keeps_its_levels(ending: str, tmp_path: Path) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / f"ramp.{ending}")
    pixels = read(tmp_path / f"ramp.{ending}", (256, 256))
    assert len(np.unique(pixels)) == 256 and np.array_equal(pixels[:, :, 0], ramp // 256)


def test_white_is_zero_is_minded_in_16_bits(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "a.tif", tiffinfo={262: 0})
    stored = (tmp_path / "a.tif").read_bytes()
    entry = bytes([6, 1, 3, 0, 1, 0, 0, 0])  # tag 262, SHORT, one value
    assert stored.count(entry) == 1
    at = stored.index(entry) + len(entry)
    (tmp_path / "a.tif").write_bytes(stored[:at] + b"\0\0" + stored[at + 2 :])
    assert np.array_equal(read(tmp_path / "a.tif")[:, :, 0], 255 - GREY)


def test_transparency_lies_over_white_in_every_form_it_takes(tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, (32, 32), dtype=np.uint8)
    blended = (COLOUR * (alpha[:, :, None] / 255) + 255 * (1 - alpha[:, :, None] / 255)).round()
    Image.fromarray(np.dstack([COLOUR, alpha])).save(tmp_path / "rgba.png")
    assert np.abs(read(tmp_path / "rgba.png") - blended).max() <= 1
    Image.fromarray(np.dstack([GREY, alpha])).save(tmp_path / "la.png")
    grey_blended = GREY * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(read(tmp_path / "la.png")[:, :, 1] - grey_blended).max() <= 1
    expected = np.where(GREY == 7, 255, GREY)
    Image.fromarray(GREY).convert("P").save(tmp_path / "p.png", transparency=7)
    Image.fromarray(GREY).convert("P").save(tmp_path / "p.gif", transparency=7)
    Image.fromarray(GREY).save(tmp_path / "l.png", transparency=7)
    for name in ("p.png", "p.gif", "l.png"):
        assert np.array_equal(read(tmp_path / name)[:, :, 2], expected), name


def test_resizing_is_pillows(tmp_path: Path) -> None:
    wide = Image.fromarray(RNG.integers(0, 256, (40, 100, 3), dtype=np.uint8))
    cropped = np.asarray(wide.resize((32, 32), Image.Resampling.BICUBIC, box=(30, 0, 70, 40)))
    assert np.array_equal(np.asarray(fit(wide, (32, 32), "crop")), cropped)
    assert np.array_equal(np.asarray(fit(wide, (32, 32), "squash")), np.asarray(wide.resize((32, 32), Image.Resampling.BICUBIC)))
    padded = np.asarray(fit(wide, (32, 32), "pad"))
    assert np.array_equal(padded[9:22], np.asarray(wide.resize((32, 13), Image.Resampling.BICUBIC)))
    assert not padded[:9].any() and not padded[22:].any()
    for shape in ((1, 500), (500, 1), (1, 1)):
        for how in ("crop", "pad", "squash"):
            assert fit(Image.new("RGB", shape), (32, 24), how).size == (24, 32)  # type: ignore[arg-type]


def png_with_wrong_checksum(content: bytes) -> bytes:
    """Of a PNG that is stored uncompressed, so that the flipped bit is one of a pixel and decoding alone would not mind."""
    at = content.index(b"IDAT") + 1000
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_what_is_no_picture_is_refused_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {}
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for ending, kind in (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("bmp", "BMP"), ("tif", "TIFF"), ("gif", "GIF")):
        noise.save(tmp_path / f"whole.{ending}", kind)
        whole[ending] = (tmp_path / f"whole.{ending}").read_bytes()
        assert read(tmp_path / f"whole.{ending}").shape == (32, 32, 3)
    noise.save(tmp_path / "stored.png", compress_level=0)
    bad = {f"cut.{ending}": (content[: len(content) // 2], "") for ending, content in whole.items()}
    bad |= {
        "empty.png": (b"", "empty"),
        "text.jpg": (b"<html>404</html>", "its content is none of"),
        "zeros.bmp": (bytes(1000), "its content is none of"),
        "jpeg.png": (whole["jpg"], "its content is JPEG, its ending .png"),
        "png.jpg": (whole["png"], "its content is PNG, its ending .jpg"),
        "flipped.png": (png_with_wrong_checksum((tmp_path / "stored.png").read_bytes()), "checksum"),
    }
    Image.fromarray(RNG.random((8, 8), dtype=np.float32)).save(tmp_path / "float.tif")
    bad["float.tif"] = ((tmp_path / "float.tif").read_bytes(), "no range of their own")
    Image.fromarray(np.array([[70000, -3]], np.int32)).save(tmp_path / "wide.tif")
    bad["wide.tif"] = ((tmp_path / "wide.tif").read_bytes(), "above 65535")
    for name, (content, why) in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PictureError) as error:
            read(tmp_path / name)
        assert why in str(error.value) and str(error.value), name
    with pytest.raises(PictureError, match="No such file"):
        read(tmp_path / "gone.png")
    loose = read_picture(tmp_path / "jpeg.png", (32, 32))[0].transpose(1, 2, 0)
    assert np.array_equal(loose, read(tmp_path / "whole.jpg")), "predict takes a picture by its content"
    monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(PictureError, match="64 × 64 pixels are more than"):
        read(tmp_path / "whole.png")


def test_a_decompression_bomb_is_refused_unread(tmp_path: Path) -> None:
    """A PNG of 50,000 × 50,000 pixels: the header alone, and the first of the pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    side = (50_000).to_bytes(4, "big")
    header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", side + side + bytes([8, 2, 0, 0, 0]))
    (tmp_path / "bomb.png").write_bytes(header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b""))
    with pytest.raises(PictureError, match="pixels"):
        read(tmp_path / "bomb.png")
