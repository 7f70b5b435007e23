"""kubectl, called: its input, its output, and one sentence on each way to fail."""

from pathlib import Path

import pytest

from kuberay import kubectl
from kuberay.kubectl import KubectlFailed


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_output_is_returned_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, 'echo "$@"; cat; printf "\\377"; echo a warning >&2')
    assert kubectl.run("get", "a pod", content="words of its input") == "get a pod\nwords of its input\ufffd"


def test_a_failure_has_kubectls_reason_once_and_without_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "(echo 'E1130 01:32:37.4 2 memcache.go] no'; echo refused; echo refused) >&2; exit 1")
    with pytest.raises(KubectlFailed) as failed:
        kubectl.run("get", "pods")
    assert str(failed.value) == "kubectl get failed: refused"


def test_a_failure_with_a_log_alone_has_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo 'E1130 01:32:37.4 2 a.go] no' >&2; exit 1")
    with pytest.raises(KubectlFailed, match="no"):
        kubectl.run("get", "pods")


def test_a_kubectl_that_does_not_answer_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl, "TIMEOUT_S", 0.3)
    stand_in(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(KubectlFailed, match=r"has not answered within 0 s: does it reach the cluster\?"):
        kubectl.run("get", "pods")
