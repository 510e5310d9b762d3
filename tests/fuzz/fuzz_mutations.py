"""Damage to files: seeded, of the kinds that disks, cables, programs and attackers do."""

import random
from collections.abc import Iterator, Sequence

_NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_SIGNS = b"{}[]<>\"',:;=-+.0\0\n\t eE&!"


def mutations(seeds: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` damaged copies of whole files, the same ones for the same `seed`."""
    for index in range(count):
        draw = random.Random(f"{seed} {index}")
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
            data = draw.choice(_KINDS)(data, draw, seeds)
        yield bytes(data)


def _place(data: bytearray, draw: random.Random) -> int:
    """A place in a file; the beginning and the end, where the headers are, more often."""
    near = min(len(data), 200)
    return draw.choice(
        (draw.randrange(near or 1), draw.randrange(len(data) or 1), len(data) - draw.randrange(near or 1))
    )


def _flip(data: bytearray, draw: random.Random, seeds: Sequence[bytes]) -> bytearray:
    for _ in range(draw.choice((1, 1, 2, 8, 40))):
        place = _place(data, draw)
        if place < len(data):
            data[place] ^= 1 << draw.randrange(8)
    return data


def _cut(data: bytearray, draw: random.Random, seeds: Sequence[bytes]) -> bytearray:
    place = _place(data, draw)
    return data[:place] if draw.random() < 0.7 else data[place:]


def _remove(data: bytearray, draw: random.Random, seeds: Sequence[bytes]) -> bytearray:
    place = _place(data, draw)
    return data[:place] + data[place + draw.choice((1, 2, 4, 12, 64, 1000)) :]


def _repeat(data: bytearray, draw: random.Random, seeds: Sequence[bytes]) -> bytearray:
    place, length = _place(data, draw), draw.choice((1, 2, 4, 12, 64, 500))
    return data[:place] + data[place : place + length] * draw.choice((2, 3, 50)) + data[place + length :]


def _splice(data: bytearray, draw: random.Random, seeds: Sequence[bytes]) -> bytearray:
    other = bytearray(draw.choice(seeds))
    start = _place(other, draw)
    piece = other[start : start + draw.choice((4, 16, 100, len(other)))]
    place = _place(data, draw)
    return data[:place] + piece + data[place + (len(piece) if draw.random() < 0.5 else 0) :]


def _number(data: bytearray, draw: random.Random, seeds: Sequence[bytes]) -> bytearray:
    size = draw.choice((1, 2, 4, 4, 8))
    value = draw.choice(_NUMBERS) % 2 ** (8 * size)
    place = _place(data, draw)
    if draw.random() < 0.5:
        place -= place % 2
    data[place : place + size] = value.to_bytes(size, draw.choice(("little", "big")))
    return data


def _sign(data: bytearray, draw: random.Random, seeds: Sequence[bytes]) -> bytearray:
    place = _place(data, draw)
    data[place : place + draw.randrange(2)] = bytes(draw.choice(_SIGNS) for _ in range(draw.choice((1, 1, 2, 30))))
    return data


def _noise(data: bytearray, draw: random.Random, seeds: Sequence[bytes]) -> bytearray:
    place, length = _place(data, draw), draw.choice((4, 30, 300))
    data[place : place + length] = draw.randbytes(length)
    return data


_KINDS = (_flip, _flip, _cut, _remove, _repeat, _splice, _number, _number, _number, _sign, _noise)
