"""What the shipped model makes of the shipped sentence: nothing may change it unnoticed.

A changed constant or an edited filter would still decode, only to other tokens or worse sound. When
the model is trained anew, its tokens are others: then these figures change with the weights, in the
same commit.
"""

import hashlib

from pcodec.eval.metrics import METRICS

TOKENS = "b803dade0ae2fc7eb3d3046369e1bb054712461b88cb38acbeed1a1745a931fd"
"""SHA-256 of the tokens of tests/speech.flac, little-endian uint16, row by row."""

FLOOR = {"pesq": 3.75, "stoi": 0.945}


def test_the_tokens_of_the_shipped_sentence_are_what_they_were(tokens):
    assert hashlib.sha256(tokens.astype("<u2").tobytes()).hexdigest() == TOKENS


def test_the_shipped_sentence_does_not_sound_worse_than_it_did(codec, tokens, speech):
    decoded = codec.from_tokens(tokens)[: len(speech)]
    scores = {name: METRICS[name].score(speech, decoded) for name in FLOOR}
    assert all(scores[name] >= floor for name, floor in FLOOR.items()), scores
