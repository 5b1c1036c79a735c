"""Second-order filters of streams: the encoder's high pass, and what undoes it after decoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pcodec.dsp import HIGH_PASS_HZ, RESTORED_HZ
from pcodec.runtime.state import Array, State, StateKey


def polynomial(hertz: float, sample_rate: int) -> NDArray[np.float64]:
    """s^2 + sqrt(2) w s + w^2 by the bilinear transform with w at ``hertz``: three coefficients."""
    k = np.tan(np.pi * hertz / sample_rate)
    return np.array([1 + 2**0.5 * k + k * k, 2 * (k * k - 1), 1 - 2**0.5 * k + k * k])


class Biquad:
    """A recursive filter of second order on samples (B, n), in double precision.

    It filters blocks, counted from the start of the stream, so that the result does not depend on
    the chunks. Samples that do not fill a block wait. A block is a matrix product; two state
    variables pass from block to block.
    """

    BLOCK = 64
    """Samples per block; half a hop, so that no frame waits for one."""

    def __init__(self, name: str, zeros: float, poles: float, sample_rate: int) -> None:
        """name: of its memory. zeros, poles: Hz, each as of a Butterworth filter."""
        self.waiting, self.memory = StateKey(name, "samples"), StateKey(name, "filter")
        b, a = (polynomial(hertz, sample_rate) for hertz in (zeros, poles))
        b, a = b / a[0], a[1:] / a[0]
        # Transposed direct form II: state <- step @ state + entry * x, y = state[0] + b[0] * x.
        step = np.array([[-a[0], 1.0], [-a[1], 0.0]])
        entry = b[1:] - a * b[0]
        powers = [np.eye(2)]
        for _ in range(self.BLOCK):
            powers.append(step @ powers[-1])
        response = np.array([b[0], *(power[0] @ entry for power in powers[:-2])])
        lags = np.arange(self.BLOCK) - np.arange(self.BLOCK)[:, None]
        self.inside = np.where(lags >= 0, response[lags], 0.0)
        """Matrix (samples in, samples out) of a block."""
        self.onward = np.array([powers[self.BLOCK - 1 - i] @ entry for i in range(self.BLOCK)])
        """Matrix (samples in, states out)."""
        self.carried = powers[self.BLOCK]
        self.ringing = np.array([power[0] for power in powers[:-1]]).T
        """Matrix (states in, samples out)."""

    def __call__(self, x: Array, state: State, last: bool) -> Array:
        """Filters samples (B, n); returns those whose block is complete."""
        waiting: Array = state.get(self.waiting, np.zeros((len(x), 0)))
        states: Array = state.get(self.memory, np.zeros((len(x), 2))).copy()
        x = np.concatenate([waiting, x], 1)
        rest = x.shape[1] % self.BLOCK
        missing = -rest % self.BLOCK if last else 0
        whole = x.shape[1] + missing if last else x.shape[1] - rest
        state[self.waiting] = x[:, whole:].copy()
        x = np.pad(x[:, :whole], ((0, 0), (0, max(0, whole - x.shape[1]))))
        blocks = x.reshape(len(x), -1, self.BLOCK)
        inflow = (blocks @ self.onward).tolist()
        (aa, ab), (ba, bb) = self.carried.tolist()
        begun = np.zeros((len(x), blocks.shape[1], 2))
        for i, ((one, two), added) in enumerate(zip(states.tolist(), inflow, strict=True)):
            before = []
            for more, other in added:
                before.append((one, two))
                one, two = aa * one + ab * two + more, ba * one + bb * two + other
            if before:
                begun[i] = before
            states[i] = one, two
        state[self.memory] = states
        y: Array = (blocks @ self.inside + begun @ self.ringing).reshape(x.shape)
        return y[:, : whole - missing]

    def response(self, seconds: float, sample_rate: int) -> NDArray[np.float64]:
        """The first part of the impulse response."""
        impulse = np.zeros((1, round(seconds * sample_rate)))
        impulse[0, 0] = 1.0
        response: NDArray[np.float64] = self(impulse, {}, last=True)[0]
        return response


def high_pass(sample_rate: int) -> Biquad:
    """A Butterworth high pass at `HIGH_PASS_HZ`; removes offsets and rumble before coding."""
    return Biquad("high pass", 0.0, HIGH_PASS_HZ, sample_rate)


def low_shelf(sample_rate: int) -> Biquad:
    """Undoes the high pass: both together are a Butterworth high pass at `RESTORED_HZ`."""
    return Biquad("low shelf", HIGH_PASS_HZ, RESTORED_HZ, sample_rate)
