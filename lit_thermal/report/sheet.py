"""A table of a report, which the page, CSV and LaTeX share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lit_thermal.plain_files import as_csv

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        # after a line break these would be read as its options
        "[": "{[}",
        "]": "{]}",
        "*": "{*}",
        "\n": " ",
        "\r": " ",
        "\t": " ",
        "\N{MINUS SIGN}": "$-$",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
        "\N{MULTIPLICATION SIGN}": r"$\times$",
        "\N{INFINITY}": r"$\infty$",
        "\N{UPWARDS ARROW}": r"$\uparrow$",
        "\N{DOWNWARDS ARROW}": r"$\downarrow$",
        "\N{INCREMENT}": r"$\Delta$",
        "\N{EN DASH}": "--",
        "\N{EM DASH}": "---",
        "\N{SUPERSCRIPT TWO}": r"$^2$",
        "\N{SUPERSCRIPT THREE}": r"$^3$",
    }
    | {
        chr(code): rf"$\{name}$"
        for code, name in zip(
            (0x3B1, 0x3B2, 0x3B3, 0x3B4, 0x3B5, 0x3BA, 0x3BB, 0x3BC, 0x3C3, 0x3C4, 0x3C9, 0x394),
            ("alpha", "beta", "gamma", "delta", "epsilon", "kappa", "lambda", "mu", "sigma", "tau", "omega", "Delta"),
            strict=True,
        )
    }
)


@dataclass(frozen=True)
class Column:
    """A column."""

    label: str
    text: bool = False
    """Whether the column contains words, which are aligned to the left."""


@dataclass(frozen=True)
class Entry:
    """One cell of a table."""

    text: str
    """Text in the page."""
    value: float | str | None = None
    """Value for the CSV in full precision (default: the text)."""
    ends: tuple[float, float] | None = None
    """Ends of the interval."""
    span: str = ""
    """Interval as text in the page."""
    kind: str = ""
    """CSS class in the page, such as a verdict."""


@dataclass(frozen=True)
class SheetRow:
    """A row of a table."""

    name: str
    entries: tuple[Entry, ...]
    strong: bool = False
    """Whether the others are compared with this row."""
    note: str = ""
    """Small text under the name."""
    group: str = ""
    """Heading above this row and the following rows of the same group; empty for none."""


@dataclass(frozen=True)
class Sheet:
    """A table."""

    stem: str
    """Stem of its files."""
    caption: str
    first: str
    """Heading of the column of names."""
    columns: tuple[Column, ...]
    rows: tuple[SheetRow, ...]
    note: str = ""
    protocol: str = ""
    """Protocol of the published numbers in it, which every file of the table repeats."""

    def as_csv(self) -> str:
        """Return the table as CSV: one line per row, two columns per interval, numbers with all their digits."""
        spans = [any(row.entries[i].ends for row in self.rows) for i in range(len(self.columns))]
        grouped = any(row.group for row in self.rows)
        head = [*(["metric"] if grouped else []), self.first.lower()]
        for column, has_span in zip(self.columns, spans, strict=True):
            head += [column.label, *([f"{column.label} low", f"{column.label} high"] if has_span else [])]
        lines = [[*head, *(["protocol of the paper"] if self.protocol else [])]]
        for row in self.rows:
            line: list[Any] = [*([row.group] if grouped else []), row.name]
            for entry, has_span in zip(row.entries, spans, strict=True):
                line.append(_plain(entry))
                line += [_finite(end) for end in entry.ends or ("", "")] if has_span else []
            lines.append([*line, *([self.protocol] if self.protocol else [])])
        return as_csv(lines)

    def as_latex(self) -> str:
        """Return the table as LaTeX with booktabs and intervals in brackets."""
        align = "l" + "".join("l" if column.text else "r" for column in self.columns)
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{latex(self.caption)}}}"]
        lines += [rf"\label{{tab:{self.stem}}}", rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
        lines += [_line([self.first, *(column.label for column in self.columns)]), r"\midrule"]
        for number, row in enumerate(self.rows):
            if row.group and (not number or row.group != self.rows[number - 1].group):
                lines += [r"\addlinespace"] if number else []
                lines.append(rf"\multicolumn{{{len(align)}}}{{l}}{{\textit{{{latex(row.group)}}}}} \\")
            name = rf"\textbf{{{latex(row.name)}}}" if row.strong else latex(row.name)
            cells = [latex(e.text) + (rf" {{\scriptsize [{latex(e.span)}]}}" if e.span else "") for e in row.entries]
            lines.append(" & ".join([name, *cells]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        if self.note:
            note = f"{self.note} Ours: standard protocol. {self.protocol}" if self.protocol else self.note
            lines.append(rf"\par\smallskip\footnotesize {latex(note)}")
        return "\n".join([*lines, r"\end{table}"]) + "\n"


def latex(text: str) -> str:
    """Escape all characters of a text that LaTeX would read as commands."""
    return text.translate(_LATEX)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(latex(cell) for cell in cells) + r" \\"


def _plain(entry: Entry) -> Any:
    if entry.value is not None:
        return _finite(entry.value)
    return "" if entry.text == "\N{EN DASH}" else entry.text


def _finite(value: Any) -> Any:
    return "" if isinstance(value, float) and not math.isfinite(value) else value
