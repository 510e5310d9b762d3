"""The points of a sweep have the meaning that W&B gives to its specifications."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lit_thermal.errors import InputError
from lit_thermal.sweeping.points import named_points, points
from lit_thermal.sweeping.sweep_file import SweepFile


def sweep(method: str, run_cap: int | None = None, **parameters: dict) -> SweepFile:
    return SweepFile(Path("some.yaml"), "", method, parameters, ("${args}",), run_cap, ())


def test_a_grid_is_the_product_with_the_last_parameter_varying_fastest():
    found = points(sweep("grid", a={"values": [1, 2]}, b={"value": "x"}, c={"min": 3, "max": 5}))
    assert [tuple(point.values()) for point in found] == [(a, "x", c) for a in (1, 2) for c in (3, 4, 5)]
    assert list(found[0]) == ["a", "b", "c"]


def test_the_points_of_a_grid_are_those_of_wandb_s_server():
    """Its `grid_search_next_runs` sorts the names, takes `numpy.arange(min, max, q)`, and makes no point twice."""
    found = points(sweep("grid", b={"values": [1, 2, 1, 1.0]}, a={"distribution": "q_uniform", "min": 0, "max": 3}))
    assert [tuple(point.items()) for point in found] == [(("a", a), ("b", b)) for a in (0, 1, 2) for b in (1, 2)]


def test_a_grid_takes_steps_of_q_and_ends_at_its_cap():
    found = points(sweep("grid", run_cap=4, a={"distribution": "q_uniform", "min": 0.0, "max": 0.5, "q": 0.1}))
    assert [point["a"] for point in found] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert len(points(sweep("grid", run_cap=4, a={"values": list(range(9))}), count=2)) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"min": 1.0, "max": 3.0}, stats.uniform(1, 2)),
        ({"mu": 2.0, "sigma": 0.5}, stats.norm(2, 0.5)),
        ({"distribution": "log_uniform", "min": 0.0, "max": 2.0}, stats.loguniform(1, math.e**2)),
        ({"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1}, stats.loguniform(1e-5, 1e-1)),
        ({"distribution": "inv_log_uniform", "min": 0.0, "max": 2.0}, stats.loguniform(math.e**-2, 1)),
        ({"distribution": "inv_log_uniform_values", "min": 0.1, "max": 10.0}, stats.loguniform(0.1, 10)),
        ({"distribution": "log_normal", "mu": 0.5, "sigma": 0.2}, stats.lognorm(0.2, scale=math.exp(0.5))),
        ({"distribution": "beta", "a": 2, "b": 5}, stats.beta(2, 5)),
        ({"distribution": "beta"}, stats.uniform()),
    ],
)
def test_random_values_have_the_distribution_that_is_named(given, expected):
    drawn = [point["a"] for point in points(sweep("random", a=given), count=2000)]
    assert stats.kstest(drawn, expected.cdf).pvalue > 0.01


def test_random_whole_numbers_and_choices():
    drawn = points(
        sweep(
            "random",
            n={"min": 2, "max": 4},
            c={"values": ["a", "b"], "probabilities": [0.9, 0.1]},
            q={"distribution": "q_log_uniform_values", "min": 10, "max": 1000, "q": 10},
            one={"value": 7},
        ),
        count=2000,
    )
    assert {point["n"] for point in drawn} == {2, 3, 4} and {point["one"] for point in drawn} == {7}
    assert np.mean([point["c"] == "a" for point in drawn]) == pytest.approx(0.9, abs=0.03)
    assert all(point["q"] % 10 == 0 and isinstance(point["q"], int) for point in drawn)


def test_a_random_point_is_the_same_however_many_are_drawn_and_parameters_are_independent():
    both = sweep("random", a={"min": 0.0, "max": 1.0}, b={"min": 0.0, "max": 1.0})
    assert points(both, 5) == points(both, 9)[:5]
    drawn = points(both, 500)
    assert abs(np.corrcoef([p["a"] for p in drawn], [p["b"] for p in drawn])[0, 1]) < 0.12


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("grid", {"values": [1, None]}, "null"),
        ("random", {"value": None}, "null"),
        ("grid", {"min": 0.0, "max": 1.0}, "has no grid"),
        ("grid", {"values": []}, "a list that is not empty"),
        ("grid", {"low": 1}, "the key 'low'"),
        ("grid", {"min": 1}, "needs `value`"),
        ("random", {"distribution": "cauchy", "min": 0, "max": 1}, "'cauchy'"),
        ("random", {"distribution": "uniform", "min": "a", "max": 1}, "min of the parameter a is 'a'"),
        ("random", {"values": [1, 2], "probabilities": [1]}, "one probability"),
        ("grid", {"min": 0, "max": 100_000}, "100001 points"),
        ("grid", {"values": [1, 2], "probabilities": [0.5, 0.5]}, "values with probabilities, which has no grid"),
        ("grid", {"values": [1], "valeus": [2]}, "the key 'valeus'"),
        ("random", {"distribution": "constant"}, "is constant and needs `value`"),
        ("grid", {"distribution": 3, "values": [1]}, "the distribution 3"),
        ("grid", {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, "q of the parameter a is 0"),
        ("grid", {"distribution": "q_uniform", "min": 0, "max": 1, "q": 1e-9}, "10001 points"),
        ("random", {"distribution": "q_normal", "q": "x"}, "q of the parameter a is 'x'"),
        ("grid", {"min": 5, "max": 1}, "min of the parameter a is 5 and above max"),
        ("random", {"min": 5.0, "max": 1.0}, "above max"),
        ("random", {"distribution": "int_uniform", "min": 1.5, "max": 3}, "whole numbers"),
        (
            "random",
            {"distribution": "log_uniform_values", "min": 0, "max": 1},
            "cannot be drawn from log_uniform_values",
        ),
        ("random", {"distribution": "beta", "a": -1}, "cannot be drawn from beta"),
        ("random", {"values": [1, 2], "probabilities": [0, 0]}, "not all 0"),
        ("random", {"values": [1, 2], "probabilities": 3}, "one probability"),
    ],
)
def test_what_cannot_be_understood_is_reported(method, given, message):
    with pytest.raises(InputError, match=r"some\.yaml") as mistake:
        points(sweep(method, a=given), count=3 if method == "random" else None)
    assert message in str(mistake.value)


def test_a_random_search_needs_a_number_of_points():
    with pytest.raises(InputError, match="--count"):
        points(sweep("random", a={"min": 0, "max": 1}))


def test_points_are_named_by_what_varies():
    rows = sweep("grid", config={"values": ["experiments/rows/theris/full.yaml", "rows/b.yaml"]}, x={"value": 1})
    assert list(named_points(rows)) == ["full", "b"]
    assert named_points(rows)["b"] == {"config": "rows/b.yaml", "x": 1}
    grid = sweep("grid", **{"model.init_args.beta": {"values": [0, 0.1]}, "model.beta": {"values": [1, 2]}})
    assert next(iter(named_points(grid))) == "model.init_args.beta=0, model.beta=1"
    assert list(named_points(grid, count=1)) == list(named_points(grid))[:1], "whatever the others are"
    block = sweep("grid", **{"model.mask": {"values": [{"class_path": "A", "init_args": {"k": 1}}, "B"]}})
    assert list(named_points(block)) == ["mask=A", "mask=B"]
    same = sweep("grid", **{"model.mask": {"values": [{"class_path": "A", "k": 1}, {"class_path": "A", "k": 2}]}})
    assert list(named_points(same)) == ["mask=A", "mask=A #1"]
    assert list(named_points(sweep("grid", a={"value": 3}))) == ["a=3"]
