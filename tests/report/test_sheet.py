"""Tables as CSV and LaTeX, and how numbers are written."""

import csv
import io
import math

import pytest

from lit_thermal.metrics.catalogue import shown
from lit_thermal.report import words
from lit_thermal.report.sheet import Column, Entry, Sheet, SheetRow, latex


def sheet(**more):
    rows = (
        SheetRow("a & b", (Entry("1.50", 1.4999, (1.0, 2.0), "1.00 to 2.00"), Entry("agrees")), group="PSNR, dB"),
        SheetRow("β = 0", (Entry("\N{EN DASH}"), Entry("–")), strong=True, group="PSNR, dB"),
        SheetRow("a & b", (Entry("∞", math.inf, (-math.inf, math.inf), "…"), Entry('x, "y"')), group="SSIM"),
    )
    return Sheet("toy", "50 % of_it", "Row", (Column("ours"), Column("verdict", text=True)), rows, **more)


def test_csv_has_all_digits_and_the_ends_of_intervals():
    lines = list(csv.reader(io.StringIO(sheet().as_csv())))
    assert lines == [
        ["metric", "row", "ours", "ours low", "ours high", "verdict"],
        ["PSNR, dB", "a & b", "1.4999", "1.0", "2.0", "agrees"],
        ["PSNR, dB", "β = 0", "", "", "", ""],
        ["SSIM", "a & b", "", "", "", 'x, "y"'],
    ]


def test_published_numbers_take_their_protocol_with_them():
    found = sheet(protocol="Y channel")
    lines = list(csv.reader(io.StringIO(found.as_csv())))
    assert [line[-1] for line in lines] == ["protocol of the paper", *["Y channel"] * 3]
    assert "Y channel" in sheet(protocol="Y channel", note="N.").as_latex()


def test_latex_is_booktabs_with_everything_escaped():
    text = sheet(note="of 10 % & more").as_latex()
    assert r"\caption{50 \% of\_it}" in text and r"\label{tab:toy}" in text
    assert r"\begin{tabular}{lrl}" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\addlinespace")] == [1] * 4
    assert r"a \& b & 1.50 {\scriptsize [1.00 to 2.00]} & agrees \\" in text
    assert r"\textbf{$\beta$ = 0} & -- & -- \\" in text
    assert r"\multicolumn{3}{l}{\textit{PSNR, dB}} \\" in text
    assert r"of 10 \% \& more" in text


def test_latex_escapes():
    assert latex("a_b#c$d{e}~^\\<") == (
        r"a\_b\#c\$d\{e\}\textasciitilde{}\textasciicircum{}\textbackslash{}\textless{}"
    )
    assert latex("−1 ± 2 × λ ↑ Δ") == r"$-$1 $\pm$ 2 $\times$ $\lambda$ $\uparrow$ $\Delta$"


@pytest.mark.parametrize(
    ("value", "decimals", "sign", "text"),
    [
        (-1.514, 2, False, "−1.51"),
        (1.514, 2, True, "+1.51"),
        (-0.001, 2, True, "0.00"),
        (0.0, 2, True, "0.00"),
        (0.00012345, None, False, "0.000123"),
        (None, 2, False, "–"),
        (math.nan, 2, False, "–"),
        (-math.inf, 2, False, "−∞"),
    ],
)
def test_numbers(value, decimals, sign, text):
    assert words.number(value, decimals, sign) == text


def test_words():
    assert words.decimals_of("0.8300") == 4 and words.decimals_of("375±25") == 0
    assert [words.duration(s) for s in (None, 0.0213, 3.14159, 300, 7500)] == [
        "–",
        "21.3 ms",
        "3.14 s",
        "5 min",
        "2 h 05 min",
    ]
    assert [words.count(n) for n in (950, 123456, 1.1446e9)] == ["950", "123 k", "1.14 G"]
    assert [words.size(n) for n in (812345678, 1.5e9)] == ["812 MB", "1.50 GB"]
    assert words.listed(["a", "b", "c"]) == "a, b and c" and words.listed(["a"]) == "a" and words.listed([]) == ""
    assert words.heading(shown("psnr")) == "PSNR, dB ↑" and words.heading(shown("odd_metric")) == "Odd metric"
