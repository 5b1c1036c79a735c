import numpy as np
import pytest

from pcodec.errors import PcodecError
from pcodec.eval import metrics, peers
from pcodec.eval.evaluate import Evaluation, align, delay

RATE = 16000


@pytest.fixture(scope="module")
def opus(speech):
    """Decoded speech by bit rate, aligned."""
    decoded = {}
    for rate in (6, 8, 12):
        try:
            samples = peers.make(f"opus-{rate}").run(speech).decoded
        except peers.AbsentError as error:
            pytest.skip(str(error))
        decoded[rate] = align(samples, delay(speech, samples), len(speech))
    return decoded


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("kitten", "sitting", 3),
        ("abc", "abc", 0),
        ("abc", "", 3),
        ("", "abc", 3),
        ("abc", "abxc", 1),
        ("ab", "ba", 2),
    ],
)
def test_the_edit_distance_counts_what_is_inserted_deleted_and_replaced(a, b, distance):
    assert metrics.edit_distance(list(a), list(b)) == distance


def test_the_recogniser_hears_the_words_of_the_sentence(speech):
    pytest.importorskip("hama")
    heard = "".join(metrics._phones(speech))
    assert heard.endswith("dɔɹzθɔtðitɹi")  # "of doors, thought the tree"


def test_the_original_has_no_phone_errors_nor_has_it_at_a_quarter_of_its_level(speech):
    pytest.importorskip("hama")
    assert metrics.phone_error_rate(speech, speech) == 0
    assert metrics.phone_error_rate(speech, speech / 4) == 0


def test_silence_in_place_of_speech_has_lost_every_phone(speech):
    pytest.importorskip("hama")
    assert metrics.phone_error_rate(speech, 0 * speech) == 100
    with pytest.raises(metrics.MetricUndefined, match="no phone is recognised in the original"):
        metrics.phone_error_rate(0 * speech, speech)


def test_half_of_the_speech_has_lost_about_half_of_the_phones(speech):
    pytest.importorskip("hama")
    half = np.where(np.arange(len(speech)) < len(speech) / 2, speech, 0)
    assert metrics.phone_error_rate(speech, half) == pytest.approx(50, abs=15)


def test_more_phones_are_mistaken_at_lower_rates_of_opus(speech, opus):
    pytest.importorskip("hama")
    errors = {rate: metrics.phone_error_rate(speech, decoded) for rate, decoded in opus.items()}
    assert errors[6] > 2 * errors[8] and errors[8] >= errors[12], errors


@pytest.mark.parametrize(
    ("levels", "theirs"), [(None, 0.594), (256, 1.012), (64, 1.719), (32, 2.3)]
)
def test_warpq_gives_the_figures_of_its_authors_package(speech, levels, theirs):
    """``theirs`` is what warpq 1.5.2 says of the same samples, rounded to so many levels."""
    pytest.importorskip("webrtcvad")
    decoded = np.round(speech * levels) / np.float32(levels) if levels else speech
    assert metrics.warpq(speech, decoded) == pytest.approx(theirs, abs=6e-4)


def test_warpq_ranks_opus_by_its_rate(speech, opus):
    pytest.importorskip("webrtcvad")
    costs = {rate: metrics.warpq(speech, decoded) for rate, decoded in opus.items()}
    assert costs[6] > costs[8] > costs[12] > metrics.warpq(speech, speech), costs


def test_warpq_says_nothing_of_silence_or_of_a_syllable(speech):
    pytest.importorskip("webrtcvad")
    for silent in (0 * speech, speech[: RATE // 4]):
        with pytest.raises(metrics.MetricUndefined, match=r"less than 0\.4 s of speech"):
            metrics.warpq(silent, silent)


def test_a_metric_whose_package_is_not_here_is_refused_before_the_work(tmp_path, monkeypatch):
    absent = metrics.Metric("ear", "ear", metrics.stoi, package="ears", distribution="no-such-ears")
    monkeypatch.setitem(metrics.METRICS, "ear", absent)
    with pytest.raises(
        PcodecError, match=r"ear needs the package no-such-ears: pip install '.\[ev"
    ):
        Evaluation(tmp_path, ["original"], ["ear"], None, 1, tmp_path)
