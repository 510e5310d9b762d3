"""The words before a verb, and what answers without torch."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import lit_thermal
from lit_thermal.cli.dispatch import OTHER_VERBS, TRAINER_VERBS, main

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["list"]])
def test_answers_without_anything_heavy(words, tmp_path):
    script = (
        "import sys; from lit_thermal.cli.dispatch import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'lightning', 'numpy', 'jsonargparse', 'yaml'} & set(sys.modules); "
        "print(heavy, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stderr.strip() == "set()"
    assert done.stdout


def test_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {verb} " in out for verb in [*TRAINER_VERBS, *OTHER_VERBS])


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lit_thermal {lit_thermal.__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fti"], "there is no verb 'fti'; did you mean fit?"),
        (["-c", "theris", "fit"], "-c comes before the verb; write `lit_thermal fit -c EXPERIMENT`"),
        (["--model.depth=3", "fit"], "write the verb first"),
        (["list", "blocks"], "unrecognized arguments: blocks"),
        (["upscale", "a", "-o", "b", "--model", "c", "--overlp", "3"], "no option --overlp; did you mean --overlap"),
    ],
)
def test_mistakes_in_one_line(words, said, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and said in err and err.count("\n") == 1


def test_a_checkout_that_is_not_installed_says_so():
    # -S leaves site-packages out, and with it the installation
    done = subprocess.run(
        [sys.executable, "-S", "-m", "lit_thermal", "fit", "-c", "theris"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: lit_thermal runs from a checkout that is not installed; run `pip install -e ")
    assert done.stderr.count("\n") == 1


def test_waiting_threads_do_not_spin_unless_the_user_says_so(monkeypatch, capsys):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    main(["--version"])
    import os

    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_what_the_package_logs_is_shown_once(capsys):
    for _ in range(2):
        main(["list"])
    logging.getLogger("lit_thermal.ops").info("back end cpp")
    assert capsys.readouterr().err.count("back end cpp") == 1
