"""Boxes out of Pascal VOC and COCO, and their way to images of another size."""

import json

import pytest
import torch

from lit_thermal.data.formats.objects import Objects, place_objects, read_coco, read_objects, read_voc, write_voc
from lit_thermal.errors import InputError

LLVIP = """<annotation>
  <folder>Annotations</folder><filename>010001.jpg</filename>
  <size><width>1280</width><height>1024</height><depth>3</depth></size>
  <object><name>person</name><pose>Unspecified</pose><difficult>0</difficult>
    <bndbox><xmin>10</xmin><ymin>20</ymin><xmax>110</xmax><ymax>220</ymax></bndbox></object>
  <object><name>person</name>
    <bndbox><xmin>300.5</xmin><ymin>20</ymin><xmax>340</xmax><ymax>120</ymax></bndbox></object>
</annotation>"""


def test_voc(tmp_path):
    (tmp_path / "010001.xml").write_text(LLVIP)
    found = read_voc(tmp_path / "010001.xml")
    assert found.labels == ("person", "person")
    assert found.size == (1024, 1280)
    assert found.boxes.tolist() == [[10, 20, 110, 220], [300.5, 20, 340, 120]]
    assert read_objects(tmp_path, ["010001"], "llvip")["010001"].labels == found.labels


def test_voc_of_an_empty_image_and_without_a_size(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation><size><width>0</width><height>0</height></size></annotation>")
    found = read_voc(tmp_path / "a.xml")
    assert found.boxes.shape == (0, 4)
    assert found.labels == ()
    assert found.size is None


def test_what_is_written_is_read(tmp_path):
    objects = Objects(torch.tensor([[1.0, 2.5, 30, 40]]), ("hot object",), (48, 64))
    write_voc(tmp_path / "x.xml", objects, "x.png")
    again = read_voc(tmp_path / "x.xml")
    assert again.labels == objects.labels
    assert again.size == objects.size
    assert torch.equal(again.boxes, objects.boxes)
    assert [path.name for path in tmp_path.iterdir()] == ["x.xml"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<annotation><object>", "cannot be read as XML"),
        ("<svg></svg>", "has the root <svg>"),
        ("<annotation><object><name>a</name></object></annotation>", "no <bndbox>"),
        ("<annotation><object><bndbox></bndbox></object></annotation>", "no <name>"),
        (LLVIP.replace("<xmax>110</xmax>", "<xmax>9</xmax>"), "object 1 .* has the invalid box 10, 20, 9, 220"),
        (LLVIP.replace("<ymax>120</ymax>", "<ymax>low</ymax>"), "object 2 .* nan"),
    ],
)
def test_wrong_voc(tmp_path, text, says):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(InputError, match=says):
        read_voc(tmp_path / "a.xml")


def test_sources_that_are_none(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_objects(tmp_path / "absent", ["a"])
    (tmp_path / "a.xml").write_text(LLVIP)
    with pytest.raises(InputError, match=r"has no b, c"):
        read_objects(tmp_path, ["a", "b", "c"])
    with pytest.raises(InputError, match="coco are a JSON file"):
        read_objects(tmp_path, ["a"], "coco")
    with pytest.raises(InputError, match="'person', but m3fd has only People"):
        read_objects(tmp_path, ["a"], "m3fd")


COCO = {
    "images": [{"id": 7, "file_name": "sub/one.png", "height": 100, "width": 200}, {"id": 9, "file_name": "two.png"}],
    "categories": [{"id": 3, "name": "car"}],
    "annotations": [
        {"image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40]},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 100, 100], "iscrowd": 1},
    ],
}


def test_coco(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(COCO))
    found = read_objects(tmp_path / "a.json", ["one", "two"])
    assert found["one"].boxes.tolist() == [[10, 20, 40, 60]]
    assert found["one"].labels == ("car",)
    assert found["one"].size == (100, 200)
    assert found["two"].labels == ()
    with pytest.raises(InputError, match="has no three: leave"):
        read_objects(tmp_path / "a.json", ["one", "three"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"categories": []}, "not COCO's instances JSON"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}]}, "not COCO's instances JSON"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 0, 5]}]}, "annotation 1"),
        ({"images": [{"id": 7, "file_name": "a/x.png"}, {"id": 8, "file_name": "b/x.png"}], "annotations": []}, "name"),
    ],
)
def test_wrong_coco(tmp_path, change, says):
    (tmp_path / "a.json").write_text(json.dumps(COCO | change))
    with pytest.raises(InputError, match=says):
        read_coco(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(InputError, match="read as JSON"):
        read_coco(tmp_path / "b.json")


def test_boxes_follow_their_image():
    objects = Objects(torch.tensor([[100.0, 200, 300, 400], [1100, 900, 1300, 1024]]), ("a", "b"), (1024, 1280))
    same = place_objects(objects, (1024, 1280), None, "x")
    assert same.boxes.tolist() == [[100, 200, 300, 400], [1100, 900, 1280, 1024]]
    half = place_objects(objects, (512, 640), "resized", "x")
    assert half.boxes[0].tolist() == [50, 100, 150, 200]
    cut = place_objects(objects, (1000, 1000), "cropped", "x")
    assert cut.labels == ("a",)
    assert cut.boxes.tolist() == [[100, 200, 300, 400]]
    with pytest.raises(InputError, match="--change"):
        place_objects(objects, (512, 640), None, "x")
    with pytest.raises(InputError, match="changes the aspect ratio"):
        place_objects(objects, (640, 640), "resized", "x")
    with pytest.raises(InputError, match="not cropped"):
        place_objects(objects, (2048, 640), "cropped", "x")
