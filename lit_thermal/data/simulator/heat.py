"""Conduction and cooling on the scene's surfaces, solved exactly.

The excess temperature u over a surface's steady state obeys ``du/dt = D lap(u) - u / tau + s(x, t)`` on a
rectangle with insulated edges (Neumann). On the half-sample grid its eigenfunctions are the DCT-II cosines, so that
each coefficient decays independently with rate ``D |k|^2 + 1 / tau``, and sources that are constant between switching
times are integrated in closed form, without a time step or stability bound. `CoolingParts` leaves conduction out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]


class Pattern(NamedTuple):
    """A separable pattern with the value ``column[y] * row[x]`` at row y and column x."""

    column: Real
    row: Real


class _Event(NamedTuple):
    time: float
    spectrum: Real
    is_impulse: bool


class HeatField:
    """Excess temperature in Kelvin over time on a (height, width) grid of pitch 1 pixel.

    The solution is exact up to rounding for fields that the grid can represent. Times are in HR frames.

    Args:
        shape: shape (height, width) of the grid.
        diffusivity: diffusivity D >= 0 in pixels squared per frame, the same for all surfaces.
        cooling: rate 1 / tau >= 0 per frame of the loss to the air, proportional to the excess (Newton).
    """

    def __init__(self, shape: tuple[int, int], diffusivity: float, cooling: float = 0.0) -> None:
        self.shape = shape
        self.diffusivity = diffusivity
        self.cooling = cooling
        self._events: list[_Event] = []
        ky, kx = (np.pi * np.arange(n) / n for n in shape)
        self._rate = diffusivity * (ky[:, None] ** 2 + kx**2) + cooling

    def deposit(self, pattern: Pattern | Real, time: float = 0.0) -> None:
        """Add `pattern` (Kelvin) instantly at `time`, as an initial state or the heat left by a passing body."""
        self._events.append(_Event(time, self._spectrum(pattern), True))

    def heat(self, pattern: Pattern | Real, start: float, stop: float) -> None:
        """Add a source of `pattern` (Kelvin per frame) that is active from `start` to `stop`."""
        spectrum = self._spectrum(pattern)
        self._events += [_Event(start, spectrum, False), _Event(stop, -spectrum, False)]

    def at(self, times: Real) -> NDArray[np.float32]:
        """Return the excess temperature (T, height, width) at ascending `times`, including earlier events' effects."""
        events = sorted(self._events, key=lambda event: event.time)
        fields = np.zeros((len(times), *self.shape), np.float32)
        if not events:
            return fields
        now = events[0].time
        state, power = np.zeros(self.shape), np.zeros(self.shape)
        powered = False
        last_step, decay, gain = 0.0, np.ones(self.shape), np.zeros(self.shape)

        def advance(to: float) -> None:
            nonlocal now, last_step, decay, gain
            step = to - now
            if step <= 0:
                return
            if step != last_step:
                decay = np.exp(-self._rate * step)
                with np.errstate(invalid="ignore", divide="ignore"):
                    gain = np.where(self._rate * step > 1e-9, (1 - decay) / self._rate, step)
                last_step = step
            state[...] *= decay
            if powered:
                state[...] += gain * power
            now = to

        for i, time in enumerate(times):
            while events and events[0].time <= time:
                event = events.pop(0)
                advance(event.time)
                if event.is_impulse:
                    state += event.spectrum
                else:
                    power += event.spectrum
                    powered = True
            advance(float(time))
            if now <= time:
                fields[i] = idct(idct(state).T).T
        return fields

    def _spectrum(self, pattern: Pattern | Real) -> Real:
        if isinstance(pattern, Pattern):
            return dct(pattern.column)[:, None] * dct(pattern.row)
        return dct(dct(pattern).T).T


class CoolingParts:
    """Excess temperature in Kelvin of parts without conduction, each of which cools to the air at its own rate.

    Args:
        shape: shape (height, width) of the grid.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._parts: list[tuple[Real, float]] = []

    def add(self, pattern: Real, rate: float) -> None:
        """Add a part with the excess `pattern` (height, width) at time 0, which decays by `rate` per frame."""
        self._parts.append((pattern, rate))

    def at(self, times: Real) -> NDArray[np.float32]:
        """Return the excess temperature (T, height, width) at `times`."""
        fields = np.zeros((len(times), *self.shape))
        for pattern, rate in self._parts:
            fields += np.exp(-rate * np.asarray(times))[:, None, None] * pattern
        return fields.astype(np.float32)


def dct(x: Real) -> Real:
    """Return the DCT-II of the last axis, ``sum_n x_n cos(pi k (n + 1/2) / N)``, computed by one FFT (Makhoul 1980)."""
    n = x.shape[-1]
    half = np.fft.rfft(np.concatenate([x[..., ::2], x[..., 1::2][..., ::-1]], -1))
    half *= np.exp(-0.5j * np.pi * np.arange(n // 2 + 1) / n)
    out = np.empty(x.shape)
    out[..., : n // 2 + 1] = half.real
    out[..., n // 2 + 1 :] = -half.imag[..., 1 : (n + 1) // 2][..., ::-1]
    return out


def idct(x: Real) -> Real:
    """Return the inverse of `dct` along the last axis."""
    n = x.shape[-1]
    mirrored = np.zeros((*x.shape[:-1], n // 2 + 1))
    mirrored[..., 1:] = x[..., : -(n // 2) - 1 : -1]
    half = (x[..., : n // 2 + 1] - 1j * mirrored) * np.exp(0.5j * np.pi * np.arange(n // 2 + 1) / n)
    shuffled = np.fft.irfft(half, n)
    out = np.empty(x.shape)
    out[..., ::2] = shuffled[..., : (n + 1) // 2]
    out[..., 1::2] = shuffled[..., (n + 1) // 2 :][..., ::-1]
    return out
