"""The embedded data: a renderer of thermal scenes, seeded and fast, with the truth in Kelvin.

    scene = make_scene(seed=0, index=3, scenario="standard")   # what there is, drawn once
    clip = render(scene, truth=True)                           # 7 frames of 128 x 128, boxes, masks, temperatures
    image = render(scene, np.array([2.5]))                     # one frame, at any time
    scene = make_scene(0, 3, visible=True, margin=16)          # with colours, and room to look beside
    guide = render_visible(scene, 0.0, Camera(shift=(4, 0)))   # seen by a second camera beside; `RIGS` has some by name

A scene is a background of surfaces, each with temperature, emissivity and colour, and bodies that move over it at
constant velocity. Every frame is composed on subpixels, at the exact place of everything: temperatures become
radiance between 8 and 14 um (Planck; `planck` states the error), surfaces reflect the sky for the rest of their
emissivity, optics and pixels blur and average it, the sensor adds noise of a stated NETD and turns it into 16-bit
apparent temperature over one range for the clip. Same arguments, same bits, in any process of a platform; numbers
come from NumPy alone, so that threads do not matter.

What is simplified:

- Geometry is flat: layers that move in the image plane. Bodies do not grow as they come nearer, and the ground's
  perspective is in its marks and grain only.
- A second camera at a distance sees bodies move against the background, each as a whole, and the ground with the
  background; its light falls into the lens as a halo, a veil and three ghosts.
- Heat (`heat`) flows in the image plane, across all background surfaces alike, at one diffusivity a scene, 0.03 to
  0.3 pixels squared a frame, and cools to the air at 0.5 to 5 % a frame. That is the heat equation, exactly solved, but
  on a clock that runs thousands of times faster than asphalt's at 30 frames a second: true conduction would not show
  within a clip. The pattern that surfaces have without switching sources is taken as held by the weather.
- Bodies have fixed temperatures and warm what they pass; the heat they leave is put down once a frame.
- All surfaces reflect one sky temperature, diffusely. There is no atmosphere, no shadow in the visible view and no
  sunlight in the band.
- Optics are one Gaussian all over the image; the detector has no time lag. Noise is white, with an offset for each
  pixel and each column that stays through the clip.
- Edges on the 2 x 2 subpixels of a pixel mix temperatures instead of radiances.
"""

from lit_thermal.data.simulator.render import Camera, Clip, Flare, Truth, render, render_visible
from lit_thermal.data.simulator.rig import RIGS, Rig, SecondCamera
from lit_thermal.data.simulator.scene import SCENARIOS, Scenario, ScenarioName, Scene, make_scene

__all__ = [
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
    "render_visible",
]
