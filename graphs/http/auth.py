"""API keys with names, and the rate of each."""

import hashlib
import hmac
import logging
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from graphs.http.errors import InvalidApiKey, OperatorKeyNeeded, RateLimitExceeded
from graphs.http.middleware.browsers import is_loopback

log = logging.getLogger("ray.serve")
CHECK_S = 1.0
"""Least time between two looks at the file of keys, in seconds."""
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
KEY = re.compile(r"[!-~]{16,256}")
OPERATOR = "operator"
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


@dataclass(frozen=True)
class Key:
    name: str
    is_operator: bool


class Access:
    """Open where there are no keys. One for each ingress replica: a key's rate is counted in each.

    The file is read again when it has changed; while the new one cannot be used, the old keys are valid.
    """

    def __init__(self, keys: Path | None, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`keys`: a file as `read` takes it. Raises ValueError with a sentence that holds no key."""
        self._keys = keys
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._names: dict[bytes, str] = {}
        self._operators: frozenset[str] = frozenset()
        self._checked_s = clock()
        if keys is not None:
            self._version = _version(keys)
            self._use(read(keys))

    def require(self, request: Request) -> str | None:
        """The name of the request's key; None where none is needed. Raises InvalidApiKey."""
        if self._keys is None:
            return None
        self._refresh(self._keys)
        scheme, _, key = ", ".join(request.headers.getlist("authorization")).partition(" ")
        digest_sent, found = _digest(key.strip()), None
        for digest, name in self._names.items():  # all of them: the time reveals nothing
            if hmac.compare_digest(digest, digest_sent):
                found = name
        if found is None or scheme.lower() != "bearer":
            raise InvalidApiKey("this service needs one of its API keys: send it as the header Authorization: Bearer KEY")
        return found

    def require_operator(self, request: Request) -> str:
        """The name of an operator's key. Raises InvalidApiKey, OperatorKeyNeeded.

        Where there are no keys, a client on this machine that no proxy has forwarded is an operator.
        """
        name = self.require(request)
        if self.is_operator(request, name):
            return name or "loopback"
        raise OperatorKeyNeeded(
            "without API keys only a client on this machine may do this: set http.api_keys_file, and give an operator a key"
            if name is None
            else f"the key {name} is no operator's: its line in the file of keys needs the third word {OPERATOR}"
        )

    def is_operator(self, request: Request, name: str | None) -> bool:
        """Whether the client is an operator. `name`: what `require` returned."""
        if name is not None:
            return name in self._operators
        forwarded = any(header in request.headers for header in FORWARDED)
        return not forwarded and request.client is not None and is_loopback(request.client.host)

    def count(self, name: str | None) -> None:
        """Raise RateLimitExceeded where the key `name` is used too often."""
        if name in self._buckets:
            self._buckets[name].take()

    def _refresh(self, keys: Path) -> None:
        now_s = self._clock()
        if now_s - self._checked_s < CHECK_S:
            return
        self._checked_s = now_s
        version = _version(keys)
        if version == self._version:
            return
        self._version = version
        try:
            self._use(read(keys))
        except ValueError as error:
            log.warning("the API keys stay as they were, since their new file cannot be used: %s", ascii(str(error)))
        else:
            log.info("the API keys were read again: %d", len(self._names))

    def _use(self, keys: dict[bytes, "Key"]) -> None:
        self._names = names = {digest: key.name for digest, key in keys.items()}
        self._operators = frozenset(key.name for key in keys.values() if key.is_operator)
        if self._per_minute is not None:
            old = self._buckets
            self._buckets = {name: old.get(name) or _Bucket(self._per_minute, self._clock) for name in names.values()}


class _Bucket:
    """A token bucket: a minute's requests may come at once; the bucket refills evenly."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._tokens = float(per_minute)
        self._at_s = clock()

    def take(self) -> None:
        now_s = self._clock()
        self._tokens = min(self._per_minute, self._tokens + (now_s - self._at_s) * self._per_minute / 60)
        self._at_s = now_s
        if self._tokens < 1:
            error = RateLimitExceeded(
                f"this key has made its {self._per_minute} requests of a minute (setting http.key_requests_per_minute)"
            )
            error.retry_after_s = math.ceil((1 - self._tokens) * 60 / self._per_minute)
            raise error
        self._tokens -= 1


def _version(keys: Path) -> tuple[int, ...] | None:
    """Differs once the file, or the target of a link, is another one; None where there is none."""
    try:
        status = os.stat(keys)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read(keys: Path) -> dict[bytes, Key]:
    """Keys by their digests. Each line of the file is a name, blanks, a key, and for an operator blanks and `operator`.

    Empty lines and those with # are skipped. Raises ValueError.
    """
    try:
        lines = keys.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"http.api_keys_file is {str(keys)!r}, which cannot be read: {type(error).__name__}") from None
    found: dict[bytes, Key] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        known = len(words) == 2 or (len(words) == 3 and words[2] == OPERATOR)
        if not known or not NAME.fullmatch(words[0]) or not KEY.fullmatch(words[1]):
            raise ValueError(
                f"{keys}, line {number}: not a name of [A-Za-z0-9._-], a blank, and a key of 16 to 256 characters, "
                f"nor these, a blank and the word {OPERATOR}"
            )
        digest = _digest(words[1])
        if digest in found or words[0] in {key.name for key in found.values()}:
            raise ValueError(f"{keys}, line {number}: its name, or its key, is on a line before")
        found[digest] = Key(words[0], len(words) == 3)
    if not found:
        raise ValueError(f"{keys} has no key, so no client could use the service: add one, or leave http.api_keys_file out")
    return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
