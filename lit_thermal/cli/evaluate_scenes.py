"""`evaluate scenes`: simulated scenes as files with boxes and masks, to try the tasks without downloads."""

from collections.abc import Sequence
from pathlib import Path

from lit_thermal.cli.parser import Parser
from lit_thermal.errors import check_choice
from lit_thermal.files import check_folder


def main(argv: Sequence[str]) -> int:
    """Write the scenes; returns the exit code."""
    arguments = _parser().parse_args(argv)
    out = Path(arguments.out)
    check_folder(out, "--out")
    from rich.progress import track

    from lit_thermal.data.datamodules.scene_files import write_scenes
    from lit_thermal.data.datamodules.simulated_pairs import SimulatedPairs
    from lit_thermal.data.simulator import ScenarioName

    check_choice(arguments.scenario, ScenarioName, "--scenario")
    data = SimulatedPairs(
        scale=arguments.scale,
        size=arguments.size,
        crop=0,
        train_images=arguments.images,
        val_images=arguments.images,
        test_images=arguments.images,
        scenario=arguments.scenario,
        test_scenario=arguments.scenario,
        seed=arguments.seed,
        num_workers=0,
    )
    for _ in track(write_scenes(data, arguments.split, out), description="Rendering", total=arguments.images):
        pass
    print(f"{arguments.images} scenes in {out}: hr, lr, guide, boxes (Pascal VOC), masks (--mask_format simulated)")
    return 0


def _parser() -> Parser:
    parser = Parser("lit_thermal evaluate scenes", "Write simulated scenes with their boxes and masks to files.")
    add = parser.add_argument
    add("--out", metavar="DIR", required=True, help="folder for the scenes; existing scenes are kept")
    add("--images", type=int, default=64, metavar="N", help="number of scenes (default: 64)")
    add(
        "--split",
        choices=("train", "val", "test"),
        default="test",
        help="split of the simulator; splits share no scenes (default: test)",
    )
    add("--size", type=int, default=192, help="height and width of the target (default: 192)")
    add("--scale", type=int, default=8, help="ratio of the target's size to the input's (default: 8)")
    add("--scenario", default="standard", metavar="NAME", help="kind of scene (default: standard)")
    add("--seed", type=int, default=0, help="seed of all scenes (default: 0)")
    return parser
