import io
import zlib

import numpy as np
import pytest

from pcodec.pcx.blocks import block
from pcodec.pcx.layout import Header
from pcodec.pcx.seek import seek
from pcodec.pcx.writer import Writer

HEADER = Header(source_rate=16000, bitstream_id=bytes(16))


def stream(*before_end):
    """100 columns, with these blocks put in before the last one."""
    out = io.BytesIO()
    writer = Writer(out, HEADER)
    writer.write(np.arange(2400, dtype=np.uint16).reshape(100, 24) % 1024)
    writer.finish(51200)
    data = out.getvalue()
    return io.BytesIO(data[:-50] + b"".join(before_end) + data[-50:])


def test_a_whole_stream_is_entered_at_the_block_of_the_column():
    assert [seek(stream(), HEADER, c) for c in (0, 31, 32, 99, 500)] == [0, 0, 32, 96, 96]


@pytest.mark.parametrize(
    "odd",
    [
        block(b"X", b"a type that a later version may have"),
        block(b"A", bytes(30), 100, 1),
        b"no block",
        b"\xf5\xb2I\0",
    ],
)
def test_where_the_index_leads_to_no_block_seeking_gives_the_start_and_no_error(odd):
    data = stream(odd)
    assert seek(data, HEADER, 99) == 0
    assert data.tell() == 64


def test_an_index_block_with_a_flag_of_a_later_version_is_not_understood():
    data = bytearray(stream().getvalue())
    place = data.rindex(b"\xf5\xb2I")
    index = bytearray(data[place:-50])
    index[3] = 1
    index[-4:] = zlib.crc32(bytes(index[:-4])).to_bytes(4, "little")
    data[place:-50] = index
    assert seek(io.BytesIO(data), HEADER, 99) == 0
