"""The points of a sweep: grid and random search as W&B defines them."""

import itertools
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lit_thermal.errors import InputError
from lit_thermal.shapes import LARGEST
from lit_thermal.sweeping.sweep_file import SweepFile

Point = dict[str, Any]
"""Value of each parameter by name."""

MOST = 10_000
"""Largest number of points; a larger sweep is refused as a mistake."""


def points(sweep: SweepFile, count: int | None = None) -> list[Point]:
    """Return the points of a sweep, in the order of their runs.

    A grid is the product of the parameters' values, with parameters in the order of their names, as on W&B's server:
    the last one varies fastest, every point occurs once, and the grid is cut at `run_cap`. A random search draws every
    parameter independently; point number n is the same in every run, however many points are requested.

    Args:
        sweep: sweep file.
        count: maximum number of points; a random search needs it here or as `run_cap`.

    Raises:
        InputError: a specification is invalid, a value is null, or the number of points is missing.
    """
    limits = [limit for limit in (count, sweep.run_cap) if limit is not None]
    most = min(limits, default=None)
    if sweep.method == "random" and most is not None and most > MOST:
        raise InputError(f"{sweep.path} would have {most} points; {MOST} are the most that are run")
    if sweep.method == "random":
        if most is None:
            raise InputError(f"{sweep.path} draws its points at random; give their number by --count N or run_cap")
        return [
            {name: _draw(sweep, name, random.Random(f"{name} {number}")) for name in sorted(sweep.parameters)}
            for number in range(most)
        ]
    values = {name: _grid(sweep, name) for name in sorted(sweep.parameters)}
    if (size := math.prod(len(v) for v in values.values())) > MOST:
        raise InputError(f"the grid of {sweep.path} has {size} points; {MOST} are the most that are run")
    product = itertools.product(*values.values())
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.islice(product, most)]


def named_points(sweep: SweepFile, count: int | None = None) -> dict[str, Point]:
    """Return the points of a sweep by name, for tables and folders.

    A point that sets only `config` has the name of that file without suffix. Other points are named after their varied
    parameters, as in `beta=0.1, head=residual`; only the last part of a dotted name is used if it is unique. The name
    of a point does not depend on `count`.

    Raises:
        InputError: a specification is invalid, a value is null, or the number of points is missing.
    """
    found = points(sweep, count)
    fixed = {
        name for name, given in sweep.parameters.items() if "value" in given or len(given.get("values", "..")) == 1
    }
    varying = [name for name in sweep.parameters if name not in fixed] or list(sweep.parameters)
    shorts = [name.rsplit(".", 1)[-1] for name in varying]
    labels = {n: s if shorts.count(s) == 1 else n for n, s in zip(varying, shorts, strict=True)}
    names = [", ".join(_label(labels[name], point[name]) for name in varying) for point in found]
    first = {name: names.index(name) for name in names}
    numbered = [name if first[name] == number else f"{name} #{number}" for number, name in enumerate(names)]
    return dict(zip(numbered, found, strict=True))


def _label(name: str, value: Any) -> str:
    if name in ("config", "c"):
        return str(value).rsplit("/", 1)[-1].removesuffix(".yaml")
    if isinstance(value, Mapping):
        value = value.get("class_path", value)
    return f"{name}={value}"


def _grid(sweep: SweepFile, name: str) -> list[Any]:
    """Return the values of a parameter in a grid search."""
    given = sweep.parameters[name]
    kind = _kind(sweep, name)
    if kind == "constant":
        values = [given["value"]]
    elif kind == "categorical" and "probabilities" not in given:
        values = [value for number, value in enumerate(given["values"]) if value not in given["values"][:number]]
    elif kind == "int_uniform":
        low, high = _whole_range(sweep, name)
        if high - low >= MOST:
            raise InputError(
                f"the grid of {sweep.path} has {high - low + 1} points of {name} alone; {MOST} are the most"
            )
        values = list(range(low, high + 1))
    elif kind == "q_uniform":
        low, high = _range(sweep, name)
        step = _step(sweep, name)
        # The upper end is excluded, as on W&B's server.
        values = np.arange(low, high, step).tolist() if (high - low) / step <= MOST else [low] * (MOST + 1)
    else:
        drawn = "values with probabilities" if kind == "categorical" else kind
        raise InputError(
            f"{sweep.path}: the parameter {name} is drawn from {drawn}, which has no grid; give only `values`, "
            "or method: random"
        )
    return [_not_null(sweep, name, value) for value in values]


def _draw(sweep: SweepFile, name: str, rng: random.Random) -> Any:
    """Draw a value of a parameter."""
    given = sweep.parameters[name]
    kind = _kind(sweep, name)
    if kind == "constant":
        return _not_null(sweep, name, given["value"])
    if kind == "categorical":
        return _not_null(sweep, name, rng.choices(given["values"], _probabilities(sweep, name))[0])
    if kind == "int_uniform":
        return rng.randint(*_whole_range(sweep, name))
    if "min" in given or "max" in given:
        _range(sweep, name)
    quantized = kind.startswith("q_")
    try:
        value = _CONTINUOUS[kind.removeprefix("q_")](rng, lambda key, default=None: _number(sweep, name, key, default))
        if not math.isfinite(value):
            raise ValueError(f"it gives {value}")
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise InputError(f"{sweep.path}: the parameter {name} cannot be drawn from {kind}: {error}") from error
    if not quantized:
        return value
    step = _step(sweep, name)
    if not math.isfinite(value / step):
        raise InputError(f"{sweep.path}: q of the parameter {name} is {step}, which is too small for {value}")
    rounded = round(value / step) * step
    return rounded if isinstance(step, float) else int(rounded)


_KEYS = {"distribution", "value", "values", "probabilities", "min", "max", "mu", "sigma", "a", "b", "q"}
Constant = Callable[..., float]
_CONTINUOUS: dict[str, Callable[[random.Random, Constant], float]] = {
    "uniform": lambda rng, of: rng.uniform(of("min"), of("max")),
    # W&B's bounds of log_uniform are exponents of e; those of log_uniform_values are the values themselves.
    "log_uniform": lambda rng, of: math.exp(rng.uniform(of("min"), of("max"))),
    "log_uniform_values": lambda rng, of: math.exp(rng.uniform(math.log(of("min")), math.log(of("max")))),
    "inv_log_uniform": lambda rng, of: math.exp(-rng.uniform(of("min"), of("max"))),
    "inv_log_uniform_values": lambda rng, of: (
        1 / math.exp(rng.uniform(math.log(1 / of("max")), math.log(1 / of("min"))))
    ),
    "normal": lambda rng, of: rng.normalvariate(of("mu", 0.0), of("sigma", 1.0)),
    "log_normal": lambda rng, of: rng.lognormvariate(of("mu", 0.0), of("sigma", 1.0)),
    "beta": lambda rng, of: rng.betavariate(of("a", 1), of("b", 1)),
}
"""Distributions by W&B's names; each also exists with the prefix `q_`, rounded to multiples of `q`."""


def _kind(sweep: SweepFile, name: str) -> str:
    """Return the distribution of a parameter, inferred as W&B does if none is stated."""
    given = sweep.parameters[name]
    if unknown := sorted(map(str, given.keys() - _KEYS)):
        raise InputError(f"{sweep.path}: the parameter {name} has the key {unknown[0]!r}, which is not known")
    kind = given.get("distribution")
    if kind is None:
        if "value" in given:
            return "constant"
        if "values" in given:
            kind = "categorical"
        elif {"min", "max"} <= given.keys():
            kind = "int_uniform" if isinstance(given["min"], int) and isinstance(given["max"], int) else "uniform"
        elif {"mu", "sigma"} <= given.keys():
            kind = "normal"
        else:
            raise InputError(f"{sweep.path}: the parameter {name} needs `value`, `values`, or `min` and `max`")
    if kind == "categorical_w_probabilities":
        kind = "categorical"
    if kind == "categorical" and (not isinstance(given.get("values"), list) or not given["values"]):
        raise InputError(f"{sweep.path}: the parameter {name} needs `values`, a list that is not empty")
    if kind == "constant" and "value" not in given:
        raise InputError(f"{sweep.path}: the parameter {name} is constant and needs `value`")
    if kind not in ("constant", "categorical", "int_uniform") and str(kind).removeprefix("q_") not in _CONTINUOUS:
        raise InputError(f"{sweep.path}: the parameter {name} has the distribution {kind!r}, which is not known")
    return kind


def _number(sweep: SweepFile, name: str, key: str, default: float | None = None) -> Any:
    value = sweep.parameters[name].get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{sweep.path}: {key} of the parameter {name} is {value!r} and must be a number")
    if not abs(value) <= LARGEST:
        raise InputError(f"{sweep.path}: {key} of the parameter {name} is beyond {LARGEST:g}: give a smaller one")
    return value


def _range(sweep: SweepFile, name: str) -> tuple[Any, Any]:
    low, high = _number(sweep, name, "min"), _number(sweep, name, "max")
    if low > high:
        raise InputError(f"{sweep.path}: min of the parameter {name} is {low} and above max, {high}")
    return low, high


def _whole_range(sweep: SweepFile, name: str) -> tuple[int, int]:
    low, high = _range(sweep, name)
    if not isinstance(low, int) or not isinstance(high, int):
        raise InputError(
            f"{sweep.path}: min and max of the parameter {name} must be whole numbers, not {low} and {high}"
        )
    return low, high


def _step(sweep: SweepFile, name: str) -> Any:
    step = _number(sweep, name, "q", 1)
    if step <= 0:
        raise InputError(f"{sweep.path}: q of the parameter {name} is {step} and must be above 0")
    return step


def _probabilities(sweep: SweepFile, name: str) -> list[float] | None:
    given = sweep.parameters[name]
    if "probabilities" not in given:
        return None
    weights = given["probabilities"]
    if not isinstance(weights, list) or len(weights) != len(given["values"]):
        raise InputError(f"{sweep.path}: the parameter {name} needs one probability for each of its values")
    if not all(isinstance(w, (int, float)) and 0 <= w <= LARGEST for w in weights) or not sum(weights) > 0:
        raise InputError(f"{sweep.path}: probabilities of the parameter {name} must be numbers from 0 up, not all 0")
    return weights


def _not_null(sweep: SweepFile, name: str, value: Any) -> Any:
    if value is None:
        raise InputError(
            f"{sweep.path}: the parameter {name} has the value null, which would be passed as the word None; "
            "sweep overlay files through `config` instead"
        )
    return value
