import fuzz


def test_five_thousand_random_damages_do_no_harm():
    result = fuzz.run(5000, seed=1)
    assert sum(result.outcomes.values()) == 5000
    assert min(result.outcomes[kind] for kind in ("refused", "reported", "intact")) > 5
    assert result.memory < 64 * fuzz.MEGABYTE
