"""What a restored image carries over from its source: resolution, text, EXIF and GPS."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import read_frame, write_frame
from lit_thermal.data.formats.tags import Tags, read_tags, restored_name

SIZE = (80, 48)
"""Of the restored image: four times the source, which is 20 wide and 12 high and lies on its side."""
GPS = {1: "N", 2: (52.0, 30.0, 1.5), 3: "E", 4: (13.0, 1.0, 2.0)}


def exif(orientation: int = 6) -> Image.Exif:
    tags = Image.Exif()
    tags[271], tags[274], tags[282] = "FLIR", orientation, IFDRational(72, 1)
    inner = tags.get_ifd(34665)
    inner[36867], inner[37500], inner[40962] = "2024:01:02 03:04:05", b"maker\0notes", 20
    tags.get_ifd(34853).update(GPS)
    return tags


def restored(source: Path, bits: int = 16) -> Path:
    path = source.parent / "out" / restored_name(source.stem, source)
    radiometry = Radiometry(0.0, 65535.0, 16) if bits == 16 else Radiometry()
    values = torch.rand(1, *SIZE)
    write_frame(path, values, radiometry, read_tags(source, SIZE))
    assert np.array_equal(read_frame(path), radiometry.to_counts(values[0].double()).round().numpy())
    return path


def check_exif(tags: Image.Exif) -> None:
    assert (tags[274], tags[271], tags[282]) == (1, "FLIR", 288.0)
    inner = tags.get_ifd(34665)
    assert (inner[36867], inner[37500], inner[40962]) == ("2024:01:02 03:04:05", b"maker\0notes", SIZE[1])
    assert dict(tags.get_ifd(34853)) == GPS


@pytest.fixture
def counts() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65535, (12, 20)).astype(np.uint16)


def test_a_png_keeps_its_chunks(tmp_path: Path, counts: np.ndarray) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "café")
    info.add_itxt("Place", "日本")
    info.add_text("Notes", "x" * 500, zip=True)
    info.add(b"gAMA", (45455).to_bytes(4, "big"))
    Image.fromarray(counts).save(tmp_path / "a.PNG", pnginfo=info, exif=exif(), dpi=(96, 96))
    out = restored(tmp_path / "a.PNG")
    assert out.name == "a.PNG"
    with Image.open(out) as image:
        image.load()
        assert (image.info["Title"], image.info["Place"], image.info["Notes"]) == ("café", "日本", "x" * 500)
        assert image.info["dpi"][0] == pytest.approx(384, abs=0.1) and image.info["gamma"] == pytest.approx(0.45455)
        check_exif(image.getexif())


def test_a_jpeg_becomes_a_png_with_its_exif(tmp_path: Path, counts: np.ndarray) -> None:
    pixels = (counts >> 8).astype(np.uint8)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif(), dpi=(72, 72), comment="hot", xmp=xmp)
    out = restored(tmp_path / "a.jpg", bits=8)
    assert out.name == "a.png"
    with Image.open(out) as image:
        assert image.info["Comment"] == "hot" and image.info["dpi"][0] == pytest.approx(288, abs=0.1)
        assert b'Orientation="1"' in image.info["xmp"]
        check_exif(image.getexif())


def test_a_tiff_keeps_its_tags(tmp_path: Path, counts: np.ndarray) -> None:
    tags = ImageFileDirectory_v2()
    tags[271], tags[274], tags[282], tags[296], tags[305] = "FLIR", 8, IFDRational(72, 1), 2, "camera"
    tags.tagtype[270] = 2
    tags[270] = "café".encode("latin-1")
    tags.tagtype[34665] = tags.tagtype[34853] = 4
    tags[34665] = {36867: "2024:01:02 03:04:05", 37500: b"maker\0notes", 40962: 20}
    tags[34853] = GPS
    Image.fromarray(counts).save(tmp_path / "a.tif", tiffinfo=tags)
    out = restored(tmp_path / "a.tif")
    assert out.name == "a.tif"
    with Image.open(out) as image:
        found = image.getexif()
        check_exif(found)
        assert (found[305], found[296], found[270]) == ("camera", 2, "café")
        assert (found[256], found[257]) == (SIZE[1], SIZE[0])


def test_pixels_of_a_map_become_smaller(tmp_path: Path, counts: np.ndarray) -> None:
    extra = [(33550, "d", 3, (2.0, 2.0, 0.0), True), (33922, "d", 6, (10.0, 5.0, 0.0, 7.0, 8.0, 0.0), True)]
    tifffile.imwrite(tmp_path / "a.tiff", counts, extratags=[*extra, (65000, "H", 1, 7, True)])
    out = restored(tmp_path / "a.tiff")
    with tifffile.TiffFile(out) as file:
        tags = file.pages[0].tags
        assert tags[33550].value == (0.5, 0.5, 0.0) and tags[33922].value == (40.0, 20.0, 0.0, 7.0, 8.0, 0.0)
        assert tags[65000].value == 7 and 270 not in tags, "the shape that tifffile writes is another now"


def test_damaged_tags_are_left_out_with_a_word(tmp_path: Path, counts: np.ndarray, caplog) -> None:
    Image.fromarray(counts).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_tags(tmp_path / "a.png", SIZE) == Tags()
    assert "the tags of a.png are not copied" in caplog.text


def test_names_keep_what_keeps_every_count() -> None:
    for source, name in (("a.tif", "a.tif"), ("a.bmp", "a.bmp"), ("a.JPG", "a.png"), ("e\u0301.png", "e\u0301.png")):
        assert restored_name(Path(source).stem.replace("e\u0301", "é"), Path("x", source)) == name
    assert restored_name("set_a", Path("a.tif")) == "set_a.tif" and restored_name("a b", None) == "a b.png"


def test_a_png_of_16_bit_that_is_named_as_a_bmp_becomes_a_png(tmp_path: Path, counts: np.ndarray) -> None:
    Image.fromarray(counts).save(tmp_path / "a.bmp", format="PNG")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "b.bmp")
    assert [restored_name(name, tmp_path / f"{name}.bmp") for name in "ab"] == ["a.png", "b.bmp"]


def test_significant_bits_beside_alpha_become_those_of_gray(tmp_path: Path) -> None:
    Image.new("LA", (8, 8)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    chunk = b"sBIT\x07\x08"
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    assert (b"sBIT", b"\x07") in read_tags(tmp_path / "a.png", (16, 16)).chunks


def test_a_resolution_of_whole_numbers_does_not_stop_the_writer(tmp_path: Path, counts: np.ndarray) -> None:
    for tag in (282, 283):
        Image.fromarray(counts).save(tmp_path / "a.tif", tiffinfo={tag: 72.0})
        data = bytearray((tmp_path / "a.tif").read_bytes())
        place = data.index(tag.to_bytes(2, "little") + b"\5\0")
        data[place + 2 : place + 12] = b"\4\0\1\0\0\0\x48\0\0\0"
        (tmp_path / "a.tif").write_bytes(data)
        tags = read_tags(tmp_path / "a.tif", (24, 40))
        write_frame(tmp_path / "b.tif", torch.zeros(1, 24, 40), Radiometry(0.0, 65535.0, 16), tags)
        assert Image.open(tmp_path / "b.tif").tag_v2[tag] == 144
