"""Export of trained models to ONNX or to a program of torch.export, checked against PyTorch at two sizes."""

import contextlib
import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.nn.attention import SDPBackend, sdpa_kernel

import lit_thermal
from lit_thermal.errors import InputError, check_choice, short
from lit_thermal.files import replacing
from lit_thermal.methods.base import SuperResolver
from lit_thermal.weights.export_graphs import LEAST, MOST, Graph, graph_of

Format = Literal["onnx", "torch"]
TOLERANCE = 1e-3
"""Largest error of values in [0, 1] that an export may have; a quarter of an 8-bit level."""
EXAMPLE = (2, 24, 32)
"""Batch, height and width of the inputs that a graph is traced with."""
CHECKED = ((1, 40, 24), (3, 32, 56))
"""Batch, height and width of the inputs that an export is checked with."""


class Checked(NamedTuple):
    """Comparison of an export with PyTorch."""

    shape: tuple[int, ...]
    """Shape of the thermal input."""
    error: float
    """Largest difference of the restored values, which are in [0, 1]."""


class Exported(NamedTuple):
    """Result of an export."""

    graph: Graph
    checks: list[Checked]


def export(model: SuperResolver, target: Path, format: Format = "onnx") -> Exported:
    """Write a model as a graph with free batch, height and width, completely or not at all.

    Args:
        model: trained model on the CPU, which stays as it is.
        target: file to write.
        format: "onnx", or "torch" for a program of `torch.export`, which `torch.export.load` reads.

    Returns:
        The graph, and its errors at two sizes.

    Raises:
        InputError: the method cannot be exported, packages are missing, or the result differs from PyTorch.
    """
    check_choice(format, Format, "the format of the export")
    if format == "onnx":
        _require()
    graph = graph_of(copy.deepcopy(model)).eval().requires_grad_(False)
    torch.manual_seed(0)
    with _quiet(), torch.no_grad():
        program = _traced(graph)
        with replacing(target) as aside:
            run = _write_onnx(program, graph, aside) if format == "onnx" else _write_torch(program, graph, aside)
            checks = [_checked(graph, run, shape) for shape in CHECKED]
            if not all(check.error <= TOLERANCE for check in checks):
                worst = max(checks, key=lambda check: check.error)
                raise InputError(
                    f"the exported {type(model).__name__} differs from PyTorch by {worst.error:.2g} of the range for "
                    f"an input of {worst.shape}, more than {TOLERANCE:g}: it was not written"
                )
    return Exported(graph, checks)


def _traced(graph: Graph) -> ExportedProgram:
    inputs = graph.example(EXAMPLE[0], *_steps(graph, EXAMPLE[1:]))
    largest = max(8, MOST // graph.multiple)
    batch = Dim("batch", min=1, max=64)
    shapes = graph.shapes(batch, Dim("height", min=LEAST, max=largest), Dim("width", min=LEAST, max=largest))
    try:
        # the other kernels of attention have no form in ONNX
        with sdpa_kernel(SDPBackend.MATH):
            program = torch.export.export(graph, inputs, dynamic_shapes=shapes, strict=False)
            return program.run_decompositions()
    except InputError:
        raise
    except Exception as error:  # each kind of obstacle has its own class
        raise InputError(
            f"{type(graph.model).__name__} with these blocks cannot be exported ({short(error)}): choose other blocks, "
            "or use `lit_thermal upscale`"
        ) from error


def _steps(graph: Graph, sides: Sequence[int]) -> tuple[int, int]:
    """Return height and width in steps of the multiple that the graph needs."""
    height, width = (max(LEAST, -(-side // graph.multiple)) for side in sides)
    return height, width + (height == width)


def _write_onnx(program: ExportedProgram, graph: Graph, path: Path) -> Callable[..., Tensor]:
    import onnxruntime

    try:
        made = torch.onnx.export(
            program, dynamo=True, input_names=list(graph.names), output_names=["restored"], verbose=False
        )
    except Exception as error:  # an operator without a form in ONNX, or a defect of the exporter
        raise InputError(
            f"{type(graph.model).__name__} with these blocks has no form in ONNX ({short(error)}): choose "
            "--format torch, or other blocks"
        ) from error
    assert made is not None
    made.model.metadata_props.update(metadata(graph))
    made.save(str(path))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> Tensor:
        given = {name: value.numpy() for name, value in zip(graph.names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return run


def _write_torch(program: ExportedProgram, graph: Graph, path: Path) -> Callable[..., Tensor]:
    with open(path, "wb") as file:
        torch.export.save(program, file, extra_files={"lit_thermal.json": json.dumps(metadata(graph))})
    with open(path, "rb") as file:
        return torch.export.load(file).module()


def metadata(graph: Graph) -> dict[str, str]:
    """Return the facts that a user of the graph needs: method, scale, mapping of counts and permitted sizes."""
    model = graph.model
    return {
        "method": type(model).__name__,
        "scale": str(model.scale),
        "normalize": model.normalize or "",
        "multiple": str(graph.multiple),
        "least": str(LEAST * graph.multiple),
        "inputs": " | ".join(graph.remarks),
        "version": lit_thermal.__version__,
    }


def _checked(graph: Graph, run: Callable[..., Tensor], shape: Sequence[int]) -> Checked:
    inputs = graph.example(shape[0], *_steps(graph, shape[1:]))
    expected, given = graph(*inputs), run(*inputs)
    error = float((expected - given).abs().max()) if expected.shape == given.shape else float("inf")
    return Checked(tuple(inputs[0].shape), error)


def _require() -> None:
    try:
        import onnxruntime  # noqa: F401 - tells before the work
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError("ONNX needs further packages: pip install 'lit_thermal[export]'") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the messages of the exporter about its own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
