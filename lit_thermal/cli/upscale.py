"""The verb `upscale`: restore a video or a folder of frames with a trained model."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_thermal.cli.device import choose_device
from lit_thermal.cli.parser import Parser
from lit_thermal.data.formats.normalize import HELP, NORMALIZE, check_normalize
from lit_thermal.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

MOST_FPS = 100_000
"""Largest frame rate; FFmpeg stores it as a fraction of 32-bit integers."""


def main(argv: Sequence[str]) -> int:
    """Restore one input; return the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.tile is not None and not 0 <= arguments.overlap < arguments.tile:
        raise InputError(f"--overlap {arguments.overlap} must be at least 0 and below --tile {arguments.tile}")
    if arguments.fps is not None and not 0 < arguments.fps <= MOST_FPS:
        raise InputError(f"--fps {arguments.fps} must be a number above 0, at most {MOST_FPS:,}")
    if arguments.normalize is not None:
        check_normalize(arguments.normalize, "--normalize")
    from lit_thermal.inference.upscale import check_model, open_input, upscale
    from lit_thermal.weights import load_model

    source, target = Path(arguments.input), Path(arguments.output)
    device = choose_device(arguments.device)
    with open_input(
        source, target, arguments.overwrite, temporal_scale=arguments.temporal_scale, fps=arguments.fps
    ) as clip:
        loaded = load_model(arguments.model)
        model, temporal_scale = check_model(loaded, arguments.temporal_scale, arguments.allow_untrained_scale)
        normalize = arguments.normalize or loaded.normalize or NORMALIZE
        check_normalize(normalize, f"the mapping that {arguments.model} was trained with")
        loaded.eval().to(device)
        written = upscale(
            clip,
            target,
            model,
            temporal_scale=temporal_scale,
            tile=arguments.tile,
            overlap=arguments.overlap,
            device=device,
            fps=arguments.fps,
            normalize=normalize,
            progress=_bar,
        )
    height, width = (model.scale * side for side in clip.size)
    print(f"{clip.length} frames of {clip.size[1]}x{clip.size[0]} -> {written} of {width}x{height} in {target}")
    return 0


def _parser() -> Parser:
    parser = Parser("lit_thermal upscale", "Restore a video or a folder of frames with a trained model.")
    parser.add_argument("input", metavar="INPUT", help="folder of frames (8 or 16 bit), or a video file")
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        help="folder for frames of the same bit depth and a video, or a path ending in .mp4, .avi or .mkv for only an "
        "8-bit video",
    )
    parser.add_argument("--model", required=True, metavar="CKPT", help="checkpoint that `fit` wrote")
    parser.add_argument(
        "--temporal_scale", type=int, metavar="S", help="output frames per input frame (default: as trained)"
    )
    parser.add_argument(
        "--allow_untrained_scale",
        action="store_true",
        help="allow a temporal scale for which the model was not trained",
    )
    parser.add_argument(
        "--tile", type=int, metavar="N", help="side of tiles in input pixels; saves memory (default: whole frames)"
    )
    parser.add_argument(
        "--overlap", type=int, default=16, metavar="M", help="input pixels that tiles share (default: 16)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument(
        "--fps",
        type=float,
        help="constant frame rate of the video (default: the times of the input's frames, 25 for a folder of frames)",
    )
    parser.add_argument(
        "--normalize",
        metavar="MAPPING",
        help=f"mapping of 16-bit counts to [0, 1]: {HELP} (default: that of the training, else robust, the range "
        "without isolated dead and hot pixels, which keep their counts)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output of an earlier run")
    return parser


def _bar(frames: "Iterable[Tensor]", total: int) -> "Iterable[Tensor]":
    from rich.progress import track

    return track(frames, description="Restoring", total=total)
