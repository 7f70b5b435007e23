"""The command line's private files: rights, other users' links, rotation."""

import os
import stat
from pathlib import Path

import pytest

from sonograph import state

ANOTHER_USER = os.geteuid() + 1


def rights(path: Path) -> str:
    return oct(stat.S_IMODE(path.lstat().st_mode))


def write(path: Path, text: str) -> None:
    with os.fdopen(state.create(path), "w") as file:
        file.write(text)


def test_the_folder_is_made_for_its_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = state.folder(tmp_path / "missing")
    finally:
        os.umask(before)
    assert folder == tmp_path / "missing" / "sonograph"
    assert rights(folder) == "0o700"
    assert state.folder(tmp_path / "missing") == folder


def test_without_a_base_it_is_in_the_state_folder_of_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state.folder() == tmp_path / "sonograph"


@pytest.mark.parametrize("kind", ["another user's", "open to others", "a link to what is open to others"])
def test_a_folder_that_another_user_has_or_can_change_is_refused(kind: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    other.chmod(0o777 if "open" in kind else 0o700)
    if "link" in kind:
        (tmp_path / "sonograph").symlink_to(other)
    else:
        other.rename(tmp_path / "sonograph")
    with pytest.raises(state.NotPrivate, match=r"sonograph is another user's, or others may write to it: .* XDG_STATE_HOME"):
        state.folder(tmp_path, ANOTHER_USER if kind == "another user's" else None)


def test_a_users_link_to_a_folder_of_the_same_user_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "sonograph").symlink_to(tmp_path / "disk")
    write(state.folder(tmp_path) / "log", "a line")
    assert (tmp_path / "disk" / "log").read_text() == "a line"


def test_a_file_is_emptied_and_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "serve-8000.log"
    path.write_text("of the last time")
    path.chmod(0o644)
    write(path, "now")
    assert path.read_text() == "now"
    assert rights(path) == "0o600"


def made(kind: str, path: Path, target: Path) -> None:
    match kind:
        case "symbolic link":
            path.symlink_to(target)
        case "link to nothing":
            path.symlink_to(target.with_name("nothing"))
        case "hard link":
            path.hardlink_to(target)
        case "pipe":
            os.mkfifo(path)


@pytest.mark.parametrize("kind", ["symbolic link", "link to nothing", "hard link", "pipe"])
@pytest.mark.parametrize("use", [state.create, state.make_private])
def test_nothing_is_written_through_a_link_or_into_anything_but_a_file(kind: str, use, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    target.chmod(0o644)
    made(kind, tmp_path / "file", target)
    with pytest.raises((state.NotPrivate, OSError)):
        use(tmp_path / "file")
    assert target.read_text() == "precious"
    assert rights(target) == "0o644"
    assert not target.with_name("nothing").exists()


@pytest.mark.parametrize("use", [state.create, state.make_private])
def test_another_users_file_is_left_as_it_is(use, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("theirs")
    with pytest.raises(state.NotPrivate, match="another user's"):
        use(path, ANOTHER_USER)
    assert path.read_text() == "theirs"


def test_an_existing_file_is_made_private_and_a_missing_one_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "auth_token"
    state.make_private(path)
    assert not path.exists()
    path.write_text("a token")
    path.chmod(0o644)
    state.make_private(path)
    assert rights(path) == "0o600"
    assert path.read_text() == "a token"


def test_a_large_log_is_copied_once_and_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with os.fdopen(state.create(path), "ab", buffering=0) as log:
        for number in range(5):
            log.write(b"%d" % number * 60)
            state.rotate(path, 100)
    assert path.read_bytes() == b"4" * 60
    assert path.with_name("log.1").read_bytes() == b"2" * 60 + b"3" * 60
    assert rights(path.with_name("log.1")) == "0o600"
