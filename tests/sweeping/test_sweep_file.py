"""Sweep files are read as W&B takes them, and what cannot run without its server is reported."""

import pytest

from lit_thermal.errors import InputError
from lit_thermal.sweeping.command import words_of_point
from lit_thermal.sweeping.points import points
from lit_thermal.sweeping.sweep_file import read_sweep_file

GOOD = """
method: grid
run_cap: 3
early_terminate: {type: hyperband}
parameters:
  a: {values: [1, 2]}
command: ["${env}", "${interpreter}", -m, lit_thermal, fit, -c, theris, "${args}"]
"""


def test_a_sweep_file_is_read(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(GOOD)
    sweep = read_sweep_file(path)
    assert (sweep.name, sweep.method, sweep.run_cap, sweep.text) == ("some", "grid", 3, GOOD)
    assert sweep.parameters == {"a": {"values": [1, 2]}} and sweep.command[-1] == "${args}"
    assert "early_terminate" in sweep.left_out[0]


def test_words_of_a_command_may_be_numbers(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(GOOD.replace('"${args}"]', '"${args}", --trainer.max_steps, 3, --then_test, true]'))
    assert read_sweep_file(path).command[-4:] == ("--trainer.max_steps", "3", "--then_test", "True")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("method: grid", "method: bayes"), "wandb sweep"),
        (("parameters:", "params:"), "needs `parameters`"),
        (("  a: {values: [1, 2]}", "  a: 3"), "parameter a needs `value`"),
        (("  a: {values: [1, 2]}", "  a: {parameters: {b: {value: 1}}}"), "flat dotted names"),
        ((', "${args}"]', "]"), "${args} among them"),
        (("run_cap: 3", "run_cap: 0"), "run_cap is 0"),
        (("run_cap: 3", "run_cap: true"), "run_cap is True"),
        (("  a: {values", "  3: {values"), "the name 3"),
        (("run_cap: 3", "run_caps: 3"), "key 'run_caps'"),
        (("method: grid", "method: [grid"), "not YAML"),
    ],
)
def test_what_is_wrong_is_reported(tmp_path, change, message):
    path = tmp_path / "some.yaml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(InputError) as mistake:
        read_sweep_file(path)
    assert message in str(mistake.value) and str(path) in str(mistake.value)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_sweep_file(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "change",
    [
        ("  a: {", "  allow: {"),
        (" -c, theris", ' "--allow=mine"'),
        (" -c, theris", " --allow, mine"),
        ("values: [1, 2]", "value: 1}\n  allow: {value: m"),
    ],
)
def test_a_sweep_file_allows_no_packages(tmp_path, change):
    path = tmp_path / "some.yaml"
    path.write_text(GOOD.replace(*change))
    sweep = read_sweep_file(path)
    with pytest.raises(InputError, match="gives --allow"):
        words_of_point(sweep, points(sweep)[0])
