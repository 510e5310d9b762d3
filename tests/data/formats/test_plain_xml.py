"""XML of others: no entities, no document types, nothing without end."""

import pytest

from lit_thermal.data.formats.objects import read_coco, read_voc
from lit_thermal.data.formats.plain_xml import read_xml
from lit_thermal.errors import InputError

BOMB = "<!DOCTYPE a [" + '<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        f"{BOMB}]><annotation>&a9;</annotation>",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
        '<!DOCTYPE annotation SYSTEM "http://localhost/a.dtd"><annotation/>',
    ],
)
def test_document_types_are_refused(tmp_path, text, encoding):
    (tmp_path / "a.xml").write_text(text, encoding=encoding)
    with pytest.raises(InputError, match="declares a document type"):
        read_xml(tmp_path / "a.xml", "replace it")


def test_deep_nesting_is_refused(tmp_path):
    (tmp_path / "a.xml").write_text("<a>" * 100_000)
    with pytest.raises(InputError, match="64 levels deep"):
        read_xml(tmp_path / "a.xml", "replace it")


@pytest.mark.parametrize("side", ["inf", "-Infinity", "nan", "1e308", "9" * 5000, "1e300", ""])
def test_boxes_that_are_none(tmp_path, side):
    box = f"<bndbox><xmin>0</xmin><ymin>0</ymin><xmax>{side}</xmax><ymax>5</ymax></bndbox>"
    (tmp_path / "a.xml").write_text(f"<annotation><object><name>x</name>{box}</object></annotation>")
    with pytest.raises(InputError, match=r"invalid box .*: correct it"):
        read_voc(tmp_path / "a.xml")


@pytest.mark.parametrize("side", ["inf", "nan", "1e308", "-5", "0"])
def test_a_size_that_is_none_is_taken_for_none(tmp_path, side):
    (tmp_path / "a.xml").write_text(f"<annotation><size><width>{side}</width><height>5</height></size></annotation>")
    assert read_voc(tmp_path / "a.xml").size is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[1, 2, 3, 4]", "[1, 2, Infinity, 4]", "Infinity in place of a number"),
        ("[1, 2, 3, 4]", "[1, 2, 1e308, 4]", "invalid box"),
        ("[1, 2, 3, 4]", "[1, 2, -3, 4]", "invalid box"),
        ("[1, 2, 3, 4]", "[1, 2, true, 4]", "invalid box"),
        ("[1, 2, 3, 4]", '[1, 2, "nan", 4]', "invalid box"),
        ('"height": 5', '"height": 0', r"images\[0\].height is 0"),
        ('"height": 5', '"height": "5"', r"images\[0\].height is '5'"),
        ('"image_id": 7', '"image_id": [7]', "not COCO's instances JSON"),
        ('"id": 7,', '"id": 7, "id": 7,', "the key 'id' twice"),
    ],
)
def test_lists_of_boxes_that_are_none(tmp_path, old, new, says):
    text = (
        '{"categories": [{"id": 1, "name": "x"}], "images": [{"id": 7, "file_name": "a.png", "height": 5, "width": 5}],'
        ' "annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}]}'
    )
    (tmp_path / "a.json").write_text(text)
    assert read_coco(tmp_path / "a.json")["a"].size == (5, 5)
    (tmp_path / "a.json").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=says):
        read_coco(tmp_path / "a.json")
