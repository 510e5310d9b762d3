"""Damage for files of text that users give: records, boxes, lists, tables. Only `InputError` may come of reading them.

`READERS` names each reader with what makes its whole files and what reads one where it lies, since such files refer to
others; `mutated` damages a file as bytes and as text.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lit_thermal.blocks.prompt_file import read_prompts, read_words
from lit_thermal.data.formats.class_masks import read_mask
from lit_thermal.data.formats.objects import place_objects, read_coco, read_objects, read_voc
from lit_thermal.data.readers.flir_iisr import FLIRIISR
from lit_thermal.data.readers.pair_list import PairList
from lit_thermal.errors import InputError
from lit_thermal.evaluation.levels import curves, read_levels
from lit_thermal.evaluation.published.tables import read_tables
from lit_thermal.sweeping.points import named_points
from lit_thermal.sweeping.record import read_sweep
from lit_thermal.sweeping.runner import plan
from lit_thermal.sweeping.sweep_file import read_sweep_file


class Reader(NamedTuple):
    """What is damaged and read.

    Attributes:
        name: of the reader.
        seeds: a folder to whole files in it.
        read: reads one of them, where it lies.
    """

    name: str
    seeds: Callable[[Path], list[Path]]
    read: Callable[[Path], object]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# ---- boxes and masks


def voc_seeds(folder: Path) -> list[Path]:
    """Annotations of Pascal VOC."""
    box = "<bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>20</xmax><ymax>30.5</ymax></bndbox>"
    entry = "<object><name>person</name><difficult>0</difficult>{}</object>"
    size = "<size><width>64</width><height>48</height><depth>1</depth></size>"
    body = "".join(entry.format(box.format(left)) for left in (1, 3.5))
    whole = f'<?xml version="1.0" encoding="UTF-8"?>\n<annotation><filename>a.png</filename>{size}{body}</annotation>'
    return [
        _write(folder / "a.xml", whole),
        _write(folder / "b.xml", f"<annotation>{size}</annotation>"),
        _write(
            folder / "c.xml", f'<!DOCTYPE a [<!ENTITY b "person">]>{whole.partition("?>")[2].replace("person", "&b;")}'
        ),
    ]


def read_voc_placed(path: Path) -> object:
    """Boxes as `evaluate detection` reads and places them."""
    return place_objects(read_voc(path), (24, 32), "resized", path.stem)


def coco_seeds(folder: Path) -> list[Path]:
    """Instances of COCO."""
    record = {
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}],
        "images": [{"id": 7, "file_name": "x/a.png", "height": 48, "width": 64}, {"id": 8, "file_name": "b.png"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [1, 2, 20.5, 30], "iscrowd": 0},
            {"image_id": 8, "category_id": 2, "bbox": [0, 0, 4, 4]},
        ],
    }
    return [_write(folder / "a.json", json.dumps(record)), _write(folder / "b.json", json.dumps(record, indent=1))]


def read_coco_placed(path: Path) -> object:
    """Boxes as `evaluate detection` reads and places them."""
    found = read_coco(path)
    read_objects(path, list(found), "coco")
    return [place_objects(objects, (24, 32), "resized", name) for name, objects in found.items()]


def mask_seeds(folder: Path) -> list[Path]:
    """Masks of classes, gray and with a palette."""
    folder.mkdir(parents=True, exist_ok=True)
    levels = np.arange(48, dtype=np.uint8).reshape(6, 8) % 4
    gray = Image.fromarray(levels)
    gray.save(folder / "a.png")
    with_palette = gray.convert("P")
    with_palette.save(folder / "b.png")
    return [folder / "a.png", folder / "b.png"]


# ---- lists and tables


def pair_seeds(folder: Path) -> list[Path]:
    """Lists of folders; the folders are there."""
    pixels = Image.fromarray(np.zeros((8, 8), np.uint8))
    for kind in ("hr", "lr", "rgb"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        pixels.save(folder / kind / "1.png")
    part = {"target_image": "hr", "image": "lr", "ref_image": "rgb"}
    return [
        _write(folder / "a.json", json.dumps({"train": part, "test": part})),
        _write(folder / "b.json", "\N{BYTE ORDER MARK}" + json.dumps({"train": part, "val": part, "predict": part})),
    ]


def read_pairs(path: Path) -> object:
    """All splits of a list."""
    data = PairList(str(path), val_images=1)
    return [data.find(split) for split in ("train", "val", "test", "predict")]


def label_seeds(folder: Path) -> list[Path]:
    """`labels.csv` in a root of FLIR-IISR."""
    for kind in ("HR", "LR"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name in ("s_1", "s_2"):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / kind / f"{name}.png")
    return [_write(folder / "labels.csv", 'name,blur,scene\ns_1,motion,"road; night"\ns_2,focus,\n')]


def read_labels(path: Path) -> object:
    """The groups of all images."""
    return FLIRIISR(str(path.parent))._labels()


def prompt_seeds(folder: Path) -> list[Path]:
    """Files of tags."""
    return [_write(folder / "a.txt", "a.png: road, person\n\nb: sky\n"), _write(folder / "b.txt", "road\nsky\n")]


def read_prompt(path: Path) -> object:
    """As prompts and as words."""
    read_words(path)
    return read_prompts(path)


def level_seeds(folder: Path) -> list[Path]:
    """`robustness.csv`."""
    text = "condition,varied,at,unit,psnr,ssim,images\ncomplete,noise,0,K,30.5,0.9,4\nn1,noise,0.1,K,29,0.8,4\n"
    return [_write(folder / "a.csv", text + "thermal_only,,,,28,0.7,4\nbaseline: bicubic,noise,0.1,K,25,0.6,4\n")]


def read_curves(path: Path) -> object:
    """As `curves` reads them."""
    return curves(read_levels(path))


def table_seeds(folder: Path) -> list[Path]:
    """Published tables."""
    rows = '[{name: full, values: "30.10 0.90", point: {a: 1}}, {name: less, values: "- 0.8±0.1", point: {a: 2}}]'
    table = f"number: Table 1\n  caption: c\n  protocol: p\n  sweep: s\n  reference: full\n  rows: {rows}\n"
    text = "title: t\nclass: c\nprotocols: {p: {text: t, channel: gray, notes: n}}\n"
    text += f"tables:\n- {table}  columns: {{x: [psnr, ssim]}}\n"
    return [_write(folder / "a.yaml", text)]


# ---- sweeps and runs


def sweep_file_seeds(folder: Path) -> list[Path]:
    """Sweep files of grids and of random draws."""
    command = 'command: ["${env}", "${interpreter}", "-m", "lit_thermal", "fit", "${args}"]\n'
    grid = "method: grid\nparameters:\n  c: {values: [theris]}\n  beta: {min: 1, max: 3}\n  head: {value: x}\n"
    lr = "lr: {distribution: q_log_uniform_values, min: 0.1, max: 2, q: 0.1}"
    drawn = f"method: random\nrun_cap: 3\nparameters:\n  {lr}\n"
    weighted = "  kind: {values: [a, b], probabilities: [0.5, 0.5]}\n  z: {mu: 0, sigma: 1}\n"
    return [_write(folder / "a.yaml", grid + command), _write(folder / "b.yaml", drawn + weighted + command)]


def read_points(path: Path) -> object:
    """The points of a sweep file, laid out."""
    sweep = read_sweep_file(path)
    return plan(sweep, named_points(sweep), 1, path.parent / "out", ())


def sweep_seeds(folder: Path) -> list[Path]:
    """`sweep.json`, and `point.json` of one of its points."""
    point = {"name": "a", "parameters": {"beta": 0.5}, "seed": 0, "folder": "a-seed0"}
    sweep = {"name": "s", "file": "sweeps/s.yaml", "text": "", "seeds": 1, "overrides": ["--a.b=1"], "points": [point]}
    ended = {"state": "finished", "run": "r", "seconds": 1.5, "command": ["fit"], "files": {"c": "0"}, "returncode": 0}
    return [
        _write(folder / "sweep.json", json.dumps(sweep)),
        _write(folder / "a-seed0" / "point.json", json.dumps(ended)),
    ]


def read_sweep_of(path: Path) -> object:
    """The sweep that a record belongs to."""
    return read_sweep(path.parent if path.name == "sweep.json" else path.parents[1])


def run_seeds(folder: Path) -> list[Path]:
    """Everything that a report reads of a run."""
    run = folder / "exp" / "1-test"
    record = {
        "method": "THERIS",
        "results": {"simulated": {"bicubic": {"all": {"psnr": 25.0, "ssim": None}}}},
        "against_baselines": {"simulated": {"strongest": "bicubic"}},
        "data": {"simulated": {"images": 2}},
        "protocol": {"text": "Gray images. psnr: in dB."},
        "protocols": {"simulated": {"THERIS": {"gray8": {"psnr": 30.0}}}},
        "cost": {"parameters": 1000, "seconds_per_image": 0.5, "device": "cpu", "threads": 2, "training_steps": 4},
        "skipped": {"lpips": "no weights"},
    }
    rows = [[n, m, 30.0 + i] for i, (n, m) in enumerate((n, m) for n in "ab" for m in ("THERIS", "bicubic"))]
    files = {
        "metrics.json": json.dumps(record),
        "metrics.csv": "dataset,image,method,psnr\n" + "".join(f"simulated,{n},{m},{v}\n" for n, m, v in rows),
        "config.yaml": "trainer: {max_steps: 4}\nckpt_path: null\n",
        "csv/version_0/metrics.csv": "step,train/loss,val/psnr\n1,0.5,\n1,,20.0\n3,0.25,\n3,,21.5\n",
        "robustness.csv": level_seeds(folder / "levels")[0].read_text(),
    }
    rng = np.random.default_rng(0)
    hr = rng.integers(40, 200, (16, 24)).astype(np.uint8)
    place = run / "gallery" / "simulated" / "a"
    place.mkdir(parents=True, exist_ok=True)
    shown = {"hr": hr, "restored": hr + 1, "bicubic": hr // 2 + 60, "lr": hr[::4, ::4], "guide": np.stack([hr] * 3, -1)}
    for kind, pixels in shown.items():
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{kind}.png")
    entry = {
        "name": "a",
        "size": [16, 24],
        "radiometry": {"offset": 0.0, "gain": 255.0, "bits": 8, "unit": "linear", "constants": [280.0, 0.1]},
        "files": {kind: [f"simulated/a/{kind}.png"] for kind in shown},
    }
    files["gallery/gallery.json"] = json.dumps({"method": "THERIS", "scale": 4, "datasets": {"simulated": [entry]}})
    return [_write(run / name, text) for name, text in files.items()]


def read_run_of(path: Path) -> object:
    """The run that a file belongs to, as a report reads it."""
    from lit_thermal.report.read import read_studies

    return read_studies([_run_folder(path)])


def report_run_of(path: Path) -> object:
    """The report of the run that a file belongs to."""
    from lit_thermal.report.page import write_report
    from lit_thermal.report.read import read_studies

    run = _run_folder(path)
    return write_report(read_studies([run]), run.parents[1] / "report")


def _run_folder(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.name == "1-test")


READERS = (
    Reader("boxes of Pascal VOC", voc_seeds, read_voc_placed),
    Reader("boxes of COCO", coco_seeds, read_coco_placed),
    Reader("masks of classes", mask_seeds, lambda path: read_mask(path, 4)),
    Reader("list of pairs", pair_seeds, read_pairs),
    Reader("labels of FLIR-IISR", label_seeds, read_labels),
    Reader("prompts", prompt_seeds, read_prompt),
    Reader("robustness.csv", level_seeds, read_curves),
    Reader("published tables", table_seeds, read_tables),
    Reader("sweep file", sweep_file_seeds, read_points),
    Reader("records of a sweep", sweep_seeds, read_sweep_of),
    Reader("records of a run", run_seeds, read_run_of),
)
"""Quick ones; a report takes a second and is in the long mode alone."""
REPORT = Reader("report", run_seeds, report_run_of)

WORDS = (
    *("NaN", "Infinity", "-Infinity", ".nan", ".inf", "1e308", "-1e308", "1e999", "9" * 5000, "-1", "0", "1e-320"),
    *("null", "true", "[]", "{}", '""', "[" * 500, "{" * 200, '{"a":' * 300, "\0", "\ud800", "\\ud800", "\\u0000"),
    *("\x1b[31m", "=1+1", "../../etc/passwd", "/etc/passwd", "&lol;", "<!DOCTYPE a>", "&x [*x]", "*x", "!!binary aGk="),
    *("2020-01-01", "\N{BYTE ORDER MARK}", "\r", "\n", '"', ",", ":", "'", "<", ">", "$", "%", "0x7f", "1_000"),
    "\N{ARABIC-INDIC DIGIT TWO}",
)
"""What is put in place of a word of the file."""
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[-+]?\d+(?:\.\d+)?|\w+|[^\w\s]')


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Damage a file once or a few times: as text where it is one, else as bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        try:
            text = data.decode("utf-8") if rng.random() < 0.85 else None
        except UnicodeDecodeError:
            text = None
        data = _damage_bytes(data, rng) if text is None else _damage_text(text, rng)
    return data


def _damage_text(text: str, rng: random.Random) -> bytes:
    tokens = [found.span() for found in TOKEN.finditer(text)]
    if not tokens:
        return rng.choice(WORDS).encode("utf-8", "surrogatepass")
    (start, stop), (start2, stop2) = sorted(rng.choices(tokens, k=2))
    match rng.randrange(8):
        case 0 | 1 | 2:
            text = text[:start] + rng.choice(WORDS) + text[stop:]
        case 3:
            text = text[:start] + text[stop:]
        case 4:
            text = text[:start] + text[start2:stop2] + text[stop:start2] + text[start:stop] + text[stop2:]
        case 5:  # a part twice: keys, lines, elements
            text = text[:stop2] + text[start:]
        case 6:
            lines = text.splitlines(keepends=True)
            number = rng.randrange(len(lines))
            text = "".join([*lines[:number], lines[number], *lines[number:]])
        case 7:
            return text.encode(rng.choice(("utf-16", "cp1252", "utf-32", "utf-8-sig", "latin-1")), "replace")
    return text.encode("utf-8", "surrogatepass")


def _damage_bytes(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\xff"
    at = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case 2:
            return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9))) + data[at:]
        case 3:
            return data[:at] + data[at + rng.randrange(1, 9) :]
    return data + data[at:]


def strange(reader: Reader, folder: Path, count: int, seed: int = 0) -> Iterator[str]:
    """Damage the files of a reader so often and read them; yields what else than `InputError` came of it."""
    files = reader.seeds(folder)
    whole = {path: path.read_bytes() for path in files}
    rng = random.Random(f"{reader.name} {seed}")
    for number in range(count):
        path = files[number % len(files)]
        data = mutated(whole[path], rng)
        path.write_bytes(data)
        started = time.perf_counter()
        try:
            reader.read(path)
        except InputError:
            pass
        except Exception as error:
            message = f"{type(error).__name__}: {error!s:.200}"
            yield f"{reader.name}, {path.name}, number {number}: {message}\n  {data[:400]!r}"
        finally:
            path.write_bytes(whole[path])
        if (seconds := time.perf_counter() - started) > 10:
            yield f"{reader.name}, {path.name}, number {number} took {seconds:.0f} s: {data[:400]!r}"
