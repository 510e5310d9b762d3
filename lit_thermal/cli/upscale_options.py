"""Options of the verb `upscale`, and their checks, which need no heavy package."""

import argparse
import os
import re
from pathlib import Path

from lit_thermal.cli.parser import Parser
from lit_thermal.data.formats.normalize import HELP, check_normalize
from lit_thermal.errors import InputError

MOST_FPS = 100_000
"""Largest frame rate; FFmpeg stores it as a fraction of 32-bit integers."""
SUFFIXES = {"tif": ".tif", "png": ".png"}
FORM = "lit_thermal upscale INPUT... -o OUTPUT [--model CKPT]"


def parser() -> Parser:
    """Return the parser of the verb."""
    made = Parser(
        "lit_thermal upscale",
        "Restore files of any kind with a trained model: images, files of thermal cameras, videos, and folders of "
        "them. Each result has the kind, depth and temperature scale of its input.",
    )
    made.add_argument(
        "input",
        nargs="+",
        metavar="INPUT",
        help="image, radiometric file, video, folder of these, or a .txt file that lists one path per line; a model of "
        "video takes a folder of frames as one clip",
    )
    made.add_argument(
        "-o",
        "--output",
        metavar="OUTPUT",
        help="folder for the results under the names of the inputs; for a single image also its file (.png, .tif, "
        ".bmp), for a single clip a folder of frames with a video, a video file (.mp4, .avi, .mkv) or a TIFF "
        "with a page per frame",
    )
    made.add_argument(
        "--model",
        metavar="CKPT",
        help="checkpoint that `fit` wrote, folder that `publish` wrote, owner/name on the hub, or a model that comes "
        "with this package: x4, x8_guided or video (default: the one of these that fits the input)",
    )
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    made.add_argument(
        "--precision", choices=["32", "bf16"], default="32", help="number format; bf16 is faster on GPUs (default: 32)"
    )
    made.add_argument("--overwrite", action="store_true", help="replace results of earlier runs, which else stay")
    made.add_argument(
        "--shard", metavar="I/N", help="restore only every N-th input, beginning with the I-th, on one of N machines"
    )
    _add_images(made)
    _add_memory(made)
    _add_clips(made)
    return made


def _add_images(made: Parser) -> None:
    group = made.add_argument_group("images")
    group.add_argument(
        "--guide",
        metavar="FILE|FOLDER|embedded",
        help="visible image, folder of visible images with the names of the inputs, or 'embedded': the photo inside "
        "each radiometric file, registered to the thermal view",
    )
    group.add_argument(
        "--format",
        choices=sorted(SUFFIXES),
        help="format of restored images (default: that of the input; JPEG becomes PNG, other formats of cameras TIFF)",
    )
    group.add_argument(
        "--palette",
        metavar="NAME",
        help="also write a colour view with a temperature bar, <name>_view.png, in a colour map of matplotlib: "
        "inferno, hot, gray, ...",
    )
    group.add_argument(
        "--normalize",
        metavar="MAPPING",
        help=f"mapping of 16-bit counts to [0, 1]: {HELP} (default: that of the training, else robust, the range "
        "without isolated dead and hot pixels, which keep their counts)",
    )
    group.add_argument(
        "--check",
        action="store_true",
        help="print how far each result, reduced again, is from its input, in kelvin where temperatures are known",
    )
    group.add_argument(
        "--fidelity",
        type=float,
        default=0.0,
        metavar="F",
        help="agreement with the input from 0 to 1: share of the difference between the input and the reduced result "
        "that is added back; 1 agrees best, but brings the noise of the input back (default: 0)",
    )
    group.add_argument(
        "--samples",
        type=int,
        default=1,
        metavar="N",
        help="for methods that draw at random: write the mean of N samples, and their standard deviation as "
        "<name>_std.tif (default: 1)",
    )


def _add_memory(made: Parser) -> None:
    group = made.add_argument_group("memory")
    group.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="side of tiles in input pixels; saves memory (default: frames of a video and images of up to a million "
        "pixels are whole, larger images are cut into tiles of 512)",
    )
    group.add_argument(
        "--overlap", type=int, default=16, metavar="M", help="input pixels that tiles share (default: 16)"
    )
    group.add_argument(
        "--batch", type=int, default=1, metavar="B", help="images or tiles that are restored at once (default: 1)"
    )


def _add_clips(made: Parser) -> None:
    group = made.add_argument_group("video")
    group.add_argument(
        "--temporal_scale",
        type=int,
        metavar="S",
        help="output frames per input frame (default: as trained); 1 restores in space only",
    )
    group.add_argument(
        "--allow_untrained_scale",
        action="store_true",
        help="allow a temporal scale for which the model was not trained",
    )
    group.add_argument(
        "--fps",
        type=float,
        help="constant frame rate of the video (default: the times of the input's frames, 25 for a folder of frames)",
    )


def check(given: argparse.Namespace) -> None:
    """Check all options and the existence of the inputs before torch is imported.

    Raises:
        InputError: an option is missing or out of range, or an input does not exist.
    """
    if given.output is None:
        raise InputError(f"the output is given by -o: write `{FORM}`")
    if given.tile is not None and not 0 <= given.overlap < given.tile:
        raise InputError(f"--overlap {given.overlap} must be at least 0 and below --tile {given.tile}")
    if given.overlap < 0:
        raise InputError(f"--overlap {given.overlap} must be at least 0")
    if given.fps is not None and not 0 < given.fps <= MOST_FPS:
        raise InputError(f"--fps {given.fps} must be a number above 0, at most {MOST_FPS:,}")
    if given.normalize is not None:
        check_normalize(given.normalize, "--normalize")
    for name in ("batch", "samples"):
        if getattr(given, name) < 1:
            raise InputError(f"--{name} {getattr(given, name)} must be at least 1")
    if not 0 <= given.fidelity <= 1:
        raise InputError(f"--fidelity {given.fidelity} must be a number from 0 to 1")
    for word in given.input:
        if "\0" in word or not os.path.lexists(word):
            raise InputError(f"INPUT {word!r} does not exist")


def part(text: str | None) -> tuple[int, int]:
    """Return the part I/N of the inputs to restore, as (I, N).

    Raises:
        InputError: the text is not of this form.
    """
    if text is None:
        return 1, 1
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--shard {text} must be I/N with I from 1 to N, such as 1/4")
    return int(found[1]), int(found[2])


def output_path(given: argparse.Namespace) -> Path:
    """Return the output, whose name may not hold a NUL character.

    Raises:
        InputError: it does.
    """
    if "\0" in given.output:
        raise InputError(f"OUTPUT {given.output!r} is not a valid file name: name another")
    return Path(given.output)
