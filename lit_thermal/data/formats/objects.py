"""What is to be found in an image, as annotation files say it: boxes with words, of Pascal VOC and of COCO."""

import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lit_thermal.data.formats.plain_xml import read_xml
from lit_thermal.errors import InputError, short
from lit_thermal.files import by_stem, replacing, same_name
from lit_thermal.plain_files import read_json
from lit_thermal.shapes import Number, check

LLVIP_CLASSES = ("person",)
"""Jia et al., "LLVIP: A Visible-infrared Paired Dataset for Low-light Vision", ICCV workshops 2021."""
M3FD_CLASSES = ("People", "Car", "Bus", "Motorcycle", "Lamp", "Truck")
"""Liu et al., "Target-aware Dual Adversarial Learning", CVPR 2022."""
_FAR = 10_000_000.0
"""Pixels beyond which no side of a box or of an image lies."""
_SIDE = Number(low=1, high=_FAR)
_COCO = {
    "categories": [{"id": object, "name": object}],
    "images": [{"id": object, "file_name": str, "height?": _SIDE, "width?": _SIDE}],
    "annotations": [{"image_id?": object, "category_id?": object, "bbox?": [object], "iscrowd?": object}],
}
"""The shape of COCO's JSON of instances, as far as it is read."""
BoxFormat = Literal["voc", "coco", "llvip", "m3fd"]
"""`llvip` and `m3fd` are Pascal VOC with the classes of these data sets."""
FORMAT_CLASSES = {"llvip": LLVIP_CLASSES, "m3fd": M3FD_CLASSES}
Change = Literal["resized", "cropped"]
"""How images came from those that were annotated: resized as a whole, or cut on their right and lower sides."""


class Objects(NamedTuple):
    """The objects of one image."""

    boxes: Tensor
    """(N, 4) float32: left, top, right, bottom in pixels; an object as wide as the image spans 0 to its width."""
    labels: tuple[str, ...]
    """N words."""
    size: tuple[int, int] | None = None
    """(height, width) of the image that was annotated, where the file tells."""


def read_voc(file: Path) -> Objects:
    """Read the annotation of one image in the XML of Pascal VOC; objects marked difficult are objects as others.

    Raises:
        InputError: the file is missing or no such XML, or an object has no name or no box.

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", 2010.
    """
    if not os.path.lexists(file):
        raise InputError(f"there is no annotation {file}")
    root = read_xml(file, "replace it or leave the image out")
    if root.tag != "annotation":
        raise InputError(f"{file} is XML of <{root.tag}>, not the <annotation> of Pascal VOC: give such files")
    labels, boxes = [], []
    for number, entry in enumerate(root.iter("object"), start=1):
        name, box = (entry.findtext("name") or "").strip(), entry.find("bndbox")
        if not name or box is None:
            raise InputError(f"object {number} in {file} has no {'<bndbox>' if name else '<name>'}: complete it")
        sides = [_number(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax")]
        boxes.append(_checked(sides, f"object {number} in {file}"))
        labels.append(name)
    sides = [_number(root.findtext(f"size/{side}")) for side in ("height", "width")]
    size = (int(sides[0]), int(sides[1])) if all(1 <= side <= _FAR for side in sides) else None
    return Objects(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), tuple(labels), size)


def read_coco(file: Path) -> dict[str, Objects]:
    """Read the instances of COCO's JSON: stem of each image's file name to its objects; crowds are left out.

    Raises:
        InputError: the file is missing or not of that kind, names two images alike, or has a box that is none.

    Source: Lin et al., "Microsoft COCO: Common Objects in Context", 2014.
    """
    if not os.path.lexists(file):
        raise InputError(f"there is no annotation {file}")
    record = read_json(file, "JSON", "give the instances of COCO", most=_LARGEST)
    found: dict[Any, tuple[str, tuple[int, int] | None, list[list[float]], list[str]]] = {}
    needs = "it needs images, categories and annotations with bbox, image_id and category_id"
    check(record, _COCO, f"{file} is not COCO's JSON of instances", needs)
    try:
        words = {category["id"]: str(category["name"]) for category in record["categories"]}
        for image in record["images"]:
            size = (int(image["height"]), int(image["width"])) if "height" in image and "width" in image else None
            if image["id"] in found:
                raise InputError(f"{file} has two images of the id {image['id']!r}: give each its own")
            found[image["id"]] = (same_name(Path(image["file_name"]).stem), size, [], [])
        for number, entry in enumerate(record["annotations"], start=1):
            if entry.get("iscrowd"):
                continue
            left, top, width, height = (_number(value) for value in entry["bbox"])
            _, _, boxes, labels = found[entry["image_id"]]
            boxes.append(_checked([left, top, left + width, top + height], f"annotation {number} in {file}"))
            labels.append(words[entry["category_id"]])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{file} is not COCO's JSON of instances ({type(error).__name__}: {short(error)}): {needs}"
        ) from error
    result = {
        name: Objects(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), tuple(labels), size)
        for name, size, boxes, labels in found.values()
    }
    if len(result) < len(found):
        raise InputError(f"{file} has {len(found) - len(result)} images of a name that another has: rename them")
    return result


def read_objects(source: Path, names: Sequence[str], form: BoxFormat | None = None) -> dict[str, Objects]:
    """Read the objects of images by their names.

    Args:
        source: folder with `<name>.xml` of Pascal VOC, as `Annotations` of LLVIP or `Annotation` of M3FD, or a JSON
            file of COCO.
        names: of the images.
        form: of the annotation; None: VOC in a folder, COCO in a file.

    Raises:
        InputError: the source is absent or of another form, has no annotation of an image, or a word that its data
            set does not have.
    """
    coco = source.is_file()
    if form is not None and coco != (form == "coco"):
        kind = "a file" if coco else "a folder"
        wanted = "a JSON file" if form == "coco" else "a folder of XML files"
        raise InputError(f"boxes of the form {form} are {wanted}, and {source} is {kind}")
    if coco:
        known = read_coco(source)
        lacking = [name for name in names if same_name(name) not in known]
        if lacking:
            raise InputError(f"{source} has no image {lacking[0]}{_more(lacking)}: leave out or annotate it")
        return {name: known[same_name(name)] for name in names}
    if not source.is_dir():
        raise InputError(f"there is no folder {source} with XML of Pascal VOC, nor such a file of COCO")
    files = by_stem((path for path in source.iterdir() if path.suffix == ".xml" and path.is_file()), source)
    lacking = [name for name in names if same_name(name) not in files]
    if lacking:
        raise InputError(f"{source} has no {lacking[0]}.xml{_more(lacking)}: leave out or annotate these images")
    result = {name: read_voc(files[same_name(name)]) for name in names}
    classes = FORMAT_CLASSES.get(form or "")
    for name, objects in result.items() if classes else ():
        strange = [word for word in objects.labels if word not in (classes or ())]
        if strange:
            raise InputError(
                f"{source / name}.xml has a {strange[0]!r}, and {form} has {', '.join(classes or ())}: give the form "
                "voc, which takes any words"
            )
    return result


def place_objects(objects: Objects, size: tuple[int, int], change: Change | None, name: str) -> Objects:
    """Bring boxes to an image of another size than the annotated one; what is cut off is dropped.

    Args:
        objects: with the size that was annotated; where the file did not tell it, it is taken for `size`.
        size: (height, width) of the image.
        change: how the image came from the annotated one; None: it must not have changed.
        name: of the image, for the sentence.

    Raises:
        InputError: the sizes differ and nobody said why, or in a way that `change` does not explain.
    """
    given = objects.size or size
    boxes = objects.boxes
    if given != size:
        told = f"{name} is {size[1]}x{size[0]} and its annotation of {given[1]}x{given[0]}"
        if change is None:
            raise InputError(f"{told}: say by --change whether the images were resized or cropped")
        if change == "cropped" and (size[0] > given[0] or size[1] > given[1]):
            raise InputError(f"{told}, so that it was not cropped: give images of the annotated scenes")
        if change == "resized":
            ratio = torch.tensor([size[1] / given[1], size[0] / given[0]], dtype=torch.float32)
            if abs(float(ratio[0] / ratio[1]) - 1) > ASPECT_TOLERANCE:
                raise InputError(f"{told}, which is no plain resizing: give images of the annotated scenes")
            boxes = boxes * ratio.repeat(2)
    limit = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32)
    boxes = torch.minimum(boxes.clamp(min=0), limit)
    seen = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    labels = tuple(word for word, kept in zip(objects.labels, seen.tolist(), strict=True) if kept)
    return Objects(boxes[seen], labels, size)


ASPECT_TOLERANCE = 0.02
"""By what share the ratio of the sides may change in a resizing: small sides are rounded."""


def write_voc(file: Path, objects: Objects, image: str) -> None:
    """Write the annotation of one image in the XML of Pascal VOC; `objects.size` must be known."""
    if objects.size is None:
        raise InputError(f"the annotation {file} needs the size of its image")
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = image
    size = ET.SubElement(root, "size")
    for side, length in (("width", objects.size[1]), ("height", objects.size[0]), ("depth", 1)):
        ET.SubElement(size, side).text = str(length)
    for label, box in zip(objects.labels, objects.boxes.tolist(), strict=True):
        entry = ET.SubElement(root, "object")
        ET.SubElement(entry, "name").text = label
        bounds = ET.SubElement(entry, "bndbox")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ET.SubElement(bounds, side).text = f"{value:g}"
    ET.indent(root)
    with replacing(file) as aside:
        ET.ElementTree(root).write(aside, encoding="utf-8")


_LARGEST = 2 << 30
"""Bytes of a list of boxes: COCO's own have half a gigabyte."""


def _number(text: Any) -> float:
    if isinstance(text, bool):
        return math.nan
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _checked(sides: list[float], where: str) -> list[float]:
    left, top, right, bottom = sides
    if not (right > left and bottom > top) or not all(abs(side) <= _FAR for side in sides):
        raise InputError(f"{where} has the box {left:g}, {top:g}, {right:g}, {bottom:g}, which is none: correct it")
    return sides


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
