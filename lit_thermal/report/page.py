"""A report as one self-contained page; the same input gives the same bytes."""

import base64
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
from markupsafe import Markup

import lit_thermal
from lit_thermal.errors import reading
from lit_thermal.evaluation.published import Protocol, Table, method_title, tables_of_sweep
from lit_thermal.files import write_text
from lit_thermal.metrics.catalogue import shown
from lit_thermal.plain_files import printable
from lit_thermal.report import figures, sheets
from lit_thermal.report.ablation import Ablation, ablations, find, find_reference
from lit_thermal.report.drawing import Figure
from lit_thermal.report.gallery import Scene, profile_keys, scenes
from lit_thermal.report.pictures import gradient
from lit_thermal.report.read import Row, Study
from lit_thermal.report.sheet import Sheet, SheetRow
from lit_thermal.report.words import letters, listed, plural

INDEX = "index.html"
TABLES = "tables"
_LONGEST_STEM = 120
"""Longest stem of a table's files, in letters."""


@dataclass(frozen=True)
class Options:
    """Options of a report.

    Args:
        reference: row that the others are compared with, if no published table names one.
        pictures: number of scenes in the gallery of each study.
        line: image row of the gray-value profiles (default: where the reference has its largest error).
    """

    reference: str | None = None
    pictures: int = 4
    line: int | None = None


@dataclass(frozen=True)
class Block:
    """A table with its heading, protocol and figures."""

    ident: str
    title: str
    sheet: Sheet
    ablation: Ablation | None = None
    tally: tuple[tuple[str, int], ...] = ()
    """Number of rows with each verdict."""
    lacking: str = ""
    """Metrics that the paper prints but our runs did not measure."""
    protocol: Protocol | None = None
    ours: str = ""
    """Description of our protocol."""
    figures: tuple[Figure, ...] = ()

    @property
    def by_protocol(self) -> bool:
        """Whether our results were also measured under the paper's protocol."""
        lines = self.ablation.lines if self.ablation else ()
        return any(cell.by_protocol is not None for line in lines for cell in line.cells.values())


@dataclass(frozen=True)
class Section:
    """One study in the page."""

    ident: str
    title: str
    facts: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]
    others: tuple[Block, ...]
    """Blocks of further test sets, which are folded."""
    cost: Block | None
    measurements: tuple[Block, ...]
    figures: tuple[Figure, ...]
    scenes: tuple[Scene, ...]
    about: str


def write_report(studies: Sequence[Study], out: Path, options: Options = Options()) -> Path:
    """Write `index.html`, and its tables as CSV and LaTeX; each file appears whole or not at all.

    Returns:
        Path of the page.

    Raises:
        InputError: the folder cannot be written, or an option fits no study.
    """
    stems = [sheets.slug(study.stem or "runs") or "runs" for study in studies]
    sections = []
    for number, (study, stem) in enumerate(zip(studies, stems, strict=True), start=1):
        where = study.runs[0].folder if study.stem is None else study.runs[0].folder.parents[1]
        with reading(where, "a tested run or a sweep", "run `test` again"):
            found = section(study, f"s{number}", options, stem if stems.count(stem) == 1 else f"{stem}-{number}")
        sections.append(found)
    sections = _named_apart(sections)
    # The page first, so that a full disk does not leave tables without their page.
    write_text(out / INDEX, render(sections))
    for part in sections:
        for block in blocks_of(part):
            write_text(out / TABLES / f"{block.sheet.stem}.csv", printable(block.sheet.as_csv()))
            write_text(out / TABLES / f"{block.sheet.stem}.tex", printable(block.sheet.as_latex()))
    return out / INDEX


def _named_apart(sections: Sequence[Section]) -> list[Section]:
    """Return the sections with unique file names for tables; titles may differ only in characters not in file names."""
    taken: set[str] = set()

    def apart(block: Block) -> Block:
        stem, number = block.sheet.stem[:_LONGEST_STEM], 1
        while (own := stem if number == 1 else f"{stem}-{number}") in taken:
            number += 1
        taken.add(own)
        return replace(block, sheet=replace(block.sheet, stem=own))

    return [
        replace(
            part,
            blocks=tuple(map(apart, part.blocks)),
            others=tuple(map(apart, part.others)),
            cost=apart(part.cost) if part.cost else None,
            measurements=tuple(map(apart, part.measurements)),
        )
        for part in sections
    ]


def render(sections: Sequence[Section]) -> str:
    """Return the page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        gradient=gradient(),
        version=lit_thermal.__version__,
        listed=listed,
        contents=_contents,
        others=_others,
        profile_keys=profile_keys,
        columns=lambda n: math.ceil(n / math.ceil(n / 4)),
    )
    environment.filters.update(data_uri=_data_uri, raw=Markup, groupby_order=_grouped)
    titles = [part.title for part in sections]
    lead = (
        "Measured values of each row next to the published ones, with the uncertainty of each difference, cost, and "
        "pictures."
    )
    page = environment.get_template("page.html.j2").render(sections=sections, title=listed(titles), lead=lead)
    return printable(page) + "\n"


def blocks_of(part: Section) -> list[Block]:
    """Return all tables of a section in their order."""
    return [*part.blocks, *part.others, *([part.cost] if part.cost else []), *part.measurements]


def section(study: Study, ident: str, options: Options, stem: str) -> Section:
    """Return the section of a study.

    Args:
        study: study with its rows.
        ident: prefix of every id in the page.
        options: options of the report.
        stem: prefix of the names of its tables' files.

    Raises:
        InputError: an option does not fit the study, or a picture is missing.
    """
    published = tables_of_sweep(study.stem) if study.stem else []
    study = _named(study, published)
    reference = _reference(study, published, options.reference)
    found = ablations(study, published, options.reference)
    rows = figures.order(study, reference)
    shown_scenes = tuple(scenes(rows, options.pictures, options.line))
    blocks = [_ablation_block(study, one, ident, stem) for one in found]
    first = blocks[0].ablation.dataset if blocks[0].ablation else study.bases()[0]
    # Each published table is shown next to one test set; the other test sets are folded.
    main = [
        b
        for b in blocks
        if b.ablation and (b.ablation.dataset == first or (b.ablation.table and b.ablation.table.condition))
    ]
    main = _first_of_each_table(main)
    cost = sheets.cost_sheet(study, f"{stem}-cost")
    drawn = [
        figures.training(rows, f"{ident}-training"),
        figures.speed(rows, first, f"{ident}-speed"),
        *(f for t in _tables_of(study) for f in figures.robustness(rows, t, f"{ident}-{sheets.slug(t)}")),
        figures.scatter(rows, first, f"{ident}-scatter"),
    ]
    measurements = [
        Block(
            f"{ident}-all-{sheets.slug(dataset)}",
            dataset,
            sheets.measurements_sheet(study, dataset, f"{stem}-{sheets.slug(dataset)}-all"),
        )
        for dataset in study.datasets()
    ]
    return Section(
        ident,
        _title(study),
        _facts(study),
        tuple(f"{row.name}: {listed(row.missing)}" for row in study.rows if row.missing),
        _skipped(study),
        tuple(main),
        tuple(block for block in blocks if block not in main),
        Block(f"{ident}-cost", "Cost", cost) if cost else None,
        tuple(measurements),
        tuple(figure for figure in drawn if figure),
        shown_scenes,
        _about(study, published),
    )


def _reference(study: Study, published: Sequence[Table], name: str | None) -> Row:
    """Return the row that comes first in colours and curves: the paper's reference if the sweep has it."""
    for table in published if name is None else ():
        if table.reference is not None:
            row = find(study, table.row(table.reference).point)
            if row is not None and row.runs:
                return row
    return find_reference(study, name)


def _first_of_each_table(blocks: Sequence[Block]) -> list[Block]:
    seen: dict[tuple[str | None, str | None], Block] = {}
    for block in blocks:
        assert block.ablation is not None
        table = block.ablation.table
        seen.setdefault((table.number if table else None, block.ablation.printed_dataset), block)
    return list(seen.values())


def _ablation_block(study: Study, ablation: Ablation, ident: str, stem: str) -> Block:
    table = ablation.table
    words = [table.number, ablation.printed_dataset or ""] if table else ["ablation"]
    name = sheets.slug(*words, ablation.dataset)
    sheet = sheets.ablation_sheet(ablation, f"{stem}-{name}")
    title = f"{table.number}: {table.caption}" if table else f"Rows compared with “{ablation.reference}”"
    forest = figures.differences(ablation, f"{ident}-{name}")
    return Block(
        f"{ident}-{name}",
        title,
        sheet,
        ablation,
        tuple((v, ablation.verdicts().count(v)) for v in ("agrees", "disagrees", "undecided")) if table else (),  # type: ignore[arg-type]
        _lacking(ablation),
        table.protocol if table else None,
        _protocol(study, ablation.metrics),
        (forest,) if forest else (),
    )


def _protocol(study: Study, metrics: Sequence[str]) -> str:
    """Return the description of our protocol, without the metrics that are not in the table."""
    text = str(study.runs[0].record.get("protocol", {}).get("text", ""))
    for other in sorted({m for run in study.runs for found in run.values.values() for m in found} - set(metrics)):
        text = re.sub(rf"(?:^| ){re.escape(other)}: .*?\.(?= |$)", "", text)
    return text


def _lacking(ablation: Ablation) -> str:
    """Return the metrics that the paper prints but our runs did not measure, as text."""
    measured = {m for m in ablation.metrics for line in ablation.lines if line.cells[m].ours}
    return listed([shown(m).label for m in ablation.metrics if m not in measured]) if ablation.table else ""


def _named(study: Study, published: Sequence[Table]) -> Study:
    """Return the study with the paper's names for the rows that the paper has."""
    names: dict[int, str] = {}
    for row in (row for table in published for row in table.rows):
        ours = find(study, row.point)
        if ours is not None:
            names.setdefault(id(ours), row.name)
    return replace(study, rows=tuple(replace(row, name=names.get(id(row), row.name)) for row in study.rows))


def _facts(study: Study) -> tuple[tuple[str, str], ...]:
    """Return facts about the study as pairs of a heading and text."""
    runs = study.runs
    steps = sorted({run.steps for run in runs if run.steps})
    bases = study.bases()
    by_size: dict[str, list[str]] = {}
    for name in bases:
        by_size.setdefault(sheets.images_of(study, name), []).append(name)
    data = [f"{listed(names)}: {count}{' each' if len(names) > 1 else ''}" for count, names in by_size.items()]
    conditions = [name for name in study.datasets() if name not in bases]
    seeds = sorted({run.seed for run in runs})
    facts = [
        ("Method", listed(list(dict.fromkeys(method_title(run.method) for run in runs)))),
        ("Rows", f"{sum(bool(row.runs) for row in study.rows)} of {len(study.rows)} measured"),
        (
            "Seeds",
            f"{_up_to(study)}{plural(len(seeds), 'training')} of each row" if study.stem else "one training per row",
        ),
        ("Test data", "; ".join(data)),
    ]
    if conditions:
        facts.append(
            ("Conditions", listed([c.removeprefix(f"{b}_") for b in bases[:1] for c in conditions]).replace("_", " "))
        )
    facts += [
        (
            "Budget",
            " to ".join(
                f"{s:,} steps".replace(",", "\N{NARROW NO-BREAK SPACE}") for s in dict.fromkeys((steps[0], steps[-1]))
            )
            if steps
            else "not recorded",
        ),
        ("Machine", sheets.machine(study).removeprefix("Machine: ")),
    ]
    if study.overrides:
        facts.append(("Changed for all rows", " ".join(study.overrides)))
    return tuple(facts)


def _up_to(study: Study) -> str:
    return "up to " if any(row.missing for row in study.rows) else ""


def _skipped(study: Study) -> tuple[tuple[str, str], ...]:
    """Return the metrics that were not measured, with the reasons."""
    found: dict[str, str] = {}
    for run in study.runs:
        found |= run.record.get("skipped") or {}
    return tuple((shown(name).label, why) for name, why in sorted(found.items()))


def _about(study: Study, published: Sequence[Table]) -> str:
    if not published:
        return "No published table has these rows." if study.stem else ""
    return f"Compared with {listed([t.number for t in published])} of {published[0].title}."


def _title(study: Study) -> str:
    """The method and the subject of its sweep: `<method>: ablation` for `sweeps/<method>_ablation.yaml`."""
    if not study.stem:
        return study.name
    methods = list(dict.fromkeys(run.method for run in study.runs))
    titles = [method_title(method) for method in methods]
    words = study.stem.split("_")
    names = {letters(name) for name in (*methods, *titles)}
    start = next((n for n in range(len(words) - 1, 0, -1) if letters("".join(words[:n])) in names), 0)
    return f"{listed(titles)}: {' '.join(words[start:])}"


def _tables_of(study: Study) -> list[str]:
    return list(dict.fromkeys(name for run in study.runs for name in run.levels))


def _data_uri(text: str, kind: str) -> str:
    return f"data:{kind};charset=utf-8;base64," + base64.b64encode(printable(text).encode()).decode()


def _grouped(rows: Sequence[SheetRow]) -> list[tuple[str, list[SheetRow]]]:
    """Group rows by their headings, in their order."""
    return [(group, list(found)) for group, found in itertools.groupby(rows, key=lambda row: row.group)]


def _contents(part: Section) -> list[tuple[str, str]]:
    """Return the ids and headings of a section for the table of contents."""
    found = [(block.ident, block.title.partition(":")[0]) for block in part.blocks]
    found += [(f"{part.ident}-others", "Other test sets")] if part.others else []
    found += [(f"{part.ident}-gallery", "Pictures")] if part.scenes else []
    found += [(f"{part.ident}-f{n}", figure.title) for n, figure in enumerate(part.figures)]
    return [*found, (f"{part.ident}-cost", "Cost"), (f"{part.ident}-all", "Everything measured")]


def _others(part: Section) -> list[str]:
    return list(dict.fromkeys(block.ablation.dataset for block in part.others if block.ablation))
