"""Every published number stands in its paper, in its own table, and each swept row names what reproduces it."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest
import yaml

from lit_thermal.errors import InputError
from lit_thermal.evaluation.protocols import protocols_by_name
from lit_thermal.evaluation.published import method_title, tables, tables_of_sweep
from lit_thermal.evaluation.published.tables import FOLDER, PAPERS, read_tables
from lit_thermal.metrics.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
TEXTS = ROOT.parent / "shared" / "papers"
SWEEPS = {
    "theris_ablation",
    "corefusion_beta",
    "difiisr_guidance",
    "difiisr_combination",
    "3m_ti_components",
    "3m_ti_attention",
    "real_iisr_components",
    "real_iisr_baseline",
}
"""The sweeps that the papers have a table of; `theris_sensitivity` is in no paper."""
SHAPES = {
    "corefusion": {
        "Table 1": (5, 5),
        "Table 2": (5, 2),
        "Table 3": (5, 2),
        "Figure 3": (2, 2),
        "Figure 4": (2, 2),
        "Section 4": (2, 1),
        "Section 5": (2, 1),
    },
    "difiisr": {
        "Table 1": (14, 6),
        "Table 2": (4, 9),
        "Table 3": (4, 4),
        "Table 4, perceptual base": (3, 4),
        "Table 4, visual base": (3, 4),
        "Figure 6": (1, 2),
        "Figure 6, improvements": (1, 4),
    },
    "real_iisr": {
        "Table 1": (12, 8),
        "Table 2": (5, 12),
        "Figure 4": (2, 3),
        "Figure 7": (4, 6),
        "Figure 9": (2, 3),
    },
    "theris": {"Main results": (4, 4), "Ablation study": (4, 3), "Downstream detection": (5, 1)},
    "three_m_ti": {
        "Table 1": (12, 5),
        "Table 2": (6, 2),
        "Table 3": (5, 4),
        "Table 4, components": (5, 4),
        "Table 4, attention": (4, 4),
    },
}
"""Rows and columns of each table of each paper."""
CHECKED = "\\checkmark"
NAMES = {
    "CoRPLE": "CoRPL",
    "DifIISR": "Dif",
    "Real-IISR": "Ours",
    "3M-TI w/o Augment": "Ours w/o Augment",
    "3M-TI w/ Augment": "Ours w/ Augment",
    "Neither": "-\t-",
    "Visual": f"{CHECKED}\t-",
    "Perceptual": f"-\t{CHECKED}",
    "Both": f"{CHECKED}\t{CHECKED}",
    "+ Visual ΣL": "+ Visual\t\\sum",
    "+ Visual ∇L": "+ Visual\t abla",
    "+ Task ΣL": "+ Task\t\\sum",
    "+ Task ∇L": "+ Task\t abla",
}
"""What the text of the paper has for a row's name, where it is spelt otherwise or made of signs."""
REGIONS = {
    "corefusion": {
        "Section 4": ("ReLU produced favourable outcomes", "The best results were observed"),
        "Section 5": ("As observed in the results", "This indicates that"),
    },
    "difiisr": {
        "Figure 6, improvements": (
            "5.4. Experiments on Infrared Object Detection",
            "Qualitative Comparison. The figure 5",
        ),
    },
    "real_iisr": {
        "Figure 4": ("4.4. Efficiency Analysis", "4.5. Ablation Study"),
        "Figure 9": ("Choice of Generation Baseline.", "5. Conclusion"),
    },
    "theris": {
        "Main results": ("Main Results", "THERIS outperforms others"),
        "Ablation study": ("Ablation Study", "Downstream IR object detection"),
        "Downstream detection": ("Downstream IR object detection", "Key Findings"),
    },
}
"""Between which words the numbers of a table stand, where no caption "Table n." ends it."""

ALL = [pytest.param(table, id=f"{table.paper}-{table.number}") for table in tables()]
SWEPT = [param for param in ALL if param.values[0].sweep]


def text_of(paper):
    name = "theris_summary" if paper == "theris" else paper
    file = TEXTS / f"{name}.txt"
    if not file.is_file():
        pytest.skip(f"the text of the paper is not there: {file.name}")
    text = re.sub(r"\*\*|</?u>|\$|(?<=\d)%", "", file.read_text(encoding="utf-8"))
    return re.sub(r"\s*\\pm\s*", "±", text)


def region(table):
    """The lines of the paper that hold this table."""
    text = text_of(table.paper)
    first, last = REGIONS[table.paper].get(table.number, (None, None)) if table.paper in REGIONS else (None, None)
    if first:
        start = text.index(first)
        return text[start : text.index(last, start)].splitlines()
    lines = text.splitlines()
    caption = next(n for n, line in enumerate(lines) if line.startswith(f"{table.number.split(',')[0]}. "))
    # A caption stands below its table, which is an unbroken run of lines of a table.
    is_row = [line.startswith("|") or "\t" in line for line in lines]
    end = next(n for n in range(caption - 1, 0, -1) if is_row[n])
    start = next(n for n in range(end, 0, -1) if not is_row[n - 1])
    return lines[start : end + 1]


def printed(values):
    return [number.text for number in values if number.value is not None]


def flat(row):
    return [number for metrics in row.values.values() for number in metrics.values()]


def in_order(texts, line):
    """Whether the numbers stand in this line one after the other, with no other number between."""
    numbers = re.findall(r"(?<![\w.@'-])\d+(?:\.\d+)?(?:±\d+)?(?![\w.]*\])", line)
    return any(numbers[n : n + len(texts)] == texts for n in range(len(numbers)))


def test_the_papers_have_these_tables():
    found = {paper: {t.number: (len(t.rows), len(flat(t.rows[0]))) for t in tables(paper)} for paper in PAPERS}
    assert found == SHAPES


def in_order_of(words, line):
    return re.search(".*".join(map(re.escape, words)), line) is not None


@pytest.mark.parametrize("table", ALL)
def test_each_number_stands_in_the_papers_table(table):
    if not any(printed(flat(row)) for row in table.rows):
        assert table.number.startswith("Figure"), "only figures draw without printing"
        return
    words = " ".join(region(table))
    for row in table.rows:
        for text in printed(flat(row)):
            assert re.search(rf"(?<![\d.]){re.escape(text)}(?!\d|\.\d)", words), (row.name, text)


@pytest.mark.parametrize("table", [p for p in ALL if "Table" in p.id or "theris" in p.id])
def test_each_row_stands_in_its_line_of_the_paper(table):
    lines = region(table)
    for row in table.rows:
        by_dataset = printed(flat(row))
        by_metric = [
            values[metric.name].text
            for metric in table.metrics
            for values in row.values.values()
            if metric.name in values
        ]
        named = [line for line in lines if NAMES.get(row.name, row.name).removeprefix("β = ") in line]
        if any(in_order(by_dataset, line) or in_order(by_metric, line) for line in named):
            continue
        # The paper has the methods in columns: a line is one metric of all data sets and methods.
        assert any(in_order_of([r.name for r in table.rows], line) for line in lines), row.name
        for metric in table.metrics:
            across = [r.values[dataset][metric.name].text for dataset in table.datasets for r in table.rows]
            assert any(in_order(across, line) for line in lines), (row.name, metric.name)


@pytest.mark.parametrize("table", ALL)
def test_values_are_what_is_printed(table):
    for number in (number for row in table.rows for number in flat(row)):
        if number.value is None:
            assert number.text == "-"
        else:
            assert number.value == float(number.text.split("±")[0])
    assert all(
        set(table.columns[dataset]) == set(values) for row in table.rows for dataset, values in row.values.items()
    )
    assert table.protocol.text and table.protocol.channel
    assert {metric.name for metric in table.metrics} <= set(CATALOGUE)
    same = table.protocol.same_as
    assert same is None or [protocol.name for protocol in protocols_by_name([same])] == [same]


@pytest.mark.parametrize("table", SWEPT)
def test_each_swept_row_names_what_reproduces_it(table):
    assert table.sweep in SWEEPS
    assert table.reference in [row.name for row in table.rows]
    swept = yaml.safe_load((ROOT / "sweeps" / f"{table.sweep}.yaml").read_text(encoding="utf-8"))["parameters"]
    for row in table.rows:
        assert set(row.point) == set(swept)
        for name, value in row.point.items():
            assert value in swept[name]["values"]
            assert name != "config" or (ROOT / value).is_file()
    points = [tuple(row.point.items()) for row in table.rows]
    assert len(set(points)) == len(points)


def test_each_swept_table_has_its_sweep():
    assert {table.sweep for table in tables()} == SWEEPS | {None}
    for stem in SWEEPS:
        assert [table.sweep for table in tables_of_sweep(stem)] == [stem] * len(tables_of_sweep(stem)) != []
    assert tables_of_sweep("theris_sensitivity") == []


def test_facts_printed_beside_the_tables():
    corefusion = {table.number: table for table in tables("corefusion")}
    assert [corefusion[n].condition for n in ("Table 1", "Table 2", "Table 3")] == [None, "thermal_only", "guide_only"]
    assert "first 10" in corefusion["Table 2"].protocol.text
    assert all("1.3219" in t.protocol.channel for t in tables("three_m_ti") if t.protocol.name == "quality")
    assert all("summary" in f"{t.protocol.text} {t.protocol.notes}" for t in tables("theris"))
    components, attention = tables_of_sweep("3m_ti_components")[0], tables_of_sweep("3m_ti_attention")[0]
    assert components.row("w/ All (w/ CSM)") == attention.row("w/ All (w/ CSM)")
    speed = next(t for t in tables("real_iisr") if t.number == "Figure 4").row("Real-IISR").values["images not named"]
    assert (speed["fps"].value, speed["parameters"].value, speed["musiq"].value) == (2.45, 1144.6, None)


def test_each_paper_names_its_method():
    for table in tables():
        assert hasattr(importlib.import_module(f"lit_thermal.methods.{table.paper}.module"), table.method)
    assert method_title("ThreeMTI") == "3M-TI"
    assert method_title("MadeUp") == "MadeUp"


def test_tables_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tables("theris")[0].caption = "other"


def test_an_unknown_paper_or_row_is_reported_with_the_known_ones():
    with pytest.raises(InputError, match="'esrgan'; there are those of corefusion, difiisr"):
        tables("esrgan")
    with pytest.raises(InputError, match="Ablation study of theris has no row 'w/o All'; it has 'w/o Spectral Mask'"):
        tables_of_sweep("theris_ablation")[0].row("w/o All")


CHANGES = {
    "caption": (lambda t: t | {"title": t.pop("caption")}, "table 'Ablation study': the key 'title' is unknown; known"),
    "missing": (lambda t: {k: v for k, v in t.items() if k != "columns"}, "the key 'columns' is missing"),
    "protocol": (
        lambda t: t | {"protocol": "theirs"},
        "protocol 'theirs' is none of the file's, which are detection, summary",
    ),
    "metric": (lambda t: t | {"columns": {"IRVAL": ["psnr", "ssim", "quality"]}}, "columns: 'quality' is not a metric"),
    "reference": (lambda t: t | {"reference": "All"}, "reference 'All' is none of the rows 'w/o Spectral Mask'"),
    "count": (
        lambda t: t | {"columns": {"IRVAL": ["psnr", "ssim"]}},
        "row 'w/o Spectral Mask': there are 3 values for 2",
    ),
    "double": (lambda t: t | {"rows": [t["rows"][0]] * 2, "reference": None}, "two rows have the same name"),
    "point": (lambda t: t | {"rows": [{**t["rows"][3], "point": None}]}, "needs the point of every row"),
    "value": (lambda t: t | {"rows": [{**t["rows"][3], "values": "21,3 - -"}]}, "'21,3' is not a number; write '-' if"),
    "number": (lambda t: t | {"rows": [{**t["rows"][3], "values": 21.30}]}, "values must be text, or zeros at the end"),
    "row": (lambda t: t | {"rows": ["Full"]}, "row 'Full': a mapping with the keys name, values is needed, not 'Full'"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_entry_is_reported_with_file_and_place(change, tmp_path):
    content = yaml.safe_load((FOLDER / "theris.yaml").read_text(encoding="utf-8"))
    edit, message = CHANGES[change]
    content["tables"] = [edit(dict(content["tables"][1]))]
    file = tmp_path / "theris.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_tables(file)
    assert str(file) in str(caught.value) and message in str(caught.value)


def test_a_file_that_is_no_paper_is_reported(tmp_path):
    file = tmp_path / "paper.yaml"
    with pytest.raises(InputError, match="does not exist"):
        read_tables(file)
    file.write_text("a: [", encoding="utf-8")
    with pytest.raises(InputError, match="not YAML"):
        read_tables(file)
    file.write_text("- table", encoding="utf-8")
    with pytest.raises(InputError, match="a mapping with the keys class, protocols, tables, title is needed"):
        read_tables(file)
    file.write_text("{title: t, class: T, protocols: {p: {text: t}}, tables: []}", encoding="utf-8")
    with pytest.raises(InputError, match="protocol 'p': the key 'channel' is missing"):
        read_tables(file)
