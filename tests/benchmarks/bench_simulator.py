"""Clips per second that one core renders, each made and rendered anew.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_simulator.py [clips]

Counts processor time, so that a busy machine changes it little.
"""

import sys
import time

from lit_thermal.data.simulator import SCENARIOS, make_scene, render

FRAMES, SIZE = 7, 128


def main(clips: int = 64) -> None:
    """Print a line for each scenario."""
    render(make_scene(0, 0))
    print(f"clips of {FRAMES} x {SIZE} x {SIZE}, one core, {clips} of each scenario")
    print(f"{'scenario':20} {'make ms':>8} {'render ms':>10} {'clips/s':>8}")
    for scenario in SCENARIOS:
        made = rendered = 0.0
        for index in range(clips):
            start = time.process_time()
            scene = make_scene(1, index, size=SIZE, frames=FRAMES, scenario=scenario)  # type: ignore[arg-type]
            middle = time.process_time()
            render(scene, frames=FRAMES)
            made, rendered = made + middle - start, rendered + time.process_time() - middle
        total = made + rendered
        print(f"{scenario:20} {1000 * made / clips:8.1f} {1000 * rendered / clips:10.1f} {clips / total:8.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
