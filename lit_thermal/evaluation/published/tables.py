"""The quantitative tables of the papers: numbers as printed, with their protocols.

A file ``<paper>.yaml`` has the ``title`` of its method as the authors write it, the ``class`` of the method in this
package, ``protocols`` by name, and ``tables``. A table names its columns by data set and metric,
and each row has its values as one text in the order of these columns, so that trailing zeros stay. A value that a paper
only draws is ``-``; it is never estimated.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lit_thermal import plain_yaml
from lit_thermal.errors import InputError
from lit_thermal.metrics.catalogue import CATALOGUE
from lit_thermal.metrics.metric import Metric
from lit_thermal.shapes import LARGEST, Each, check, check_plain

FOLDER = Path(__file__).parent
PAPERS = tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))
"""The papers by the names of their files."""
NOT_PRINTED = "-"

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?:±\d+(?:\.\d+)?)?")
_TABLE = ({"number", "caption", "protocol", "columns", "rows"}, {"sweep", "reference", "condition"})
_ROW = ({"name", "values"}, {"point"})
_PROTOCOL = ({"text", "channel"}, {"notes", "same_as"})
_TEXT = (None, str)
_PROTOCOL_SHAPE = {"text": str, "channel": str, "notes?": str, "same_as?": _TEXT}
_TABLE_SHAPE = {
    "number": str,
    "caption": str,
    "protocol": str,
    "columns": Each([str]),
    "rows": [object],
    "sweep?": _TEXT,
    "reference?": _TEXT,
    "condition?": _TEXT,
}
_Keys = tuple[set[str], set[str]]


@dataclass(frozen=True)
class Protocol:
    """Protocol of published numbers, as far as it is known; no number is shown without it."""

    name: str
    text: str
    """Known facts."""
    channel: str
    """Channel on which PSNR and SSIM are measured."""
    notes: str = ""
    """Disagreements of paper and code, missing facts, and their effect on a comparison."""
    same_as: str | None = None
    """Equivalent protocol of this package; None if there is none."""


@dataclass(frozen=True)
class Number:
    """A value of a table."""

    value: float | None
    """Printed number, or the middle of a printed span; None if the paper only draws it."""
    text: str
    """Printed text; "-" if it is not printed."""


@dataclass(frozen=True)
class Row:
    """A method, or a variant of one."""

    name: str
    values: Mapping[str, Mapping[str, Number]]
    """Numbers by data set and metric."""
    point: Mapping[str, Any] | None = None
    """Parameters of the sweep's point that reproduces the row."""


@dataclass(frozen=True)
class Table:
    """A table of a paper, or the numbers of a figure or a sentence in it."""

    paper: str
    """Name of its file without the suffix."""
    title: str
    """Name of the paper's method as the authors write it."""
    method: str
    """Name of the method's class."""
    number: str
    """Number in the paper; with a word after it if one printed table has two comparisons."""
    caption: str
    rows: tuple[Row, ...]
    columns: Mapping[str, tuple[str, ...]]
    """Metrics of each data set, in the order of the columns."""
    protocol: Protocol
    sweep: str | None = None
    """Stem of the sweep file that reproduces the table."""
    reference: str | None = None
    """Name of the row that the others are compared with."""
    condition: str | None = None
    """Suffix of our test set, if the table is about one condition of the input."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """Return the data sets in the order of the columns."""
        return tuple(self.columns)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Return the metrics of all data sets, each once."""
        return tuple(dict.fromkeys(CATALOGUE[name] for names in self.columns.values() for name in names))

    def row(self, name: str) -> Row:
        """Return the row with the given name.

        Raises:
            InputError: no row has this name.
        """
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise InputError(f"{self.number} of {self.paper} has no row {name!r}; it has {_listed(self.rows)}")
        return found


def tables(paper: str | None = None) -> list[Table]:
    """Return the published tables.

    Args:
        paper: one of `PAPERS` (default: all of them).

    Raises:
        InputError: the paper is unknown.
    """
    if paper is not None and paper not in PAPERS:
        raise InputError(f"there are no published numbers of {paper!r}; there are those of {', '.join(PAPERS)}")
    return [table for name in PAPERS if paper in (None, name) for table in _packaged(name)]


def tables_of_sweep(stem: str) -> list[Table]:
    """Return the tables that a sweep reproduces; an empty list if there are none.

    Args:
        stem: stem of the sweep's file, such as ``theris_ablation``.
    """
    return [table for table in tables() if table.sweep == stem]


def method_title(method: str) -> str:
    """Return the published name of a method's class, or the class name if it has no published tables."""
    return next((table.title for table in tables() if table.method == method), method)


def read_tables(file: Path) -> list[Table]:
    """Read the file of one paper.

    Raises:
        InputError: the file cannot be read, or an entry of it is missing, unknown, or not a number.
    """
    content = plain_yaml.read(file)
    check_plain(content, f"{file}", "correct it")
    shape = {"title": str, "class": str, "protocols": Each(dict), "tables": [object]}
    _check(content, (set(shape), set()), f"{file}")
    check(content, shape, f"{file}", "correct it")
    protocols = {}
    for name, entry in content["protocols"].items():
        where = f"{file}, protocol {name!r}"
        fields = check(_check(entry, _PROTOCOL, where), _PROTOCOL_SHAPE, where, "correct it")
        protocols[name] = Protocol(name=name, **fields)
    return [_table(entry, content, protocols, file) for entry in content["tables"]]


@cache
def _packaged(paper: str) -> tuple[Table, ...]:
    return tuple(read_tables(FOLDER / f"{paper}.yaml"))


def _table(entry: Any, content: Mapping[str, Any], protocols: Mapping[str, Protocol], file: Path) -> Table:
    number = entry.get("number") if isinstance(entry, dict) else entry
    where = f"{file}, table {number!r}"
    check(_check(entry, _TABLE, where), _TABLE_SHAPE, where, "correct it")
    if entry["protocol"] not in protocols:
        known = ", ".join(protocols)
        raise InputError(f"{where}: protocol {entry['protocol']!r} is none of the file's, which are {known}")
    columns = {dataset: tuple(metrics) for dataset, metrics in entry["columns"].items()}
    for metric in (metric for metrics in columns.values() for metric in metrics):
        if metric not in CATALOGUE:
            raise InputError(f"{where}, columns: {metric!r} is not a metric; the metrics are {', '.join(CATALOGUE)}")
    rows = tuple(_row(row, columns, where) for row in entry["rows"])
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise InputError(f"{where}, rows: two rows have the same name; they are {_listed(rows)}")
    reference = entry.get("reference")
    if reference is not None and reference not in names:
        raise InputError(f"{where}: reference {reference!r} is none of the rows {_listed(rows)}")
    if entry.get("sweep") and not all(row.point for row in rows):
        missing = next(row.name for row in rows if not row.point)
        raise InputError(f"{where}, row {missing!r}: a table with a sweep needs the point of every row")
    rest = {key: entry[key] for key in ("number", "caption", "sweep", "reference", "condition") if key in entry}
    return Table(
        paper=file.stem,
        title=content["title"],
        method=content["class"],
        rows=rows,
        columns=columns,
        protocol=protocols[entry["protocol"]],
        **rest,
    )


def _row(entry: Any, columns: Mapping[str, tuple[str, ...]], where: str) -> Row:
    where = f"{where}, row {entry.get('name') if isinstance(entry, dict) else entry!r}"
    _check(entry, _ROW, where)
    check(entry, {"name": str, "point?": (None, Each(object))}, where, "correct it")
    if not isinstance(entry["values"], str):
        raise InputError(
            f"{where}: values must be text, or zeros at the end are lost; put {entry['values']!r} in quotes"
        )
    texts = iter(entry["values"].split())
    count = sum(map(len, columns.values()))
    if len(entry["values"].split()) != count:
        raise InputError(f"{where}: there are {len(entry['values'].split())} values for {count} columns")
    values = {
        dataset: {metric: _number(next(texts), where) for metric in metrics} for dataset, metrics in columns.items()
    }
    return Row(entry["name"], values, entry.get("point"))


def _number(text: str, where: str) -> Number:
    if text == NOT_PRINTED:
        return Number(None, text)
    found = _NUMBER.fullmatch(text)
    if found is None or float(found[1]) > LARGEST:
        raise InputError(f"{where}: {text[:60]!r} is not a number; write {NOT_PRINTED!r} if a value is not printed")
    return Number(float(found[1]), text)


def _check(entry: Any, keys: _Keys, where: str) -> dict[str, Any]:
    """Return `entry` if it is a mapping with all of the needed keys and otherwise only optional ones."""
    needed, optional = keys
    if not isinstance(entry, dict):
        raise InputError(f"{where}: a mapping with the keys {', '.join(sorted(needed))} is needed, not {entry!r}")
    if unknown := sorted(str(key) for key in set(entry) - needed - optional):
        raise InputError(
            f"{where}: the key {unknown[0]!r} is unknown; known are {', '.join(sorted(needed | optional))}"
        )
    if missing := sorted(needed - set(entry)):
        raise InputError(f"{where}: the key {missing[0]!r} is missing")
    return entry


def _listed(rows: tuple[Row, ...]) -> str:
    return ", ".join(repr(row.name) for row in rows)
