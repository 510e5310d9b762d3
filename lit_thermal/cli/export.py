"""The verb `export`: writes a trained model as an ONNX file or a program of torch.export."""

from collections.abc import Sequence
from pathlib import Path

from lit_thermal.cli.parser import Parser
from lit_thermal.cli.target import check_target


def main(argv: Sequence[str]) -> int:
    """Export one checkpoint; return the exit code."""
    arguments = _parser().parse_args(argv)
    source, target = Path(arguments.checkpoint), Path(arguments.out)
    check_target({"CHECKPOINT": source}, target, arguments.overwrite)
    from lit_thermal.weights import load_model
    from lit_thermal.weights.export import export
    from lit_thermal.weights.export_graphs import LEAST

    model = load_model(arguments.checkpoint)
    graph, checks = export(model, target, arguments.format)
    print(f"{source} -> {target}: {type(model).__name__}, scale {model.scale}, {', '.join(graph.names)} -> restored")
    sides = "any height and width" if graph.multiple == 1 else f"height and width are multiples of {graph.multiple}"
    print(f"lr: values in [0, 1], {sides} from {LEAST * graph.multiple} on, any batch size")
    for remark in graph.remarks:
        print(remark)
    for shape, error in checks:
        print(f"largest error against PyTorch for {'x'.join(map(str, shape))}: {error:.2g}")
    return 0


def _parser() -> Parser:
    parser = Parser("lit_thermal export", "Write a trained model as a graph for other programs, and check it.")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint, published folder or name of a model")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write (.onnx or .pt2)")
    parser.add_argument(
        "--format",
        choices=("onnx", "torch"),
        default="onnx",
        help="onnx, or torch for a program that `torch.export.load` reads (default: onnx)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    return parser
