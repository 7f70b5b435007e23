"""Files that the command line keeps for its user, in the state folder of XDG: no other user can read them or redirect them."""

import os
import stat
from pathlib import Path

import platformdirs

RAY_TOKEN = Path("~/.ray/auth_token")
"""Ray's token, whose readers can run code as this user through Ray's ports. Ray makes it with its process's default mode."""


class NotPrivate(Exception):
    """A file or folder that another user has made, or could change; its text names it and the remedy."""


def folder(base: Path | None = None, user: int | None = None) -> Path:
    """`sonograph` in `base` (without it `$XDG_STATE_HOME`, by default `~/.local/state`), made where it is missing.

    Raises NotPrivate where it is not `user`'s (without it this process's), OSError where it cannot be made.
    """
    path = platformdirs.user_state_path("sonograph") if base is None else base / "sonograph"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    for found in (path.lstat(), path.stat()):  # of a link itself, and of its target
        if found.st_uid != _user(user) or (not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o022):
            raise NotPrivate(
                f"{path} is another user's, or others may write to it: remove it, or set XDG_STATE_HOME to a folder of yours"
            )
    return path


def create(path: Path, user: int | None = None) -> int:
    """A file descriptor that appends to `path`, emptied and of mode 0600. Raises NotPrivate for a link or another user's file."""
    file = _open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, user)
    os.ftruncate(file, 0)
    return file


def make_private(path: Path, user: int | None = None) -> None:
    """Remove all rights but the owner's from a file. Ignores a missing file; raises NotPrivate as `create` does."""
    try:
        os.close(_open(path, os.O_RDONLY, user))
    except FileNotFoundError:
        return


def rotate(path: Path, most_bytes: int) -> None:
    """Copy a file of more than `most_bytes` to `<path>.1` and empty it: its writer continues at the start."""
    if path.stat().st_size <= most_bytes:
        return
    content = path.read_bytes()
    with os.fdopen(create(path.with_name(f"{path.name}.1")), "wb") as old:
        old.write(content)
    os.truncate(path, 0)


def _open(path: Path, flags: int, user: int | None) -> int:
    try:
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise NotPrivate(f"{path} is a link: remove it") from error
        raise
    found = os.fstat(file)
    if found.st_uid != _user(user) or not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(file)
        raise NotPrivate(f"{path} is another user's, or no file of its own: remove it")
    os.fchmod(file, 0o600)
    return file


def _user(user: int | None) -> int:
    return os.geteuid() if user is None else user
