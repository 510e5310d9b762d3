"""The verb `curves`: robustness curves of several tests in one picture."""

import os
from collections.abc import Sequence
from pathlib import Path

from lit_thermal.cli.parser import Parser
from lit_thermal.errors import InputError
from lit_thermal.files import check_folder
from lit_thermal.plain_files import inside

_OVERLAYS = "-c test/noise (or test/blur, test/degradation, test/misalignment)"


def main(argv: Sequence[str]) -> int:
    """Draw the picture and write its table; return the exit code."""
    arguments = _parser().parse_args(argv)
    target = Path(arguments.out)
    if target.suffix.lower() != ".png":
        raise InputError(f"--out {target} must end in .png; the table gets the same name with the suffix .csv")
    check_folder(target.parent, "--out")
    tables = [_table(Path(run)) for run in arguments.runs]
    names = arguments.names or _names(tables)
    if len(names) != len(tables) or len(set(names)) < len(names):
        raise InputError(f"--names gives {len(set(names))} different names for {len(tables)} runs; give each its own")
    # Imported here, so that mistakes are reported before heavy packages are loaded.
    from lit_thermal.callbacks.robustness_curve import write_runs
    from lit_thermal.evaluation.levels import curves, read_levels

    runs = {name: read_levels(table) for name, table in zip(names, tables, strict=True)}
    for table, levels in zip(tables, runs.values(), strict=True):
        if not curves(levels):
            raise InputError(
                f"{table} has no quantity with the two degrees that a curve needs: run `test` with {_OVERLAYS}"
            )
        if levels[0].images != next(iter(runs.values()))[0].images:
            raise InputError(
                f"{tables[0]} and {table} were measured on different numbers of images, so that they cannot be compared"
            )
    first, *others = (curves(levels) for levels in runs.values())
    if not any(all(varied in other for other in others) for varied in first):
        raise InputError(
            "the runs vary different quantities and cannot be drawn together: "
            + "; ".join(
                f"{table} {', '.join(curves(levels))}" for table, levels in zip(tables, runs.values(), strict=True)
            )
        )
    write_runs(target, runs)
    print(f"{len(runs)} runs in {target} and {target.with_suffix('.csv')}")
    return 0


def _table(run: Path) -> Path:
    """Return the table of a run, given by its folder or by the table itself."""
    if os.path.lexists(run) and not run.is_dir():
        return run
    if not run.is_dir():
        raise InputError(f"there is no run folder {run}")
    found = sorted(run.glob("robustness*.csv"))
    if len(found) == 1:
        return inside(run, found[0].name, run)
    if found:
        raise InputError(f"{run} has one table for each data set; name one of {', '.join(map(str, found))}")
    raise InputError(f"{run} holds no robustness.csv; run `test` with {_OVERLAYS} and the callback RobustnessCurve")


def _names(tables: Sequence[Path]) -> list[str]:
    """Return the experiment of each run, followed by the run's name if an experiment has several runs."""
    experiments = [table.absolute().parent.parent.name for table in tables]
    runs = [table.absolute().parent.name for table in tables]
    return [e if experiments.count(e) == 1 else f"{e} {r}" for e, r in zip(experiments, runs, strict=True)]


def _parser() -> Parser:
    parser = Parser(
        "lit_thermal curves",
        "Draw image quality over noise, blur or misalignment of the guide, for several tests in one picture.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder of a `test` run, or a robustness*.csv in it")
    parser.add_argument(
        "--out", metavar="FILE.png", required=True, help="picture to write; its table gets the same name"
    )
    parser.add_argument(
        "--names", metavar="NAME", nargs="+", help="names of the runs in the picture (default: experiments)"
    )
    return parser
