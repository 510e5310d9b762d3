import contextlib
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lit_thermal.data.formats.image_decoding import raster_header, read_raster
from lit_thermal.errors import InputError

TURN = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}
"""What a viewer does to the stored pixels, by EXIF orientation."""


def counts(*shape: int, bits: int = 8, seed: int = 0) -> np.ndarray:
    kind = np.uint16 if bits == 16 else np.uint8
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype=kind)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def refused(path: Path, match: str) -> str:
    """Both readers give one sentence that says `match`."""
    for read in (raster_header, read_raster):
        with pytest.raises(InputError, match=match) as caught:
            read(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "b16.png", "c.jpg", "raw.tif", "raw16.tif", "lzw.tif", "lzw16.tif", "z.tif"])
def test_images_are_upright(tmp_path: Path, name: str, orientation: int) -> None:
    bits = 16 if "16" in name else 8
    image = counts(5, 8, bits=bits)
    path = tmp_path / name
    if name.endswith(".tif"):
        if "lzw" in name:
            Image.fromarray(image).save(path, compression="tiff_lzw", tiffinfo={274: orientation})
        else:
            tag = (274, "H", 1, orientation, True)
            tifffile.imwrite(path, image, compression="zlib" if name == "z.tif" else None, extratags=[tag])
    else:
        exif = Image.Exif()
        exif[274] = orientation
        image = np.repeat(np.repeat(image, 8, 0), 8, 1) if name == "c.jpg" else image
        Image.fromarray(image).save(path, exif=exif, **({"quality": 100} if name == "c.jpg" else {}))
    wanted = TURN[orientation](image)
    found = read_raster(path).pixels
    assert raster_header(path)[:3] == (*wanted.shape, bits) and found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= (6 if name == "c.jpg" else 0)


def test_a_damaged_orientation_is_that_of_the_pixels(tmp_path: Path) -> None:
    image = counts(3, 4)
    exif = Image.Exif()
    exif[274] = 77
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(image).save(tmp_path / "b.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xffnonsense")
    for name in ("a.png", "b.png"):
        assert np.array_equal(read_raster(tmp_path / name).pixels, image)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("form", ["raw", "zlib", "tiff_lzw", "packbits", "tiled", "big", "bigtiff", "predictor"])
def test_the_least_number_may_be_white(tmp_path: Path, bits: int, form: str) -> None:
    image, path = counts(16, 32, bits=bits), tmp_path / "a.tif"
    for photometric in ("minisblack", "miniswhite"):
        if form in ("tiff_lzw", "packbits"):
            tags = {262: int(photometric == "minisblack")}
            Image.fromarray(image).save(path, compression=form, tiffinfo=tags)
        else:
            options = {
                "raw": {},
                "zlib": {"compression": "zlib"},
                "tiled": {"tile": (16, 16)},
                "big": {"byteorder": ">"},
                "bigtiff": {"bigtiff": True},
                "predictor": {"compression": "zlib", "predictor": True},
            }[form]
            tifffile.imwrite(path, image, photometric=photometric, **options)
        # Pillow inverts 8 bit on writing, so that the picture stays the same.
        same = photometric == "minisblack" or (bits == 8 and form in ("tiff_lzw", "packbits"))
        wanted = image if same else 2**bits - 1 - image
        found = read_raster(path).pixels
        assert np.array_equal(found, wanted) and found.dtype == image.dtype


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_palettes_are_looked_up(tmp_path: Path, suffix: str) -> None:
    levels, path = counts(6, 7), tmp_path / f"a{suffix}"
    image = Image.fromarray(levels, "L")
    image = image.convert("P")
    image.putpalette([255 - level for level in range(256) for _ in range(3)])
    image.save(path)
    assert np.array_equal(read_raster(path).pixels, np.repeat(255 - levels[..., None], 3, -1))
    indices = read_raster(path, palette=False).pixels
    assert np.array_equal(indices, levels)


def test_few_bits(tmp_path: Path) -> None:
    image = counts(9, 16) % 2
    Image.fromarray(image * 255).convert("1").save(tmp_path / "a.tif")
    Image.fromarray(image * 255).convert("1").save(tmp_path / "g.tif", compression="group4")
    Image.fromarray(image * 255).convert("1").save(tmp_path / "a.png")
    Image.fromarray(image * 255).convert("1").save(tmp_path / "w.tif", tiffinfo={262: 0})
    for name in ("a.tif", "g.tif", "a.png", "w.tif"):
        assert raster_header(tmp_path / name).bits == 8
        assert np.array_equal(read_raster(tmp_path / name).pixels, image * 255), name


def test_four_and_twelve_bits(tmp_path: Path) -> None:
    four = counts(4, 6) % 16
    packed = (four[:, ::2] << 4 | four[:, 1::2]).tobytes()
    (tmp_path / "four.tif").write_bytes(tiff(6, 4, 4, packed))
    assert np.array_equal(read_raster(tmp_path / "four.tif").pixels, four * 17)
    (tmp_path / "white.tif").write_bytes(tiff(6, 4, 4, packed, photometric=0))
    assert np.array_equal(read_raster(tmp_path / "white.tif").pixels, 255 - four * 17)
    twelve = counts(4, 6, bits=16) % 4096
    a, b = twelve[:, ::2].astype(int), twelve[:, 1::2].astype(int)
    packed = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], -1).astype(np.uint8).tobytes()
    (tmp_path / "twelve.tif").write_bytes(tiff(6, 4, 12, packed))
    assert raster_header(tmp_path / "twelve.tif").bits == 16
    assert np.array_equal(read_raster(tmp_path / "twelve.tif").pixels, twelve)


def tiff(width: int, height: int, bits: int, data: bytes, photometric: int = 1, **more: int) -> bytes:
    """A TIFF of one strip; `more` are further tags by number, as in t282=1."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: height, 279: len(data)}
    tags |= {int(name[1:]): value for name, value in more.items()}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in sorted(tags.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + b"\0\0\0\0" + data


def test_signed_counts_are_read_where_none_is_negative(tmp_path: Path) -> None:
    image = counts(4, 5, bits=16) // 2
    tifffile.imwrite(tmp_path / "a.tif", image.astype(np.int16))
    assert np.array_equal(read_raster(tmp_path / "a.tif").pixels, image)
    image = image.astype(np.int16)
    image[1, 1] = -30
    tifffile.imwrite(tmp_path / "b.tif", image)
    assert "+ 30" in refused(tmp_path / "b.tif", "int16 values down to -30, not 8-bit or 16-bit counts: convert it")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.uint32, np.int32])
def test_the_sentence_on_other_types_holds_a_command_that_works(
    tmp_path: Path, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = (counts(4, 5) + 150).astype(kind)
    tifffile.imwrite(tmp_path / "it's.tif", values)
    said = refused(tmp_path / "it's.tif", f"{np.dtype(kind)}, not 8-bit or 16-bit counts: convert it to uint16")
    monkeypatch.chdir(tmp_path)
    assert os.system(said[said.index("python -c") :].replace("python", sys.executable, 1)) == 0
    factor = 100 if np.dtype(kind).kind == "f" else 1
    assert np.array_equal(read_raster(tmp_path / "OUT.tif").pixels, (values * kind(1)).astype(float) * factor)


def test_alpha_is_no_colour(tmp_path: Path) -> None:
    gray = counts(6, 7)
    for alpha, transparent in ((np.full_like(gray, 255), False), (counts(6, 7, seed=1), True)):
        both = np.stack([gray, alpha], -1)
        Image.fromarray(both, "LA").save(tmp_path / "a.png")
        tifffile.imwrite(tmp_path / "a.tif", both, photometric="minisblack", extrasamples=["unassalpha"])
        Image.fromarray(both, "LA").save(tmp_path / "lzw.tif", compression="tiff_lzw")
        for name in ("a.png", "a.tif", "lzw.tif"):
            raster = read_raster(tmp_path / name)
            assert np.array_equal(raster.pixels, gray) and raster.transparent == transparent, name
    deep = counts(6, 7, bits=16)
    both = np.stack([deep, np.full_like(deep, 65535)], -1)
    tifffile.imwrite(tmp_path / "deep.tif", both, photometric="minisblack", extrasamples=["unassalpha"])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in both)
    (tmp_path / "deep.png").write_bytes(png(7, 6, 16, 4, rows))
    for name in ("deep.tif", "deep.png"):
        raster = read_raster(tmp_path / name)
        assert np.array_equal(raster.pixels, deep) and not raster.transparent
    both[2, 3, 1] = 0
    (tmp_path / "deep.png").write_bytes(png(7, 6, 16, 4, b"".join(b"\0" + r.astype(">u2").tobytes() for r in both)))
    assert read_raster(tmp_path / "deep.png").transparent


def test_stacks_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", counts(3, 8, 8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", counts(3, 8, 8), imagej=True)
    tifffile.imwrite(tmp_path / "c.tif", counts(3, 8, 8), photometric="minisblack", volumetric=True, tile=(1, 16, 16))
    for name in "abc":
        refused(tmp_path / f"{name}.tif", "3 pages: write one frame per file")
    data = bytearray((tmp_path / "b.tif").read_bytes())
    tifffile.imwrite(tmp_path / "one.tif", counts(8, 8), imagej=True)
    assert read_raster(tmp_path / "one.tif").pixels.shape == (8, 8) and data


def huge(kind: str) -> bytes:
    side = 60000
    if kind == "png":
        return png(side, side, 8, 0, b"\0" * 1000)
    if kind == "bmp":
        return (
            b"BM"
            + struct.pack("<IHHIIiiHHIIiiII", 1078, 0, 0, 1078, 40, side, side, 1, 8, 0, 0, 0, 0, 256, 0)
            + bytes(1024)
        )
    if kind == "jpg":
        import io

        buffer = io.BytesIO()
        Image.fromarray(counts(8, 8)).save(buffer, "JPEG")
        data = bytearray(buffer.getvalue())
        place = data.index(b"\xff\xc0") + 5
        data[place : place + 4] = struct.pack(">HH", side, side)
        return bytes(data)
    return tiff(side, side, 8, bytes(1000))


@pytest.mark.parametrize("kind", ["png", "bmp", "jpg", "tif"])
def test_huge_images_are_refused_before_they_are_decoded(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(huge(kind))
    refused(path, "declares 60000x60000 pixels, more than the limit of 300000000: .* LIT_THERMAL_MAX_PIXELS")
    Image.fromarray(counts(10, 10)).save(tmp_path / "small.png")
    monkeypatch.setenv("LIT_THERMAL_MAX_PIXELS", "99")
    refused(tmp_path / "small.png", "10x10 pixels, more than the limit of 99")
    monkeypatch.setenv("LIT_THERMAL_MAX_PIXELS", "100")
    assert read_raster(tmp_path / "small.png").pixels.shape == (10, 10)
    monkeypatch.setenv("LIT_THERMAL_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="LIT_THERMAL_MAX_PIXELS is 'many'"):
        read_raster(tmp_path / "small.png")


def test_little_data_that_unpack_to_much_are_refused(tmp_path: Path) -> None:
    packed = zlib.compress(bytes(1 << 28), 9)
    (tmp_path / "a.tif").write_bytes(
        tiff(8, 8, 8, packed).replace(struct.pack("<HHII", 259, 4, 1, 1), b"%b" % (struct.pack("<HHII", 259, 4, 1, 8)))
    )
    refused(tmp_path / "a.tif", "unpacks to more than its pixels")
    text = chunk(b"zTXt", b"a\0\0" + packed)
    (tmp_path / "a.png").write_bytes(png(2, 2, 8, 0, b"\0\1\2\0\3\4", text))
    with pytest.raises(InputError, match=r"a\.png cannot be read as an image"):
        read_raster(tmp_path / "a.png")


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    refused(tmp_path / "fifo.png", "is a pipe, a socket or a device")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    refused(tmp_path / "device.png", "is a pipe, a socket or a device")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "is a folder, but an image is expected")
    (tmp_path / "gone.png").symlink_to("nowhere")
    refused(tmp_path / "gone.png", "link to a file that does not exist")
    (tmp_path / "round.png").symlink_to("round.png")
    refused(tmp_path / "round.png", r"round\.png")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "is empty")
    refused(tmp_path / "none.png", "does not exist")
    (tmp_path / "text.png").write_text("no image")
    refused(tmp_path / "text.png", "neither a PNG, a JPEG, a BMP nor a TIFF")


def test_names_are_names_alone(tmp_path: Path) -> None:
    """FFmpeg takes some names for protocols and patterns."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in counts(3, 4, 3, bits=16))
    for name in ("a%03d.png", "concat:a|b.png", "http:x.png", "1²2.png", "a b.png", "ä\n.png", "-i.png"):
        (tmp_path / name).write_bytes(png(4, 3, 16, 2, rows))
        assert read_raster(tmp_path / name).pixels.shape == (3, 4, 3)


def test_a_wrong_check_sum_is_seen_at_any_depth(tmp_path: Path) -> None:
    for depth, colour, channels in ((8, 0, 1), (8, 2, 3), (16, 0, 1), (16, 2, 3), (16, 4, 2)):
        image = counts(6, 5, channels, bits=depth)
        rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in image)
        data = bytearray(png(5, 6, depth, colour, rows))
        data[data.index(b"IDAT") + 20] ^= 1
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(InputError, match=r"a\.png cannot be read as an image"):
            read_raster(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("maker", "segment"),
    [
        ("FLIR", b"\xff\xe1\0\x0aFLIR\0\1\0\0"),
        ("InfiRay", b"\xff\xe2\0\x0e\0\0\0\0IJPEG\0\0\0"),
        ("DJI", b"\xff\xe4\0\x08\xaa\x55\x12\x06\0\0"),
    ],
)
def test_measurements_beside_a_picture_are_reported(tmp_path: Path, maker: str, segment: bytes) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(counts(16, 16)).save(path)
    assert read_raster(path).radiometric == ""
    data = path.read_bytes()
    path.write_bytes(data[:2] + segment + data[2:])
    raster = read_raster(path)
    assert raster.radiometric == maker and raster.lossy


def test_damaged_tiffs_leave_standard_error_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(counts(40, 50)).save(tmp_path / "whole.tif", compression="tiff_lzw")
    data = bytearray((tmp_path / "whole.tif").read_bytes())
    for place in range(20, len(data) - 300, 37):
        changed = data.copy()
        changed[place : place + 30] = b"\xff" * 30
        (tmp_path / "a.tif").write_bytes(changed)
        with contextlib.suppress(InputError):
            read_raster(tmp_path / "a.tif")
    os.write(2, b"still there")
    assert capfd.readouterr() == ("", "still there")


def test_lzw_with_white_as_the_least_number_is_inverted_once(tmp_path: Path) -> None:
    for bits in (8, 16):
        image = counts(9, 12, bits=bits)
        Image.fromarray(image).save(tmp_path / "a.tif", compression="tiff_lzw")
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            place = file.pages[0].tags[262].valueoffset
        data = bytearray((tmp_path / "a.tif").read_bytes())
        data[place] = 0
        (tmp_path / "a.tif").write_bytes(data)
        assert np.array_equal(read_raster(tmp_path / "a.tif").pixels, 2**bits - 1 - image)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_deep_colour_is_exact_each_time(tmp_path: Path, colour: int, channels: int) -> None:
    image = counts(11, 13, channels, bits=16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    (tmp_path / "a.png").write_bytes(png(13, 11, 16, colour, rows))
    wanted = image[..., 0] if channels == 2 else image[..., :3]
    for _ in range(400):
        assert np.array_equal(read_raster(tmp_path / "a.png").pixels, wanted)


def test_zstandard_is_read_where_python_has_none(tmp_path: Path) -> None:
    pixels = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) + 5000
    try:
        Image.fromarray(pixels).save(tmp_path / "a.tif", compression="zstd")
    except (OSError, RuntimeError):
        pytest.skip("libtiff has no Zstandard")
    assert np.array_equal(read_raster(tmp_path / "a.tif").pixels, pixels)
