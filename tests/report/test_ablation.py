"""Verdicts, means and differences, against values worked out by hand."""

import math
from pathlib import Path
from typing import Any

import pytest

from lit_thermal.errors import InputError
from lit_thermal.evaluation.published import Number, Protocol, Table
from lit_thermal.evaluation.published import Row as PaperRow
from lit_thermal.evaluation.statistics import Interval
from lit_thermal.report.ablation import (
    ablations,
    compare,
    compare_with,
    difference_of,
    find,
    find_reference,
    mean_of,
    verdict,
)
from lit_thermal.report.read import Row, Run, Study

T_2 = 4.302652729911275
"""The 97.5 % quantile of Student's t with two degrees of freedom."""


def run(seed: int, values: dict[str, dict[str, dict[str, float]]], **record: Any) -> Run:
    return Run(Path("run"), seed, {"method": "Toy", **record}, values)


def row(name: str, *seeds: list[float], parameters: dict[str, Any] | None = None, dataset: str = "test") -> Row:
    runs = [
        run(seed, {dataset: {"psnr": {f"image{i}": v for i, v in enumerate(values)}}})
        for seed, values in enumerate(seeds)
        if values
    ]
    return Row(name, tuple(runs), parameters or {"block": name})


def table(rows: dict[str, list[str]], reference: str | None = "full", **more: Any) -> Table:
    columns = more.pop("columns", {"Set": ("psnr",)})
    paper_rows = []
    for name, texts in rows.items():
        given = iter(texts)
        values = {d: {m: _number(next(given)) for m in metrics} for d, metrics in columns.items()}
        paper_rows.append(PaperRow(name, values, {"block": name}))
    protocol = Protocol("own", "as in the paper", "gray", same_as=more.pop("same_as", None))
    return Table(
        "paper",
        "Theirs",
        "Theirs",
        "Table 1",
        "Parts left out",
        tuple(paper_rows),
        columns,
        protocol,
        "toy",
        reference,
        **more,
    )


def _number(text: str) -> Number:
    return Number(None if text == "-" else float(text), text)


@pytest.mark.parametrize(
    ("low", "high", "printed", "expected"),
    [
        (-2.0, -1.0, -0.5, "agrees"),
        (0.1, 0.2, 3.0, "agrees"),
        (-2.0, -1.0, 0.5, "disagrees"),
        (0.1, 0.2, -3.0, "disagrees"),
        (0.1, 0.2, 0.0, "disagrees"),
        (-0.1, 0.2, 3.0, "undecided"),
        (0.0, 0.2, 3.0, "undecided"),
        (-0.2, 0.0, -3.0, "undecided"),
        (-0.1, 0.2, 0.0, "undecided"),
        (-math.inf, math.inf, 1.0, "undecided"),
        (math.nan, math.nan, 1.0, "undecided"),
        (0.1, 0.2, None, "not printed"),
    ],
)
def test_verdict(low, high, printed, expected):
    assert verdict(Interval((low + high) / 2, low, high), printed) == expected


def test_nothing_of_ours_is_not_measured():
    assert verdict(None, 1.0) == "not measured"
    assert verdict(None, None) == "not printed"


def test_mean_of_one_seed_is_over_images():
    found = mean_of(row("a", [1.0, 2.0, 3.0]), "test", "psnr")
    assert found is not None and (found.seeds, found.images) == (1, 3)
    reach = T_2 / math.sqrt(3)
    assert found.interval == pytest.approx((2.0, 2.0 - reach, 2.0 + reach))
    assert mean_of(row("a", [1.0]), "other", "psnr") is None
    assert mean_of(Row("failed", ()), "test", "psnr") is None


def test_difference_is_of_common_images_and_seeds():
    ours = row("ours", [2.0, 4.0, 6.0, 9.0])
    theirs = row("theirs", [1.0, 2.0, 3.0])
    found = difference_of(ours, theirs, "test", "psnr")
    reach = T_2 / math.sqrt(3)
    assert found is not None and found.images == 3
    assert found.interval == pytest.approx((2.0, 2.0 - reach, 2.0 + reach))
    # seed 1 of the reference failed: seeds 0 and 2 remain, each with its own partner
    ours = row("ours", [1.0, 1.0], [50.0, 50.0], [3.0, 3.0])
    theirs = row("theirs", [0.0, 0.0], [], [2.0, 2.0])
    found = difference_of(ours, theirs, "test", "psnr")
    assert found is not None and (found.seeds, found.interval) == (2, (1.0, 1.0, 1.0))
    assert difference_of(ours, row("theirs", [], [1.0, 1.0], []), "test", "psnr").interval.mean == 49
    assert difference_of(row("a", [1.0]), row("b", [], [1.0]), "test", "psnr") is None


def test_beside_a_table():
    rows = (
        row("full", [30.0, 31.0, 32.0]),
        row("without mask", [29.0, 30.1, 30.9]),
        row("without prompt", [29.0, 31.0, 33.3]),
        row("of our own", [30.0, 31.0, 32.1]),
        row("failed", []),
    )
    published = table(
        {
            "without mask": ["19.86"],
            "without prompt": ["22.00"],
            "never run": ["1.0"],
            "failed": ["2.0"],
            "drawn": ["-"],
        }
        | {"full": ["21.37"]}
    )
    found = compare_with(Study("toy", rows), published, "test", "Set")
    lines = {line.name: line.cells["psnr"] for line in found.lines}
    assert list(lines) == ["without mask", "without prompt", "never run", "failed", "drawn", "full", "of our own"]
    assert lines["without mask"].ours.interval.mean == pytest.approx(30.0)
    assert lines["without mask"].difference.interval.mean == pytest.approx(-1.0)
    assert lines["without mask"].printed_difference == pytest.approx(-1.51)
    assert {name: cell.verdict for name, cell in lines.items()} == {
        "without mask": "agrees",
        "without prompt": "undecided",
        "never run": "not measured",
        "failed": "not measured",
        "drawn": "not printed",
        "full": "reference",
        "of our own": "not printed",
    }
    assert lines["of our own"].printed is None and lines["of our own"].difference is not None
    assert sorted(found.verdicts()) == ["agrees", "undecided"]


def test_a_table_without_a_reference_decides_nothing():
    found = compare_with(Study("toy", (row("a", [1.0, 2.0]),)), table({"a": ["3.0"]}, reference=None), "test", "Set")
    assert found.lines[0].cells["psnr"].verdict == "not printed" and found.lines[0].cells["psnr"].printed.value == 3.0


def test_which_sets_stand_beside_which():
    values = {
        name: {"psnr": {"a": 1.0, "b": 2.0}} for name in ("sim", "sim_thermal_only", "night", "night_thermal_only")
    }
    study = Study("toy", tuple(Row(n, (run(0, values),), {"block": n}) for n in ("full", "part")), "toy")
    assert study.bases() == ["sim", "night"]
    other = values | {"sim_night": {"psnr": {"c": 1.0}}}
    assert Study("toy", (Row("full", (run(0, other),)),)).bases() == ["sim", "night", "sim_night"], "other images"
    cells = {"full": ["1.0", "5.0", "2.0"], "part": ["1.0", "6.0", "2.0"]}
    columns = {"Set training": ("psnr",), "Set validation": ("epoch", "psnr")}
    pairs = [(a.dataset, a.printed_dataset) for a in ablations(study, [table(cells, columns=columns)])]
    assert pairs == [("sim", "Set validation"), ("night", "Set validation")]
    alone = table({"full": ["1.0"], "part": ["2.0"]}, condition="thermal_only")
    assert [a.dataset for a in ablations(study, [alone])] == ["sim_thermal_only", "night_thermal_only"]
    # ours by the name of one of theirs is compared with that one
    both = table({"full": ["1.0", "1.0"], "part": ["2.0", "2.0"]}, columns={"SIM": ("psnr",), "Other": ("psnr",)})
    pairs = [(a.dataset, a.printed_dataset) for a in ablations(study, [both])]
    assert pairs == [("sim", "SIM"), ("night", "SIM"), ("night", "Other")] or pairs[0] == ("sim", "SIM")
    assert [a.metrics for a in ablations(study, [table(cells, columns=columns)])] == [("psnr",)] * 2
    # nothing published: our rows alone
    assert [(a.dataset, a.table) for a in ablations(study, [])] == [("sim", None), ("night", None)]


def test_rows_alone_against_a_chosen_reference():
    study = Study("toy", (row("failed", []), row("a", [1.0, 2.0]), row("b", [2.0, 3.0])))
    found = compare(study, "test")
    assert found.reference == "a"
    assert [line.cells["psnr"].difference for line in found.lines[:2]] == [None, None]
    assert found.lines[2].cells["psnr"].difference.interval.mean == 1.0
    assert compare(study, "test", "b").reference == "b"
    with pytest.raises(InputError, match="no row 'c' in toy; it has a, b"):
        find_reference(study, "c")


def test_points_are_found_by_value():
    study = Study(
        "toy",
        (
            Row("zero", (), {"model.init_args.beta": 0}),
            Row("one", (), {"model.init_args.beta": 1}),
            Row("file", (), {"config": "experiments/rows/theris/full.yaml"}),
        ),
    )
    assert find(study, {"model.init_args.beta": 0.0}).name == "zero"
    assert find(study, {"model.init_args.beta": "1.0"}).name == "one"
    assert find(study, {"config": "rows/theris/full.yaml"}).name == "file"
    assert find(study, {"config": "rows/theris/other.yaml"}) is None
    assert find(study, None) is None


def test_ours_by_the_protocol_of_the_paper():
    values = {"test": {"psnr": {"a": 1.0, "b": 2.0}}}
    protocols = [{"test": {"Toy": {"trainer": {"psnr": v}}}} for v in (20.0, 21.0)]
    rows = (Row("full", tuple(run(n, values, protocols=p) for n, p in enumerate(protocols)), {"block": "full"}),)
    cell = (
        compare_with(Study("t", rows), table({"full": ["9"]}, same_as="trainer"), "test", "Set").lines[0].cells["psnr"]
    )
    assert cell.by_protocol == 20.5
    cell = (
        compare_with(Study("t", rows), table({"full": ["9"]}, same_as="notebook"), "test", "Set").lines[0].cells["psnr"]
    )
    assert cell.by_protocol is None
