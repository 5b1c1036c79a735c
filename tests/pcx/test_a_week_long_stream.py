"""Numbers beyond 2^24, without the week; benchmarks/week.py writes and reads it all."""

import io

import numpy as np
import pytest

from pcodec import models
from pcodec.pcx.parser import Parser
from pcodec.pcx.seek import seek
from pcodec.pcx.transcode import PcxReader
from pcodec.pcx.writer import Writer

WEEK = 7 * 24 * 3600 * 125 // 4
"""columns"""


@pytest.fixture(scope="module")
def header():
    return models.find().header(16000)


@pytest.fixture(scope="module")
def last_columns(header):
    return np.random.default_rng(7).integers(0, 1 << header.bits, (400, header.rows), np.uint16)


@pytest.fixture(scope="module")
def stream(header, last_columns):
    """The end of what a writer puts out that has been at it for a week."""
    out = io.BytesIO()
    writer = Writer(out, header)
    writer.columns = WEEK - len(last_columns)
    writer.write(last_columns)
    samples = WEEK * header.column_samples - 100
    writer.finish(samples, {"source_frames": samples})
    return out


@pytest.mark.parametrize("back", [400, 399, 369, 368, 33, 1])
def test_a_column_near_the_end_of_a_week_is_found_and_is_the_right_one(
    stream, header, last_columns, back
):
    first = seek(stream, header, WEEK - back)
    assert 0 <= WEEK - back - first < 32
    parser = Parser(header, first)
    pieces = parser.feed(stream.read()) + parser.close()
    assert not parser.damages
    assert pieces[0].first_column == first and parser.next_column == WEEK
    assert np.array_equal(
        np.concatenate([p.indices for p in pieces])[WEEK - back - first :], last_columns[-back:]
    )


def test_a_hole_near_the_end_of_a_week_is_where_it_is_and_as_long_as_it_is(stream, header):
    first = seek(stream, header, WEEK - 400)
    data = bytearray(stream.read())
    data[2000] ^= 1  # in the third block
    parser = Parser(header, first)
    parser.feed(bytes(data))
    parser.close()
    assert [(d.first_column, d.columns) for d in parser.damages] == [(WEEK - 400 + 64, 32)]


def test_the_last_two_seconds_of_a_week_are_decoded_to_the_sample(
    codec, stream, header, last_columns
):
    start = 7 * 24 * 3600 - 2
    stream.seek(0)
    decoding = PcxReader(stream, start=float(start), codec=codec)
    heard = np.concatenate(list(decoding.blocks()))
    assert not decoding.damages
    assert len(heard) == 2 * 16000 - 100
    # What a decoder gives that began as far ahead.
    began = WEEK - 63 - 64
    with codec.stream_decoder(began) as decoder:
        whole = np.concatenate([decoder.push(last_columns[-127:]), decoder.finish()])
    skip = start * 16000 - began * header.column_samples
    assert np.abs(heard - whole[skip : skip + len(heard)]).max() < 1e-4
