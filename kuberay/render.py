"""Manifests as text: every file of a profile, graphs/local.yaml, and the picture in kuberay/README.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from kuberay import diagram, serve_config
from kuberay.images import Images
from kuberay.manifest import around
from kuberay.manifest.rayservice import Object, ray_service
from kuberay.profiles import PROFILES, Profile

ROOT = Path(__file__).parents[1]
LOCAL = """\
# Serve config for one machine: `serve run graphs/local.yaml`; `make serve` uses it too.
# Rendered by `sonograph render` from kuberay/profiles.py, like the manifests. `request_timeout_s` is above http.deadline_s: it ends
# a request whose ingress has died.
"""


def manifests(profile: Profile, images: Images, dns_cidrs: Sequence[str] = ()) -> dict[str, str]:
    """Each file's name and text. Applied in the order of their names, as kubectl does, they come up in any order."""
    objects = {
        "disruption.yaml": around.disruption(profile),
        "monitoring.yaml": around.monitoring(profile),
        "network.yaml": around.network(dns_cidrs),
        "rayservice.yaml": [ray_service(profile, images)],
        "redis.yaml": around.redis(images),
        "weights.yaml": around.weights(profile, images),
    }
    return {name: header(profile, dns_cidrs) + dump(documents) for name, documents in objects.items() if documents}


def header(profile: Profile, dns_cidrs: Sequence[str] = ()) -> str:
    figures = "Memory is measured." if profile.measured else "CPU, memory and GPU shares are ESTIMATES: nobody measured them."
    command = " ".join(["sonograph render", profile.name, *(f"--dns-cidr {cidr}" for cidr in dns_cidrs)])
    source = f"Rendered by `{command}` from kuberay/profiles.py: change that, not this."
    return f"# {source}\n# {profile.name}: {profile.summary}.\n# {figures}\n"


def shared() -> dict[Path, str]:
    """What is rendered whatever the profile."""
    readme = ROOT / "kuberay" / "README.md"
    return {
        ROOT / "graphs" / "local.yaml": LOCAL + dump([serve_config.local()]),
        readme: diagram.insert(readme.read_text(encoding="utf-8"), PROFILES["small-gpus"]),
    }


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(documents: list[Object]) -> str:
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=1000)
