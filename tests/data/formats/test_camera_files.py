"""Files of thermal cameras: counts, temperatures and metadata come in and go out."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from camera_samples import CONSTANTS, SETTINGS, cptv, flir_jpeg, irg, scene
from PIL import Image

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats import camera_files
from lit_thermal.data.formats.camera_files import GRAY_VALUES, read, write
from lit_thermal.data.formats.clips import find_clips, open_clip
from lit_thermal.data.formats.frames import read_frame, read_header, read_measured
from lit_thermal.data.formats.object_settings import ObjectSettings, counts_of
from lit_thermal.data.formats.thermogram import CENTIKELVIN, KELVIN, Thermogram
from lit_thermal.data.readers.image_folder import ImageFolder
from lit_thermal.errors import InputError

SHARED = Path(__file__).parents[4] / "shared" / "data"
FILES = SHARED / "radiometric_files"
needs_files = pytest.mark.skipif(not FILES.is_dir(), reason=f"{FILES} is not there")
PLANCK = Radiometry(0.0, 1.0, 16, "planck", tuple(map(float, CONSTANTS.values())), "apparent")


def kelvin_of(counts: np.ndarray, constants: dict[str, float] = CONSTANTS) -> np.ndarray:
    """The camera's law, written once more."""
    r1, r2, b, f, o = (constants[letter] for letter in ("R1", "R2", "B", "F", "O"))
    return b / np.log(r1 / (r2 * (counts.astype(float) + o)) + f)


def refused(path: Path, match: str) -> None:
    for call in (read, read_frame):
        with pytest.raises(InputError, match=match) as caught:
            call(path)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("png", [True, False])
def test_a_flir_jpeg_gives_counts_temperatures_and_photo(tmp_path: Path, order: str, png: bool) -> None:
    pytest.importorskip("flyr")
    counts, photo = scene(), np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    path = flir_jpeg(tmp_path / "a.jpg", counts, order=order, png=png, photo=photo)
    found = read(path)
    assert np.array_equal(found.image, counts) and found.pixels.dtype == np.uint16
    assert np.abs(found.kelvin()[0] - kelvin_of(counts)).max() < 1e-3
    assert found.photo is not None and np.array_equal(found.photo, photo)
    assert found.facts["photo_placement"]["right"] == -3
    assert found.radiometry.reading == "apparent" and found.scale("object").reading == "object"
    assert read_header(path) == (*counts.shape, 16) and np.array_equal(read_frame(path), counts)
    assert found.settings is not None and found.settings.emissivity == pytest.approx(SETTINGS[0])


def test_object_temperatures_are_the_same_law_with_other_constants() -> None:
    settings = ObjectSettings(0.8, 10.0, 0.6, 300.0, 285.0, 288.0, 0.9)
    counts = np.linspace(14000, 30000, 50)
    gain, stray = settings.gain_and_stray(PLANCK)
    assert 0 < gain < 0.8
    # what the object alone would give, without the radiation of everything else
    direct = kelvin_of((counts - stray) / gain)
    r1, r2, b, f, o = settings.folded(PLANCK).constants
    assert np.abs(b / np.log(r1 / (r2 * (counts + o)) + f) - direct).max() < 1e-9
    # an object as warm as all around it looks as warm at any emissivity
    even = replace(settings, reflected=300.0, air=300.0, window=300.0)
    r1, r2, b, f, o = even.folded(PLANCK).constants
    assert b / np.log(r1 / (r2 * (counts_of(300.0, PLANCK) + o)) + f) == pytest.approx(300.0, abs=1e-9)
    plain = ObjectSettings().folded(PLANCK)
    assert plain.constants == pytest.approx(PLANCK.constants) and plain.reading == "object"


def test_unsigned_counts_do_not_overflow() -> None:
    counts = np.array([[[7000, 7001, 65535]]], np.uint16)
    kelvin = Thermogram(counts, PLANCK).kelvin()
    assert kelvin[0, 0, 2] == pytest.approx(kelvin_of(np.array(65535)), abs=1e-3) and kelvin[0, 0, 1] > 0


@needs_files
def test_shared_flir_files_agree_with_their_counts_and_constants() -> None:
    pytest.importorskip("flyr")
    known = json.loads((SHARED / "radiometric" / "metadata.json").read_text())
    paths = sorted(FILES.glob("*.jpg"))
    assert len(paths) == 20
    furthest = 0.0
    for path in paths:
        name = f"{path.stem}.png"
        with Image.open(SHARED / "radiometric" / name) as image:
            counts = np.asarray(image)
        found, png = read(path), read(SHARED / "radiometric" / name)
        assert np.array_equal(found.image, counts), name
        assert np.array_equal(png.image, counts) and png.radiometry.reading == "apparent"
        worst = np.abs(found.kelvin()[0] - kelvin_of(counts, known[name]["planck"])).max()
        worst_object = np.abs(found.kelvin("object") - png.kelvin("object")).max()
        assert worst < 0.01 and worst_object < 0.01, name
        furthest = max(furthest, float(np.abs(found.kelvin("object") - found.kelvin()).max()))
    assert 6.5 < furthest < 7.5


@needs_files
def test_object_temperatures_agree_with_flyr() -> None:
    flyr = pytest.importorskip("flyr")
    for name in ("01_200_deg_neutral", "04_afcis_infrared", "19_termografia", "24_thermographie_photovoltaique"):
        path = FILES / f"{name}.jpg"
        assert np.abs(read(path).kelvin("object")[0] - flyr.unpack(str(path)).kelvin).max() < 0.001


@needs_files
def test_shared_cptv_and_irg_files() -> None:
    pytest.importorskip("cptv")
    pytest.importorskip("infiray_irg")
    for name, length, step in (("v2", 100, 0.111), ("v2_latlon", 102, 0.114)):
        found = read(FILES / f"{name}.cptv")
        assert found.pixels.shape == (length, 120, 160) and found.pixels.dtype == np.uint16
        assert found.times[0] == 0 and found.times[1] == pytest.approx(step, abs=1e-6)
    assert found.facts["latitude"] == pytest.approx(-36.9436, abs=1e-4)
    image = read(FILES / "infiray_example.irg")
    assert image.image.shape == (256, 192) and image.photo is not None and image.photo.shape == (256, 192, 3)
    assert image.kelvin().min() == pytest.approx(299.0, abs=0.01) and image.kelvin().max() < 323


def test_an_irg_gives_kelvin_and_photo(tmp_path: Path) -> None:
    pytest.importorskip("infiray_irg")
    kelvin = 280 + np.arange(12 * 16).reshape(12, 16) / 16
    found = read(irg(tmp_path / "a.irg", kelvin, np.full((24, 32, 3), 90, np.uint8)))
    assert np.abs(found.image - kelvin).max() < 1e-4 and found.radiometry == KELVIN._replace(reading="object")
    assert found.photo is not None and found.photo.shape == (24, 32, 3)
    assert read_header(tmp_path / "a.irg") == (12, 16, 16)
    counts, scale = read_measured(tmp_path / "a.irg")
    assert scale == CENTIKELVIN._replace(reading="object") and np.abs(counts / 100 - kelvin).max() <= 0.0051
    data = (tmp_path / "a.irg").read_bytes()
    for end in (0, 5, 60, 200, 400):
        (tmp_path / "cut.irg").write_bytes(data[:end])
        refused(tmp_path / "cut.irg", "an InfiRay IRG image")


def test_a_cptv_is_a_clip_with_times(tmp_path: Path) -> None:
    pytest.importorskip("cptv")
    frames = np.stack([scene(120, 160, seed) for seed in range(4)])
    path = cptv(tmp_path / "a.cptv", frames)
    found = read(path)
    assert np.array_equal(found.pixels, frames) and found.times == pytest.approx((0, 0.111, 0.222, 0.333))
    assert found.facts["device_name"] == "hedge" and not found.knows_kelvin
    clip = open_clip(path)
    assert (clip.length, clip.size, clip.bits) == (4, (120, 160), 16) and clip.fps == pytest.approx(1 / 0.111)
    assert np.array_equal(clip.read(1, 3), frames[1:3]) and list(find_clips(tmp_path)) == ["a"]
    with pytest.raises(InputError, match=r"a\.cptv holds 4 pages"):
        read_frame(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(path, "cannot be read as a CPTV video")


@pytest.mark.parametrize("missing", ["flyr", "cptv", "infiray_irg"])
def test_a_missing_package_is_named(tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = {
        "flyr": lambda: flir_jpeg(tmp_path / "a.jpg", scene()),
        "cptv": lambda: tmp_path / "a.cptv",
        "infiray_irg": lambda: irg(tmp_path / "a.irg", np.full((4, 5), 300.0)),
    }[missing]()
    if missing == "cptv":
        path.write_bytes(b"x")
    # a module that is None raises an ImportError
    for name in {missing, *(name for name in sys.modules if name.split(".")[0] == missing)}:
        monkeypatch.setitem(sys.modules, name, None)
    refused(path, r"install it by pip install 'lit_thermal\[radiometric\]'")


@pytest.mark.parametrize("kind", ["uint16", "kelvin", "celsius"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_tiffs_of_temperatures(tmp_path: Path, kind: str, compression: str | None) -> None:
    if compression is not None:
        pytest.importorskip("imagecodecs")
    kelvin = kelvin_of(scene()).astype(np.float32)
    stored = {"uint16": scene(), "kelvin": kelvin, "celsius": (kelvin - 273.15).astype(np.float32)}[kind]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, compression=compression, predictor=compression is not None)
    found = read(path)
    if kind == "uint16":
        assert np.array_equal(found.image, stored) and not found.knows_kelvin
    else:
        assert found.pixels.dtype == np.float32 and np.abs(found.image - kelvin).max() < 1e-4
        counts, scale = read_measured(path)
        assert scale == CENTIKELVIN and np.abs(counts * 0.01 - kelvin).max() <= 0.0051
    assert read_header(path) == (*scene().shape, 16)


def test_hot_temperatures_have_wider_counts(tmp_path: Path) -> None:
    kelvin = np.linspace(300, 1500, 20, dtype=np.float32).reshape(4, 5)
    tifffile.imwrite(tmp_path / "fire.tif", kelvin)
    counts, scale = read_measured(tmp_path / "fire.tif")
    assert scale.constants == (0.0, 0.1) and np.abs(counts * 0.1 - kelvin).max() <= 0.051


def test_pages_are_frames_and_one_page_is_asked_of_an_image(tmp_path: Path) -> None:
    frames = np.stack([scene(8, 9, seed) for seed in range(12)])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, frames, photometric="minisblack")
    assert np.array_equal(read(path).pixels, frames)
    for call in (read_frame, read_header):
        with pytest.raises(InputError, match=r"a\.tif holds 12 pages: write one frame per file"):
            call(path)
    clip = open_clip(path)
    assert (clip.length, clip.size, clip.bits) == (12, (8, 9), 16)
    assert np.array_equal(np.stack(list(clip)), frames) and np.array_equal(clip.read(3, 5), frames[3:5])
    assert list(find_clips(tmp_path)) == ["a"]
    kelvin = (frames / 50).astype(np.float32)
    tifffile.imwrite(path, kelvin, photometric="minisblack")
    assert np.array_equal(read(path).pixels, kelvin)
    with tifffile.TiffWriter(path) as file:
        file.write(frames[0])
        file.write(frames[0, :4])
    with pytest.raises(InputError, match="pages of different size"):
        read(path)


def test_a_json_file_beside_says_what_counts_are(tmp_path: Path) -> None:
    counts = scene()
    for suffix in (".png", ".tif"):
        Image.fromarray(counts).save(tmp_path / f"a{suffix}")
    (tmp_path / "a.json").write_text(json.dumps({"planck": CONSTANTS, "scene": {"emissivity": 0.9}}))
    for suffix in (".png", ".tif"):
        found = read(tmp_path / f"a{suffix}")
        assert np.abs(found.kelvin()[0] - kelvin_of(counts)).max() < 1e-3
        assert found.scale("object").reading == "object" and found.radiometry.reading == "apparent"
    (tmp_path / "a.json").write_text('{"linear": {"kelvin_at_0": 0, "kelvin_per_count": 0.02}}')
    assert read(tmp_path / "a.png").kelvin()[0, 0, 0] == pytest.approx(counts[0, 0] * 0.02)
    (tmp_path / "a.json").write_text('[{"label": "car"}]')
    assert not read(tmp_path / "a.png").knows_kelvin
    (tmp_path / "metadata.json").write_text(json.dumps({"a.png": {"planck": CONSTANTS}}))
    assert read(tmp_path / "a.png").knows_kelvin and not read(tmp_path / "a.tif").knows_kelvin


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ('{"planck": {"R1": 1}}', "has no number R2"),
        ('{"planck": {"R1": 1, "R2": -1, "B": 1, "F": 1, "O": 0}}', "not all above 0"),
        ('{"linear": {"kelvin_at_0": 0, "kelvin_per_count": 0}}', "kelvin_per_count of 0"),
        ('{"linear": {"kelvin_at_0": 0, "kelvin_per_count": 1}, "reading": "true"}', "reading 'true'"),
        ('{"linear": {"kelvin_at_0": 0, "kelvin_per_count": 1}, "scene": {"emissivity": 3}}', "emissivity above 1"),
        ('{"linear": {', "cannot be read as the temperature scale"),
    ],
)
def test_a_wrong_json_file_is_refused(tmp_path: Path, entry: str, match: str) -> None:
    Image.fromarray(scene()).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(entry)
    with pytest.raises(InputError, match=match) as caught:
        read(tmp_path / "a.png")
    assert "a.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_what_is_written_reads_back(tmp_path: Path, suffix: str) -> None:
    settings = ObjectSettings(0.9, 2.0, atmosphere=(0.006, 0.01, -0.002, -0.006, 1.8))
    for given in (
        Thermogram(scene()[None], PLANCK, settings, facts={"camera": "x"}),
        Thermogram(scene()[None]),
        Thermogram(scene()[None], CENTIKELVIN._replace(reading="object")),
        Thermogram((scene()[None] // 64).astype(np.uint8), Radiometry(0.0, 1.0, 8)),
        Thermogram(kelvin_of(scene())[None].astype(np.float32), KELVIN),
    ):
        (tmp_path / "a.json").unlink(missing_ok=True)
        path = tmp_path / f"a{suffix}"
        write(path, given)
        found = read(path)
        assert found.settings == given.settings and dict(found.facts) == dict(given.facts)
        assert found.radiometry.reading == given.radiometry.reading
        if given.pixels.dtype == np.float32 and suffix == ".png":
            assert np.abs(found.kelvin() - given.pixels).max() <= 0.0051
        else:
            assert np.array_equal(found.pixels, given.pixels) and found.pixels.dtype == given.pixels.dtype
            assert found.radiometry == given.radiometry
    assert not [path for path in tmp_path.iterdir() if path.name not in (f"a{suffix}", "a.json")]


def test_frames_are_written_as_pages(tmp_path: Path) -> None:
    frames = np.stack([scene(8, 9, seed) for seed in range(3)])
    given = Thermogram(frames, CENTIKELVIN, times=(0.0, 0.1, 0.25))
    write(tmp_path / "a.tif", given)
    found = read(tmp_path / "a.tif")
    assert np.array_equal(found.pixels, frames) and found.times == given.times
    with pytest.raises(InputError, match=r"a\.png cannot hold 3 frames"):
        write(tmp_path / "a.png", given)
    with pytest.raises(InputError, match=r"a\.jpg cannot hold thermal counts"):
        write(tmp_path / "a.jpg", given)
    with pytest.raises(InputError, match=r"n\.tif would hold 1 pixels that are NaN"):
        write(tmp_path / "n.tif", Thermogram(np.array([[[300, np.nan]]], np.float32), KELVIN))


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_position_and_date_of_a_camera_file_are_kept(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("flyr")
    exif = Image.Exif()
    exif[271], exif[306], exif[274] = "FLIR", "2024:05:06 07:08:09", 6
    exif.get_ifd(34665)[36867] = "2024:05:06 07:08:09"
    exif.get_ifd(34853).update({1: "S", 2: (36.0, 30.0, 0.0), 3: "E", 4: (174.0, 15.0, 0.0)})
    source = read(flir_jpeg(tmp_path / "a.jpg", scene(), exif=exif))
    larger = replace(source, pixels=source.pixels.repeat(4, 1).repeat(4, 2))
    write(tmp_path / f"b{suffix}", larger)
    with Image.open(tmp_path / f"b{suffix}") as image:
        found = image.getexif()
        assert found[271] == "FLIR" and found[306] == "2024:05:06 07:08:09" and found.get(274, 1) == 1
        assert found.get_ifd(34853)[1] == "S" and tuple(map(float, found.get_ifd(34853)[4])) == (174.0, 15.0, 0.0)
    again = read(tmp_path / f"b{suffix}")
    assert np.array_equal(again.pixels, larger.pixels) and again.radiometry == source.radiometry
    # the file beside holds the constants as doubles, so nothing is lost
    assert np.array_equal(again.kelvin("object"), larger.kelvin("object"))


def test_a_jpeg_without_measurements_is_gray(tmp_path: Path) -> None:
    level = (scene() // 64).astype(np.uint8)
    Image.fromarray(level).save(tmp_path / "a.jpg", quality=98)
    found = read(tmp_path / "a.jpg")
    assert found.message == GRAY_VALUES and found.pixels.dtype == np.uint8 and not found.knows_kelvin
    with pytest.raises(InputError, match=r"a\.jpg does not say how its counts become temperatures"):
        found.kelvin()
    Image.fromarray(np.stack([level, level // 2, level], -1)).save(tmp_path / "c.jpg")
    refused(tmp_path / "c.jpg", "in colour")
    pytest.importorskip("flyr")
    refused(flir_jpeg(tmp_path / "d.jpg", scene(), raw=False), "no radiometric data among them")


def test_what_is_no_image_of_a_camera_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.png").write_text("no image")
    refused(tmp_path / "text.png", "neither a PNG")
    (tmp_path / "empty.tif").write_bytes(b"")
    refused(tmp_path / "empty.tif", "is empty")
    refused(tmp_path / "none.irg", "does not exist")
    (tmp_path / "folder.cptv").mkdir()
    refused(tmp_path / "folder.cptv", "is a folder")
    tifffile.imwrite(tmp_path / "nan.tif", np.array([[290, np.nan], [295, 300]], np.float32))
    refused(tmp_path / "nan.tif", "1 pixels that are NaN or infinite")
    tifffile.imwrite(tmp_path / "unit.tif", np.random.default_rng(0).random((4, 4), np.float32))
    refused(tmp_path / "unit.tif", r"float32, not 8-bit or 16-bit counts.*name their unit in unit\.json")
    # one dead pixel in Kelvin, or a furnace in degrees Celsius
    tifffile.imwrite(tmp_path / "dead.tif", np.array([[0, 300], [301, 302]], np.float32))
    refused(tmp_path / "dead.tif", r"name their unit in dead\.json")
    (tmp_path / "dead.json").write_text('{"unit": "kelvin"}')
    assert read(tmp_path / "dead.tif").kelvin().min() == 0
    tifffile.imwrite(tmp_path / "cold.tif", np.full((4, 4), -300, np.float32))
    (tmp_path / "cold.json").write_text('{"unit": "celsius"}')
    refused(tmp_path / "cold.tif", "below absolute zero")
    Image.fromarray(scene()).save(tmp_path / "large.png")
    tifffile.imwrite(tmp_path / "large.tif", kelvin_of(scene()).astype(np.float32))
    irg(tmp_path / "large.irg", kelvin_of(scene()))
    monkeypatch.setenv("LIT_THERMAL_MAX_PIXELS", "100")
    for suffix in (".png", ".tif", ".irg"):
        refused(tmp_path / f"large{suffix}", "more than the limit of 100")


def test_a_bomb_inside_a_flir_jpeg_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flyr")
    path = flir_jpeg(tmp_path / "a.jpg", scene(), photo=np.zeros((90, 90, 3), np.uint8))
    monkeypatch.setenv("LIT_THERMAL_MAX_PIXELS", "4000")
    refused(path, "declares 90x90 pixels, more than the limit of 4000")
    monkeypatch.setenv("LIT_THERMAL_MAX_PIXELS", "700")
    refused(path, "more than the limit of 700")


def test_a_damaged_flir_jpeg_is_refused_in_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("flyr")
    data = flir_jpeg(tmp_path / "a.jpg", scene()).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "b.jpg"
    for _ in range(60):
        changed = bytearray(data)
        for place in rng.integers(2, len(data) // 2, 12):
            changed[place] = int(rng.integers(256))
        path.write_bytes(changed[: int(rng.integers(len(data) // 3, len(data)))])
        try:
            read(path)
        except InputError as error:
            assert "b.jpg" in str(error) and "\n" not in str(error)


def test_the_table_of_formats_names_every_adapter() -> None:
    text = camera_files.__doc__ or ""
    for name in ("flir_jpeg", "irg_file", "cptv_file", "thermal_tiff", "sidecar", "gray_image"):
        assert f"`{name}`" in text


def test_a_camera_file_is_training_data(tmp_path: Path) -> None:
    pytest.importorskip("flyr")
    (tmp_path / "val" / "hr").mkdir(parents=True)
    counts = scene(32, 40)
    flir_jpeg(tmp_path / "val" / "hr" / "a.jpg", counts)
    data = ImageFolder(str(tmp_path), scale=4, num_workers=0)
    data.setup("validate")
    (batch,) = list(data.val_dataloader())
    (radiometry,) = batch["radiometry"]
    assert np.array_equal(radiometry.to_counts(batch["hr"].double()).round().numpy()[0, 0], counts)
    assert radiometry.unit == "planck" and radiometry.reading == "apparent"
    assert np.abs(radiometry.to_kelvin(batch["hr"].double()).numpy()[0, 0] - kelvin_of(counts)).max() < 1e-2
    assert list(data.target_sizes("val").values()) == [(32, 40)]


def test_the_first_page_decides_the_unit_of_all(tmp_path: Path) -> None:
    celsius = np.stack([np.full((4, 5), value, np.float32) for value in (20.0, 400.0)])
    tifffile.imwrite(tmp_path / "a.tif", celsius, photometric="minisblack")
    assert np.allclose(read(tmp_path / "a.tif").pixels, celsius + 273.15)
    clip = open_clip(tmp_path / "a.tif")
    assert clip.read(0, 1)[0, 0, 0] == 29315
    with pytest.raises(InputError, match=r"page 1 of .*a\.tif is hotter than 655\.35 K"):
        clip.read(0, 2)
