"""The store of the rollouts' revisions and of each ingress replica's observations, which all ingress replicas share."""

import secrets
from typing import Protocol

from graphs.rollouts.state import Rollout

KEPT = 50
"""Revisions of a stage that are kept: its history."""
WRITER = 8
"""Bytes at the begin of a revision that are random for each store: which of several ingress replicas has written it."""


class KeyValues(Protocol):
    """Keys and values of the cluster. Each call blocks, and raises an Exception where the cluster does not answer."""

    def get(self, key: str) -> bytes | None: ...

    def add(self, key: str, value: bytes) -> bool:
        """Whether it was added: a key that exists stays as it is. Of two that add one key, one succeeds."""

    def put(self, key: str, value: bytes) -> None: ...

    def delete(self, key: str) -> None: ...

    def keys(self, prefix: str) -> list[str]: ...


class Memory:
    """Keys and values of this process."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    def add(self, key: str, value: bytes) -> bool:
        if key in self._values:
            return False
        self._values[key] = value
        return True

    def put(self, key: str, value: bytes) -> None:
        self._values[key] = value

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self._values if key.startswith(prefix)]


class Store:
    """A revision is a key that is added once, so that of several ingress replicas one makes each change."""

    def __init__(self, values: KeyValues, application: str) -> None:
        """`application`: the service's; others in the same cluster have rollouts of their own."""
        self._values = values
        self._root = f"sonograph/{application}"
        self._writer = secrets.token_bytes(WRITER)

    def latest(self) -> dict[str, int]:
        """The latest revision of each stage that has had a rollout."""
        prefix = f"{self._root}/revisions/"
        found: dict[str, int] = {}
        for key in self._values.keys(prefix):
            stage, _, revision = key.removeprefix(prefix).partition("/")
            found[stage] = max(found.get(stage, 0), int(revision))
        return found

    def read(self, stage: str, revision: int) -> Rollout | None:
        """One revision; None once it is no longer kept, and for one that removed the rollout."""
        content = (self._values.get(self._key(stage, revision)) or b"")[WRITER:]
        return Rollout.model_validate_json(content) if content else None

    def history(self, stage: str) -> list[Rollout]:
        """The kept revisions, oldest first, without those that removed a rollout."""
        latest = self.latest().get(stage, 0)
        found = (self.read(stage, revision) for revision in range(max(1, latest - KEPT + 1), latest + 1))
        return [one for one in found if one is not None]

    def write(self, rollout: Rollout) -> bool:
        """Whether this revision is now the latest; False where another one has its number."""
        return self._add(rollout.stage, rollout.revision, rollout.model_dump_json().encode())

    def remove(self, stage: str, revision: int) -> bool:
        """Remove the rollout by an empty revision."""
        return self._add(stage, revision, b"")

    def _add(self, stage: str, revision: int, content: bytes) -> bool:
        """Whether it was added. The oldest one goes before, so that nothing can fail between the writing and what the caller does then.

        Ray asks again where an answer is lost, and is told that the key exists: the value begins with its writer.
        """
        self._values.delete(self._key(stage, revision - KEPT))
        key, value = self._key(stage, revision), self._writer + content
        return self._values.add(key, value) or self._values.get(key) == value

    def put_scores(self, stage: str, id: str, replica: str, content: bytes) -> None:
        self._values.put(f"{self._root}/scores/{stage}/{id}/{replica}", content)

    def scores(self, stage: str, id: str) -> dict[str, bytes]:
        """The observations of every ingress replica, ended ones included, by replica."""
        prefix = f"{self._root}/scores/{stage}/{id}/"
        found = {key.removeprefix(prefix): self._values.get(key) for key in self._values.keys(prefix)}
        return {replica: content for replica, content in found.items() if content}

    def remove_scores(self, stage: str, keep: str = "") -> None:
        """Remove the observations of the stage's earlier rollouts: all but those of the rollout `keep`."""
        prefix = f"{self._root}/scores/{stage}/"
        for key in self._values.keys(prefix):
            if not keep or not key.startswith(f"{prefix}{keep}/"):
                self._values.delete(key)

    def _key(self, stage: str, revision: int) -> str:
        return f"{self._root}/revisions/{stage}/{revision:08d}"
