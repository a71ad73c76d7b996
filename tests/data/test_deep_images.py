"""Images of more than 8 bits keep their range: never all white, never all black."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.readers.images import UNDECODABLE, canonical

RAMP = np.tile(np.linspace(0, 65_535, 16).astype(np.uint16), (16, 1))
EIGHT = (RAMP >> 8).astype(np.uint8)


def pillow(values: np.ndarray, kind: str = "TIFF", **more: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **more)
    return stream.getvalue()


def pnm(magic: bytes, most: int, values: np.ndarray) -> bytes:
    return b"%s\n16 16\n%d\n" % (magic, most) + values.astype(">u2").tobytes()


DEEP = {
    "png of 16 bits": pillow(RAMP, "PNG"),
    "tiff of 16 bits": pillow(RAMP),
    "tiff of 16 bits, big-endian": pillow(RAMP.astype(">u2")),
    "pgm of 16 bits": pnm(b"P5", 65_535, RAMP),
    "pgm of 12 bits": pnm(b"P5", 4095, RAMP >> 4),
    "ppm of 16 bits": pnm(b"P6", 65_535, np.repeat(RAMP[:, :, None], 3, 2)),
    "pgm in words": b"P2\n16 16\n65535\n" + b" ".join(b"%d" % v for v in RAMP.ravel()),
    "tiff of 32 bits": pillow(RAMP.astype(np.int32)),
    "tiff of 32 bits, small values": pillow(EIGHT.astype(np.int32)),
    "tiff of 32 bits, large values": pillow(RAMP.astype(np.int32) * 30_000),
    "tiff of 32 bits, below 0": pillow(RAMP.astype(np.int32) - 1000),
    "tiff of 16 bits, small values": pillow(EIGHT.astype(np.uint16)),
    "tiff of floats to 1": pillow((RAMP / 65_535).astype(np.float32)),
    "tiff of floats to 255": pillow(EIGHT.astype(np.float32)),
    "tiff of other floats": pillow((RAMP * 3.0 - 500).astype(np.float32)),
    "pfm": b"Pf\n16 16\n-1.0\n" + (RAMP / 65_535).astype("<f4").tobytes(),
}


@pytest.mark.parametrize("name", DEEP)
def test_grey_of_16_and_32_bits_keeps_its_range(name: str) -> None:
    assert canonical(DEEP[name], 16)[:, :, 1].tolist() == EIGHT.tolist()


def test_white_may_be_zero() -> None:
    values = np.asarray(Image.open(io.BytesIO(DEEP["tiff of 16 bits"])))
    assert canonical(pillow(65_535 - values, tiffinfo={262: 0}), 16)[:, :, 0].tolist() == EIGHT.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_grey_that_is_no_number_is_undecodable(value: float) -> None:
    values = np.ones((16, 16), np.float32)
    values[3, 4] = value
    with pytest.raises(UNDECODABLE, match="NaN or infinite"):
        canonical(pillow(values), 16)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
def test_no_grey_of_two_values_becomes_one(first: int, second: int) -> None:
    """Unless they differ by less than a step of 8 bits in an image of 16."""
    values = np.full((8, 8), first, np.int32)
    values[:, 4:] = second
    seen = canonical(pillow(values), 8)[0, :, 0]
    order = np.sign(int(seen[-1]) - int(seen[0]))
    assert order in (0, np.sign(second - first))
    if order == 0 and first != second:
        assert 0 <= min(first, second)
        assert max(first, second) <= 0xFFFF
        assert first >> 8 == second >> 8
