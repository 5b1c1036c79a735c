import fuzz


def test_five_thousand_random_damages_do_no_harm():
    assert fuzz.run(5000, seed=1) < 64 * fuzz.MEGABYTE
