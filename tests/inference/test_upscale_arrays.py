"""Arrays, tensors and PIL images in, the same kind and dtype out; README's lines run as they are printed."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal import load
from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.thermogram import to_kelvin
from lit_thermal.errors import InputError
from lit_thermal.inference.arrays import upscale_arrays
from lit_thermal.methods.base import SuperResolver
from lit_thermal.weights import save_model
from lit_thermal.weights.checkpoint import build_model

README = Path(__file__).parents[2] / "README.md"
PLANCK = Radiometry(0.0, 1.0, 16, "planck", (16000.0, 0.012, 1430.0, 1.0, -7000.0))


def plain(guided: bool = False, scale: int = 2, normalize: str | None = None) -> SuperResolver:
    """A network whose correction is zero, so that it enlarges bicubically."""
    arguments = {"scale": scale, "width": 4, "blocks": 1, "guided": guided}
    model = build_model({"class_path": "lit_thermal.PlainCNN", "init_args": arguments})
    model.normalize = normalize
    return model


def scene(dtype: type, low: float, high: float) -> np.ndarray:
    rows, columns = np.mgrid[:20, :24]
    waves = 0.5 + 0.5 * np.sin(rows / 5) * np.cos(columns / 6)
    return (low + (high - low) * waves).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(np.uint8, 20, 230), (np.uint16, 20000, 21000), (np.float32, 0.1, 0.9), (np.float64, 0.1, 0.9)],
)
@pytest.mark.parametrize("shape", [(20, 24), (1, 20, 24), (20, 24, 1)])
def test_arrays_keep_dtype_and_layout(dtype: type, low: float, high: float, shape: tuple[int, ...]) -> None:
    pixels = scene(dtype, low, high)
    restored = plain().upscale(pixels.reshape(shape))
    assert isinstance(restored, np.ndarray) and restored.dtype == dtype
    assert restored.shape == tuple(2 * side if side > 1 else 1 for side in shape)
    means = restored.reshape(40, 48).astype(float).reshape(20, 2, 24, 2).mean((1, 3))
    assert np.abs(means - pixels).max() < 0.02 * (high - low) + 0.6 * (np.dtype(dtype).kind == "u")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_keep_dtype(dtype: torch.dtype) -> None:
    pixels = torch.from_numpy(scene(np.float32, 0.1, 0.9))
    pixels = pixels if dtype.is_floating_point else 255 * pixels
    restored = plain().upscale(pixels.to(dtype)[None])
    assert isinstance(restored, torch.Tensor) and restored.dtype == dtype and restored.shape == (1, 40, 48)


@pytest.mark.parametrize("mode", ["L", "I;16", "I", "F", "RGB"])
def test_pil_images_keep_their_mode(mode: str) -> None:
    if mode == "RGB":
        image = Image.fromarray(scene(np.uint8, 10, 240)).convert("RGB")
    else:
        image = Image.fromarray(
            {"L": scene(np.uint8, 10, 240), "I;16": scene(np.uint16, 9000, 9900), "I": scene(np.int32, 9000, 9900)}.get(
                mode, scene(np.float32, 0, 1)
            )
        )
    restored = plain().upscale(image)
    assert image.mode == mode == restored.mode and restored.size == (48, 40)


def test_a_list_is_a_batch_of_any_sizes_and_does_not_change_the_results() -> None:
    model = plain(guided=True)
    torch.nn.init.normal_(model.network.tail.weight, std=0.1)
    images = [scene(np.uint16, 9000, 9900), scene(np.uint8, 0, 255)[:12], scene(np.uint8, 0, 200)]
    photo = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    guides = [None, photo[:24], photo]
    together = model.upscale(images, guide=guides, batch=2)
    assert isinstance(together, list)
    for image, guide, restored in zip(images, guides, together, strict=True):
        assert np.array_equal(restored, model.upscale(image, guide=guide))
    assert not np.array_equal(together[2], model.upscale(images[2]))
    stacked = model.upscale(np.stack([images[2], images[2]])[:, None], guide=np.stack([photo, photo]))
    assert stacked.shape == (2, 1, 40, 48) and np.array_equal(stacked[1, 0], together[2])


@pytest.mark.parametrize(
    "guide", [np.zeros((3, 40, 48), np.float32), np.zeros((40, 48), np.uint16), torch.zeros(3, 40, 48), "L", "RGBA"]
)
def test_guides_of_every_kind(guide: object) -> None:
    guide = Image.new(guide, (48, 40)) if isinstance(guide, str) else guide
    expected = plain(guided=True).upscale(scene(np.uint8, 0, 255), guide=np.zeros((40, 48, 3), np.uint8))
    torch.manual_seed(0)
    assert np.array_equal(plain(guided=True).upscale(scene(np.uint8, 0, 255), guide=guide), expected)


@pytest.mark.parametrize("normalize", [None, "minmax", "kelvin 270..330"])
def test_kelvin_in_is_kelvin_out(normalize: str | None) -> None:
    kelvin = scene(np.float32, 285, 315)
    restored = plain(normalize=normalize).upscale(kelvin, radiometry="kelvin")
    assert restored.dtype == np.float32
    assert np.abs(restored.reshape(20, 2, 24, 2).mean((1, 3)) - kelvin).max() < 0.3
    # a steady temperature stays itself
    assert np.abs(plain(normalize=normalize).upscale(0 * kelvin + 300, radiometry="kelvin") - 300).max() < 2e-3


def test_a_fixed_range_gives_counts_of_the_camera_back() -> None:
    counts = scene(np.uint16, 12000, 13000)
    free = plain().upscale(counts)
    fixed = plain(normalize="kelvin 200..600").upscale(counts, radiometry=PLANCK)
    assert fixed.dtype == np.uint16
    assert np.abs(to_kelvin(fixed, PLANCK) - to_kelvin(free, PLANCK)).max() < 0.3
    with pytest.raises(InputError, match=r"fixed range .kelvin 200\.\.600., so that temperatures must be known"):
        plain(normalize="kelvin 200..600").upscale(counts)
    assert np.array_equal(plain(normalize="kelvin 200..600").upscale(counts, normalize="robust"), free)


def test_a_dead_pixel_keeps_its_count() -> None:
    counts = scene(np.uint16, 9000, 9900)
    counts[7, 9] = 65535
    restored = plain().upscale(counts)
    assert (restored[14:16, 18:20] == 65535).all() and (restored == 65535).sum() == 4


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        ("a.png", {}, "must be a numpy array, a torch tensor or a PIL image, not str"),
        (np.zeros((4, 4), np.int32), {}, "must be uint8, uint16 or float, not int32"),
        (np.zeros((4, 4, 4, 2, 2)), {}, r"must be \(h, w\)"),
        (np.zeros((0, 4), np.uint8), {}, "has no pixels"),
        (np.full((4, 4), np.nan), {}, "NaN or infinite"),
        (np.full((4, 4), 300.0), {}, "not in \\[0, 1\\]: give radiometry='kelvin'"),
        (np.full((4, 4), -3.0), {"radiometry": "kelvin"}, "not Kelvin: degrees Celsius need 273.15"),
        (np.full((4, 4), 0.5), {"radiometry": "celsius"}, "must be one of kelvin, centikelvin"),
        (np.full((4, 4), 0.5), {"radiometry": "centikelvin"}, "must be Kelvin"),
        (np.full((4, 4), 0.5), {"normalize": "wide"}, "normalize is 'wide'; must be one of"),
        (np.random.default_rng(0).random((4, 4, 3)), {}, "in colour"),
        (Image.new("CMYK", (4, 4)), {}, "of mode CMYK is no thermal image"),
        (np.full((4, 4), 0.5), {"guide": np.zeros((8, 8, 3), np.uint8)}, "PlainCNN takes no guide"),
        ([np.full((4, 4), 0.5)], {"guide": [None, None]}, "1 images and 2 guides"),
        ([np.full((4, 4), 0.5)], {"guide": np.zeros((8, 8, 3), np.uint8)}, "needs a list of as many guides"),
    ],
)
def test_unusable_input_gets_one_sentence(image: object, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        upscale_arrays(plain(), image, **options)


def test_the_lines_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = README.read_text(encoding="utf-8").split("## Use a model on arrays", 1)[1].split("\n## ", 1)[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    save_model(plain(guided=True, scale=4), Path("best.ckpt"))
    Image.fromarray(scene(np.uint16, 9000, 9900)).save("thermal.png")
    Image.new("RGB", (96, 80)).save("photo.jpg")
    names = {"celsius": scene(np.float32, 10, 40)}
    exec(code, names)
    assert names["large"].size == (96, 80) and names["large"].mode == "I;16"
    assert names["counts"].shape == (80, 96) and names["counts"].dtype == np.uint16
    assert 280 < names["kelvin"].mean() < 310 and len(names["several"]) == 2
    assert load("best.ckpt").scale == 4
