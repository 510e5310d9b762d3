"""A fast, seeded renderer of thermal scenes with true temperatures in Kelvin.

    scene = make_scene(seed=0, index=3, scenario="standard")   # contents of the scene, drawn once
    clip = render(scene, truth=True)                           # 7 frames of 128 x 128, boxes, masks, temperatures
    image = render(scene, np.array([2.5]))                     # one frame, at any time
    scene = make_scene(0, 3, visible=True, margin=16)          # with colours, and a margin for a second camera
    guide = render_visible(scene, 0.0, Camera(shift=(4, 0)))   # view of a second camera; `RIGS` has named ones

A scene consists of a background of surfaces, each with temperature, emissivity and colour, and of bodies that move
over it at constant velocity. Every frame is composed on subpixels with exact positions. Temperatures become radiance
between 8 and 14 um (Planck; `planck` states the error), surfaces reflect the sky with one minus their emissivity,
optics and pixels blur and average the radiance, and the sensor adds noise of a given NETD and converts the result to
16-bit apparent temperature over one range for the clip. The same arguments give the same bits in every process on a
platform; only NumPy is used, so that the result does not depend on threads.

Simplifications:

- Geometry is flat: layers move in the image plane. Bodies do not grow as they come nearer, and the ground shows
  perspective only in its marks and grain.
- For a second camera at a distance, each body moves against the background as a whole, and the ground moves with the
  background. Glare in its lens is a halo, a veil and three ghosts.
- Heat (`heat`) flows in the image plane, equally across all background surfaces, with one diffusivity per scene, 0.03
  to 0.3 pixels squared per frame, and cools to the air at 0.5 to 5 % per frame. The heat equation is solved exactly,
  but runs thousands of times faster than in asphalt at 30 frames per second, because true conduction would not be
  visible within a clip. The pattern of surfaces without switching sources is assumed to be maintained by the weather.
  The scenario `conduction` is the exception: a sheet of steel after contact (`plates`), at its true diffusivity.
- Parts of the scenario `cooling` cool at rates of their own and conduct no heat.
- Bodies have fixed temperatures and warm the ground they pass; this heat is deposited once per frame.
- All surfaces reflect one sky temperature, diffusely. There is no atmosphere, no shadow in the visible view and no
  sunlight in the band.
- Optics are the same Gaussian over the whole image; the detector has no time lag. Noise is white, plus an offset of
  each pixel and each column that is constant through the clip.
- At edges within the 2 x 2 subpixels of a pixel, temperatures are mixed instead of radiances.
"""

from lit_thermal.data.simulator.canvas import PARTS
from lit_thermal.data.simulator.render import Camera, Clip, Flare, Truth, render, render_parts, render_visible
from lit_thermal.data.simulator.rig import RIGS, Rig, SecondCamera
from lit_thermal.data.simulator.scene import SCENARIOS, Scenario, ScenarioName, Scene, make_scene

__all__ = [
    "PARTS",
    "RIGS",
    "SCENARIOS",
    "Camera",
    "Clip",
    "Flare",
    "Rig",
    "Scenario",
    "ScenarioName",
    "Scene",
    "SecondCamera",
    "Truth",
    "make_scene",
    "render",
    "render_parts",
    "render_visible",
]
