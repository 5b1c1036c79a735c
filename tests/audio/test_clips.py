"""Lists of clips: folders, tsv files, single files."""

import pytest

from pcodec.audio.clips import find_clips, read_list
from pcodec.errors import AudioError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_is_its_audio_in_order_and_its_folders_are_speakers(tmp_path):
    touch(tmp_path, "ben/2.WAV", "ben/1.flac", "anna/3.mp3", "notes.txt", "anna/a.pcx")
    clips = find_clips(tmp_path)
    assert clips == [
        (tmp_path / "anna/3.mp3", str(tmp_path / "anna")),
        (tmp_path / "ben/1.flac", str(tmp_path / "ben")),
        (tmp_path / "ben/2.WAV", str(tmp_path / "ben")),
    ]
    assert read_list(tmp_path)[0][1] == {"path": "anna/3.mp3"}


def test_a_file_is_a_list_of_itself(tmp_path):
    touch(tmp_path, "a.wav")
    assert read_list(tmp_path / "a.wav") == [(tmp_path / "a.wav", {"path": "a.wav"})]


def test_the_paths_of_a_list_count_from_its_folder(tmp_path):
    (tmp_path / "list.tsv").write_text("speaker\tpath\nanna\tx/a.wav\n\t/b.wav\n")
    (tmp_path / "x").mkdir()
    first, second = find_clips(tmp_path / "list.tsv")
    assert first == (tmp_path / "x/a.wav", "anna")
    assert second[0].as_posix() == "/b.wav" and second[1] == "/"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "with a column 'path'"),
        ("file\ta\nx.wav\tb\n", "with a column 'path'"),
        ("paths\nx.wav\n", "but 'paths'"),
        ("path\tspeakr\nx.wav\tanna\n", "no column 'speaker', but 'speakr'"),
        ("path\tspeaker\n\tanna\n", "line 2 has no path"),
    ],
)
def test_what_is_no_list_is_refused_with_the_reason(tmp_path, text, word):
    (tmp_path / "list.tsv").write_text(text)
    with pytest.raises(AudioError, match=word):
        find_clips(tmp_path / "list.tsv")
