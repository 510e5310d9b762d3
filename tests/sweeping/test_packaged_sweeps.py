"""Every sweep file that comes with the package: W&B's own agent builds the commands, and `fit` understands them."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from _pytest.mark import ParameterSet
from wandb import wandb_agent

import lit_thermal.sweeps
from lit_thermal.cli.dispatch import main
from lit_thermal.sweeping.command import words_of_point
from lit_thermal.sweeping.points import Point, points
from lit_thermal.sweeping.sweep_file import SweepFile, read_sweep_file

FILES = sorted(Path(lit_thermal.sweeps.__path__[0]).glob("*.yaml"))
NAMES = {
    "theris_ablation",
    "theris_sensitivity",
    "theris_scans",
    "theris_masks",
    "theris_interpolation",
    "corefusion_beta",
    "corefusion_activation",
    "difiisr_guidance",
    "difiisr_combination",
    "3m_ti_components",
    "3m_ti_attention",
    "real_iisr_components",
    "real_iisr_baseline",
}


def every_point() -> Iterator[ParameterSet]:
    """Yield each sweep with each of its points, those of a grid whose values other points have too as slow ones."""
    for sweep in map(read_sweep_file, FILES):
        seen: set[str] = set()
        for number, point in enumerate(points(sweep)):
            values = {str(item) for item in point.items()}
            yield pytest.param(
                sweep, point, id=f"{sweep.name}-{number}", marks=[pytest.mark.slow] if values <= seen else []
            )
            seen |= values


def test_every_ablation_has_its_file():
    assert {path.stem for path in FILES} == NAMES


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """The words that W&B's agent would start a process with."""
    started: list[SimpleNamespace] = []

    def process(command: list[str], **_: Any) -> SimpleNamespace:
        started.append(SimpleNamespace(command=command))
        return started[-1]

    monkeypatch.setattr(wandb_agent, "AgentProcess", process)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "none")

    def words(sweep: SweepFile, point: Point) -> list[str]:
        one = wandb_agent.Agent.__new__(wandb_agent.Agent)
        one._in_jupyter, one._function, one._forward_signals, one._run_processes = False, None, False, {}
        one._sweep_command = list(sweep.command)
        program = yaml.safe_load(sweep.text)["program"]
        arguments = {name: {"value": value} for name, value in point.items()}
        one._command_run({"type": "run", "run_id": "one", "program": program, "args": arguments})
        return started[-1].command

    return words


@pytest.mark.parametrize(("sweep", "point"), every_point())
def test_the_agent_s_command_is_ours_and_is_understood(sweep, point, agent, capsys):
    command = agent(sweep, point)
    assert command[:4] == ["/usr/bin/env", "python", "-m", "lit_thermal"]
    assert command[4:] == words_of_point(sweep, point)
    code = main([*command[4:], "--print_config"])
    out, err = capsys.readouterr()
    assert code == 0, err
    config = yaml.safe_load(out)
    assert config["then_test"] and any("WandbLogger" in str(logger) for logger in config["trainer"]["logger"])
    for name, value in point.items():
        if name == "config":
            overlay = yaml.safe_load((FILES[0].parents[1] / value).read_text(encoding="utf-8"))
            assert config["experiment"] == overlay["experiment"]
            continue
        found = config
        for key in name.split("."):
            found = found[key]
        if isinstance(found, dict) and isinstance(value, str):  # a block by its name
            found = found["class_path"].rpartition(".")[2]
        assert found == value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_state_what_they_optimise_and_explain_themselves(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["name"] == path.stem and content["metric"] == {"name": "val/psnr", "goal": "maximize"}
    assert path.read_text(encoding="utf-8").startswith("# ")
