"""The verb `report`: one page that compares runs or sweeps with the published numbers."""

from collections.abc import Sequence
from pathlib import Path

from lit_thermal.cli.parser import Parser
from lit_thermal.errors import InputError
from lit_thermal.files import check_folder


def main(argv: Sequence[str]) -> int:
    """Write the page; returns the exit code."""
    arguments = _parser().parse_args(argv)
    out = Path(arguments.out)
    if out.is_file():
        raise InputError(f"--out {out} is a file; name a folder")
    if arguments.pictures < 0 or (arguments.line is not None and arguments.line < 0):
        raise InputError("--pictures and --line are counted from 0 and cannot be negative")
    check_folder(out, "--out")
    # Imported here, so that mistakes are reported before anything heavy is loaded.
    from lit_thermal.report.page import Options, write_report
    from lit_thermal.report.read import read_studies

    studies = read_studies([Path(path) for path in arguments.paths], arguments.names or ())
    page = write_report(studies, out, Options(arguments.reference, arguments.pictures, arguments.line))
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB), tables in {out / 'tables'}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "lit_thermal report",
        "Draw sweeps or single runs as one page that needs no network: tables next to the published ones with "
        "intervals and verdicts, curves, cost and pictures; each table also as CSV and LaTeX.",
    )
    parser.add_argument(
        "paths",
        metavar="RUN|SWEEP",
        nargs="+",
        help="folders of sweeps, or of tested runs; the first run is the reference",
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for index.html and tables/")
    parser.add_argument("--names", metavar="NAME", nargs="+", help="names of the runs (default: their experiments)")
    parser.add_argument(
        "--reference", metavar="NAME", help="reference row for the comparisons, if no paper defines one"
    )
    parser.add_argument(
        "--pictures",
        metavar="N",
        type=int,
        default=4,
        help="number of scenes in the gallery of each sweep (default: 4)",
    )
    parser.add_argument(
        "--line", metavar="Y", type=int, help="image row of the gray-value profiles (default: where errors are large)"
    )
    return parser
