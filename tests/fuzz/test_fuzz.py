from pathlib import Path

import coverage_guided
import pytest
import random_damage

HERE = Path(__file__).parent
CORPUS = sorted([*(HERE / "corpus").iterdir(), *(HERE.parent / "golden").glob("*.pcx")])


def test_five_thousand_random_damages_do_no_harm():
    result = random_damage.run(5000, seed=1)
    assert sum(result.outcomes.values()) == 5000
    assert min(result.outcomes[kind] for kind in ("refused", "reported", "intact")) > 5
    assert result.memory < 64 * random_damage.MEGABYTE


def test_two_hundred_random_damages_of_a_compact_stream_do_no_harm():
    result = random_damage.run(200, seed=3, compact=True)
    assert sum(result.outcomes.values()) == 200
    assert result.outcomes["reported"] > 50
    assert result.memory < 64 * random_damage.MEGABYTE


def test_what_coverage_guided_fuzzing_found_is_read_as_promised():
    assert len(CORPUS) > 20
    for path in CORPUS:
        coverage_guided.check(path.read_bytes())


def test_the_fuzzer_tells_a_reader_that_breaks_a_promise(monkeypatch):
    # Else its silence would say nothing.
    data = (HERE.parent / "golden" / "v1_0_file.pcx").read_bytes()
    monkeypatch.setattr(coverage_guided, "seek", lambda *_: 1)
    with pytest.raises(AssertionError, match="entered behind"):
        coverage_guided.check(data)


def test_repaired_damage_passes_the_checksums():
    data = bytearray((HERE.parent / "golden" / "v1_0_file.pcx").read_bytes())
    data[100] ^= 1
    parser = coverage_guided.Parser()
    coverage_guided.read(parser, coverage_guided.repaired(bytes(data)), 1000)
    assert [d.reason for d in parser.damages] == ["the checksum over all indices does not match"]
