"""The embedded data: a renderer of thermal scenes."""

from lit_thermal.data.simulator.render import Camera, Clip, Truth, render, render_visible
from lit_thermal.data.simulator.scene import SCENARIOS, Scenario, ScenarioName, Scene, make_scene

__all__ = [
    "SCENARIOS",
    "Camera",
    "Clip",
    "Scenario",
    "ScenarioName",
    "Scene",
    "Truth",
    "make_scene",
    "render",
    "render_visible",
]
