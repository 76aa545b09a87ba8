"""Which videos a command line names, in which order, and what they are called."""

import os
from pathlib import Path

import pytest

from evlgen.captioning import MEDIA_EXTENSIONS, find_videos
from evlgen.errors import UsageError


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a/{1,2,10}.mp4, a/sub/1.MKV, b/1.mp4, and what must not be found."""
    for name in ("a/1.mp4", "a/2.mp4", "a/10.mp4", "a/sub/1.MKV", "b/1.mp4", "b/notes.txt", "b/data.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("a/.hidden.mp4", "a/.cache/x.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*sources: str, stdin: tuple[str, ...] = ()) -> list[str]:
    return [video.name for video in find_videos(sources, stdin)]


def test_a_folder_is_searched_in_natural_order_without_hidden_things() -> None:
    assert names("a") == ["1.mp4", "2.mp4", "10.mp4", "sub/1.MKV"]


def test_order_and_names_do_not_depend_on_where_the_command_is_run(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = names("a")
    monkeypatch.chdir("a")
    assert names(".") == names(str(tree / "a")) == names("../a") == here


def test_a_hidden_folder_that_is_named_is_searched() -> None:
    assert names("a/.cache") == ["x.mp4"]


def test_equal_basenames_in_two_folders_get_two_names() -> None:
    assert names("a", "b") == ["a/1.mp4", "a/2.mp4", "a/10.mp4", "a/sub/1.MKV", "b/1.mp4"]


def test_a_file_is_named_as_its_folder_would_name_it() -> None:
    assert names("a/2.mp4") == ["2.mp4"]
    assert names("a/1.mp4", "b/1.mp4") == ["a/1.mp4", "b/1.mp4"]


def test_what_is_named_twice_is_found_once() -> None:
    assert names("a", "a/1.mp4", "./a/../a") == names("a")


def test_a_file_that_is_named_may_have_any_extension() -> None:
    assert names("b/data.bin") == ["data.bin"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/*.mp4", ["1.mp4", "2.mp4", "10.mp4"]),
        ("*/1.mp4", ["a/1.mp4", "b/1.mp4"]),
        ("**/1.*", ["a/1.mp4", "a/sub/1.MKV", "b/1.mp4"]),
        ("b/*", ["1.mp4"]),
        ("b/*.bin", ["data.bin"]),
        ("a/s*", ["sub/1.MKV"]),
    ],
)
def test_globs(pattern: str, expected: list[str]) -> None:
    assert names(pattern) == expected


def test_a_glob_in_a_folder_whose_own_name_looks_like_a_glob(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tree / "odd [1]"
    odd.mkdir()
    (odd / "x[2].mp4").touch()
    monkeypatch.chdir(odd)
    assert names("*.mp4") == ["x[2].mp4"]
    assert names("x[2].mp4") == ["x[2].mp4"]
    assert names(str(odd)) == ["x[2].mp4"]


def test_a_list_keeps_its_order_and_names_relative_to_the_working_directory(tree: Path) -> None:
    (tree / "list.txt").write_bytes(b"\xef\xbb\xbfb/1.mp4\r\n\na/2.mp4\nb/data.bin\n")
    assert names("@list.txt") == ["b/1.mp4", "a/2.mp4", "b/data.bin"]
    assert names("-", stdin=("a/10.mp4\n", "a/2.mp4")) == ["a/10.mp4", "a/2.mp4"]


def test_part_of_a_list_gives_the_same_names() -> None:
    entries = ("a/1.mp4\n", "b/1.mp4\n", "/elsewhere/1.mp4\n")
    assert [*names("-", stdin=entries[:1]), *names("-", stdin=entries[1:])] == names("-", stdin=entries)


def test_a_list_may_name_what_does_not_exist() -> None:
    assert names("-", stdin=("gone.mp4\n",)) == ["gone.mp4"]


def test_a_folder_and_a_list_never_share_a_name() -> None:
    found = names("a", "-", stdin=("1.mp4\n",))
    assert len(set(found)) == len(found) == 5


def test_a_loop_of_links_ends(tree: Path) -> None:
    (tree / "a" / "loop").symlink_to(tree / "a", target_is_directory=True)
    assert len(names("a")) == 4


@pytest.mark.skipif(os.name == "nt", reason="Windows names are always text")
def test_names_that_are_not_utf8_are_found(tree: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tree / "b") + b"/caf\xe9.mp4")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert names("b") == ["1.mp4", "caf\udce9.mp4"]


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"no such file, folder or match: nope\.mp4, c/\*\.mp4 \("):
        find_videos(["nope.mp4", "a", "c/*.mp4"])


def test_nothing_found_says_what_was_looked_for(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        find_videos(["empty"])
    assert str(caught.value).startswith("no video or picture in empty (looked, in sub-folders too, for .3g2 .3gp ")
    assert all(extension in str(caught.value) for extension in MEDIA_EXTENSIONS)


def test_a_list_that_cannot_be_read_says_so() -> None:
    with pytest.raises(UsageError, match=r"cannot read the list nope\.txt: No such file"):
        find_videos(["@nope.txt"])


def test_names_can_be_relative_to_a_given_root(tree: Path) -> None:
    found = find_videos([str(tree / "a/1.mp4"), str(tree / "a/sub/1.MKV")], root=tree)
    assert [video.name for video in found] == ["a/1.mp4", "a/sub/1.MKV"]
