"""Object annotations of images: boxes with class names, in the formats of Pascal VOC and COCO."""

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
"""Largest valid coordinate or size in pixels."""
_SIDE = Number(low=1, high=_FAR)
_COCO = {
    "categories": [{"id": object, "name": object}],
    "images": [{"id": object, "file_name": str, "height?": _SIDE, "width?": _SIDE}],
    "annotations": [{"image_id?": object, "category_id?": object, "bbox?": [object], "iscrowd?": object}],
}
"""Structure of the keys that are read from COCO's instances JSON."""
BoxFormat = Literal["voc", "coco", "llvip", "m3fd"]
"""`llvip` and `m3fd` are Pascal VOC with the classes of these data sets only."""
FORMAT_CLASSES = {"llvip": LLVIP_CLASSES, "m3fd": M3FD_CLASSES}
Change = Literal["resized", "cropped"]
"""Relation of images to the annotated ones: resized, or cropped at the right and lower edges."""


class Objects(NamedTuple):
    """The annotated objects of one image."""

    boxes: Tensor
    """(N, 4) float32: left, top, right, bottom in pixels; a box over the whole width has left 0 and right = width."""
    labels: tuple[str, ...]
    """N class names."""
    size: tuple[int, int] | None = None
    """Height and width of the annotated image, if the file states them."""


def read_voc(file: Path) -> Objects:
    """Read the Pascal VOC annotation of one image; objects marked as difficult are included.

    Raises:
        InputError: the file is missing or not Pascal VOC XML, or an object has no name or no valid box.

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", 2010.
    """
    if not os.path.lexists(file):
        raise InputError(f"annotation file {file} does not exist")
    root = read_xml(file, "replace it or leave the image out")
    if root.tag != "annotation":
        raise InputError(f"{file} has the root <{root.tag}> instead of <annotation>: give Pascal VOC files")
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
    """Read COCO's instances JSON, without crowds, to a mapping from the stem of each image's file name to its objects.

    Raises:
        InputError: the file is missing or not in this format, two images have the same name, or a box is invalid.

    Source: Lin et al., "Microsoft COCO: Common Objects in Context", 2014.
    """
    if not os.path.lexists(file):
        raise InputError(f"annotation file {file} does not exist")
    record = read_json(file, "JSON", "give COCO's instances JSON", most=_LARGEST)
    found: dict[Any, tuple[str, tuple[int, int] | None, list[list[float]], list[str]]] = {}
    needs = "it needs images, categories and annotations with bbox, image_id and category_id"
    check(record, _COCO, f"{file} is not COCO's instances JSON", needs)
    try:
        words = {category["id"]: str(category["name"]) for category in record["categories"]}
        for image in record["images"]:
            size = (int(image["height"]), int(image["width"])) if "height" in image and "width" in image else None
            if image["id"] in found:
                raise InputError(f"{file} has two images with the id {image['id']!r}: use unique ids")
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
            f"{file} is not COCO's instances JSON ({type(error).__name__}: {short(error)}): {needs}"
        ) from error
    result = {
        name: Objects(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), tuple(labels), size)
        for name, size, boxes, labels in found.values()
    }
    if len(result) < len(found):
        raise InputError(f"{file} has {len(found) - len(result)} images with the name of another image: rename them")
    return result


def read_objects(source: Path, names: Sequence[str], form: BoxFormat | None = None) -> dict[str, Objects]:
    """Read the objects of each image by the image's name.

    Args:
        source: folder with a Pascal VOC file `<name>.xml` per image, such as `Annotations` of LLVIP or `Annotation` of
            M3FD, or a COCO JSON file.
        names: names of the images.
        form: format of the annotation; by default VOC for a folder and COCO for a file.

    Raises:
        InputError: the source does not exist or has another format, an image has no annotation, or a class name is not
            one of the data set.
    """
    coco = source.is_file()
    if form is not None and coco != (form == "coco"):
        kind = "a file" if coco else "a folder"
        wanted = "a JSON file" if form == "coco" else "a folder of XML files"
        raise InputError(f"boxes of form {form} are {wanted}, but {source} is {kind}")
    if coco:
        known = read_coco(source)
        lacking = [name for name in names if same_name(name) not in known]
        if lacking:
            raise InputError(
                f"{source} has no image {lacking[0]}{_more(lacking)}: leave these images out or annotate them"
            )
        return {name: known[same_name(name)] for name in names}
    if not source.is_dir():
        raise InputError(f"{source} does not exist: give a folder of Pascal VOC XML files or a COCO JSON file")
    files = by_stem((path for path in source.iterdir() if path.suffix == ".xml" and path.is_file()), source)
    lacking = [name for name in names if same_name(name) not in files]
    if lacking:
        raise InputError(f"{source} has no {lacking[0]}.xml{_more(lacking)}: leave these images out or annotate them")
    result = {name: read_voc(files[same_name(name)]) for name in names}
    classes = FORMAT_CLASSES.get(form or "")
    for name, objects in result.items() if classes else ():
        strange = [word for word in objects.labels if word not in (classes or ())]
        if strange:
            raise InputError(
                f"{source / name}.xml has the class {strange[0]!r}, but {form} has only {', '.join(classes or ())}: "
                "use the form voc, which accepts any class"
            )
    return result


def place_objects(objects: Objects, size: tuple[int, int], change: Change | None, name: str) -> Objects:
    """Fit boxes to an image of another size than the annotated one; parts outside the image are cut off.

    Args:
        objects: objects with the size of the annotated image; if it is unknown, it is assumed to be `size`.
        size: height and width of the image.
        change: change that made the image from the annotated one; None if there was none.
        name: name of the image for the error message.

    Raises:
        InputError: the sizes differ without a given `change`, or in a way that `change` does not explain.
    """
    given = objects.size or size
    boxes = objects.boxes
    if given != size:
        sizes = f"{name} is {size[1]}x{size[0]} and its annotation is for {given[1]}x{given[0]}"
        if change is None:
            raise InputError(f"{sizes}: use --change to state whether the images were resized or cropped")
        if change == "cropped" and (size[0] > given[0] or size[1] > given[1]):
            raise InputError(f"{sizes}, so it was not cropped: give images of the annotated scenes")
        if change == "resized":
            ratio = torch.tensor([size[1] / given[1], size[0] / given[0]], dtype=torch.float32)
            if abs(float(ratio[0] / ratio[1]) - 1) > ASPECT_TOLERANCE:
                raise InputError(f"{sizes}, which changes the aspect ratio: give images of the annotated scenes")
            boxes = boxes * ratio.repeat(2)
    limit = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32)
    boxes = torch.minimum(boxes.clamp(min=0), limit)
    inside = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    labels = tuple(word for word, kept in zip(objects.labels, inside.tolist(), strict=True) if kept)
    return Objects(boxes[inside], labels, size)


ASPECT_TOLERANCE = 0.02
"""Largest relative change of the aspect ratio in a resizing, because sides are rounded."""


def write_voc(file: Path, objects: Objects, image: str) -> None:
    """Write the Pascal VOC annotation of one image; `objects.size` must be known."""
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
"""Largest size of an annotation file in bytes; COCO's own have half a gigabyte."""


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
        raise InputError(f"{where} has the invalid box {left:g}, {top:g}, {right:g}, {bottom:g}: correct it")
    return sides


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
