import json
import time
import tracemalloc

import numpy as np
import pytest

from pcodec.pcx.blocks import block
from pcodec.pcx.layout import Header
from pcodec.pcx.parser import MAX_TAGS, Parser
from pcodec.pcx.writer import Writer

HEADER = Header(source_rate=16000, bitstream_id=bytes(16))


def read(blocks):
    """A reader after a header and these blocks."""
    parser = Parser()
    parser.feed(HEADER.to_bytes())
    for data in blocks:
        parser.feed(data)
    return parser


def tag(payload):
    return block(b"t", payload)


@pytest.mark.parametrize("value", [b"NaN", b"-Infinity", b"1e999", b"[[-1e999]]"])
def test_a_number_that_json_does_not_have_is_no_tag(value):
    parser = read([tag(b'{"source_frames":%s}' % value)])
    assert [d.reason for d in parser.damages] == ["unreadable tags"]
    assert parser.tags == {}


def test_an_endless_stream_of_new_tags_is_noted_and_does_not_fill_the_memory():
    # Empty lists: the most memory that a byte of JSON can ask for.
    value = "[" + ",".join(["[]"] * 20_000) + "]"
    blocks = (
        tag(json.dumps({str(k): 0}).encode()[:-2] + value.encode() + b"}") for k in range(300)
    )
    tracemalloc.start()
    parser = read(blocks)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(json.dumps(parser.tags)) < 2 * MAX_TAGS
    assert {d.reason for d in parser.damages} == {"unreadable tags"}
    assert memory < 16 << 20


def test_a_tag_may_be_replaced_for_ever():
    parser = read(tag(b'{"place":"%d"}' % k) for k in range(10_000))
    assert parser.tags == {"place": "9999"} and not parser.damages


def test_tags_that_nearly_fill_the_room_do_not_make_each_later_block_slow():
    large = tag(b'{"large":"%s"}' % (b"x" * 65_000))
    small = tag(b'{"a":1}')
    started = time.process_time()
    read([large, small * 20_000])
    assert time.process_time() - started < 10


def test_the_largest_tags_that_a_writer_puts_out_are_read(tmp_path):
    tags = {"note": "x" * 65_000}
    with (tmp_path / "a.pcx").open("wb") as file:
        writer = Writer(file, HEADER)
        writer.write(np.zeros((3, 24), np.uint16))
        writer.finish(1536, tags)
    parser = Parser()
    parser.feed((tmp_path / "a.pcx").read_bytes())
    parser.close()
    assert parser.tags == tags and not parser.damages
