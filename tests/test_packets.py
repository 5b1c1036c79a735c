import numpy as np
import pytest

from pcodec.pcx.packing import pack


@pytest.fixture(scope="module")
def packed(codec, tokens):
    """Packed columns of real speech."""
    return [pack(column[None], codec.config.bits) for column in tokens[:6]]


def test_a_packet_of_fewer_columns_than_agreed_is_taken(codec, packed):
    with codec.stream_decoder() as decoder:
        one = [decoder.decode_packet(p) for p in packed]
    with codec.stream_decoder() as decoder:
        some = [decoder.decode_packet(b"".join(packed[k : k + 4]), columns=4) for k in (0, 4)]
    # In other steps the last bit of a float32 may be another.
    np.testing.assert_allclose(np.concatenate(one), np.concatenate(some), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "columns", "text"),
    [
        (0, 1, "a packet of 0 bytes: it must be 1 column of 30 bytes"),
        (0, 5, "a packet of 0 bytes: it must be 1 to 5 whole columns of 30 bytes"),
        (29, 1, "29 bytes"),
        (31, 2, "31 bytes"),
        (60, 1, "60 bytes: it must be 1 column"),
        (180, 5, "180 bytes: it must be 1 to 5"),
        (30, 0, "a packet of 0 columns: it must hold at least 1"),
        (None, 0, "a packet of 0 columns: it must hold at least 1"),
        (None, -3, "a packet of -3 columns"),
    ],
)
def test_what_cannot_be_a_packet_is_refused_and_changes_nothing(codec, packed, size, columns, text):
    bad = None if size is None else bytes(size)
    with codec.stream_decoder() as decoder, codec.stream_decoder() as other:
        for k, packet in enumerate(packed):
            if k == 3:
                with pytest.raises(ValueError, match=text):
                    decoder.decode_packet(bad, columns)
            assert np.array_equal(decoder.decode_packet(packet), other.decode_packet(packet))


def test_a_packet_after_the_end_is_refused(codec, packed):
    with codec.stream_decoder() as decoder:
        decoder.finish()
    for packet in (packed[0], None):
        with pytest.raises(ValueError, match="ended"):
            decoder.decode_packet(packet)
