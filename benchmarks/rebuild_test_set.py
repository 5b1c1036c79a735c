"""The test set, rebuilt from the corpus that it is a part of.

    python benchmarks/rebuild_test_set.py CORPUS OUT [--list LIST]

CORPUS is the folder of LibriSpeech's test-clean, as https://www.openslr.org/12 gives it, or one
above it. LIST, docs/data/test.tsv unless told otherwise, has an utterance per line: its id at the
end of the file's name, after "__", and the SHA-256 of its samples (16 bits, little-endian). OUT
then has the utterances, each as it is in the corpus, and the list, which `pcodec eval` takes.
Nothing is written unless all are there and have these samples.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
import sys
from pathlib import Path

import soundfile

LIST = Path(__file__).parent.parent / "docs" / "data" / "test.tsv"


def checksum(path: Path) -> str:
    """SHA-256 of a file's samples, 16 bits, little-endian."""
    samples, _ = soundfile.read(path, dtype="int16")
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


def utterance(row: dict[str, str]) -> str:
    """The id of a row's utterance."""
    return Path(row["path"]).stem.rpartition("__")[2]


def rebuild(corpus: Path, out: Path, list_: Path = LIST) -> list[str]:
    """Rebuilds the set in a folder; gives what is wrong with the corpus, if anything."""
    with list_.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    wanted = {utterance(row) for row in rows}
    found = {path.stem: path for path in corpus.rglob("*.flac") if path.stem in wanted}
    wrong = [f"{u}: not in {corpus}" for u in sorted(wanted - set(found))]
    wrong += [
        f"{found[utterance(row)]}: other samples than the test set's"
        for row in rows
        if utterance(row) in found and checksum(found[utterance(row)]) != row["sha256"]
    ]
    if wrong:
        return wrong
    for row in rows:
        target = out / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found[utterance(row)], target)
    shutil.copyfile(list_, out / list_.name)
    return []


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--list", type=Path, default=LIST)
    arguments = parser.parse_args()
    wrong = rebuild(arguments.corpus, arguments.out, arguments.list)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        print(f"{len(wrong)} of the utterances; nothing is written", file=sys.stderr)
        return 1
    rebuilt = arguments.out / arguments.list.name
    print(f"{rebuilt}: rebuilt; pcodec eval {rebuilt} measures on it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
