"""Manifests as text: every file of a profile; and graphs/local.yaml, the picture and the values in docs/kubernetes,
images/docker-bake.hcl, docs/dashboards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deployments.model_spec import specs
from kuberay import bake, dashboards, diagram, serve_config, values_table
from kuberay.images import Images
from kuberay.manifest.disruption import disruption
from kuberay.manifest.monitoring import monitoring
from kuberay.manifest.network import network
from kuberay.manifest.nvidia import mig_parted, time_slicing
from kuberay.manifest.objects import Object
from kuberay.manifest.quota import quota
from kuberay.manifest.rayservice import ray_service
from kuberay.manifest.redis import redis
from kuberay.manifest.route import Split, route
from kuberay.manifest.weights import weights
from kuberay.profiles import SMALL_GPUS, Profile
from kuberay.worker_groups import ALL

ROOT = Path(__file__).parents[1]
LOCAL = """\
# Serve config for one machine: `serve run graphs/local.yaml`; `make serve` uses it too.
# Rendered by `sonograph render` from kuberay/profiles/*.yaml, like the manifests. `request_timeout_s` is above http.deadline_s: it ends
# a request whose ingress has died.
"""
VALUES = "<!-- the values: `sonograph render` writes them -->\n", "<!-- end of the values -->\n"
TARGETS = "# Rendered by `sonograph render`: the tag and the images of the models.\n", "# End of the rendered part.\n"
"""Lines before and after the rendered part of a file."""


def manifests(
    profile: Profile,
    images: Images,
    split: Split | None = None,
    tracing: Mapping[str, Any] | None = None,
    values: str = "",
) -> dict[str, str]:
    """Each file's name and text. kubectl applies them in the order of their names; their pods may start in any order.

    `split`: a second RayService too, and the route to both. `tracing`: settings of that section from OpenTelemetry's variables.
    `values`: the file that the profile was changed by. Files of a folder below are not for every cluster.
    """
    if tracing:
        profile = profile.with_tracing(tracing)
    objects = {
        "disruption.yaml": disruption(profile, split is not None),
        "monitoring.yaml": monitoring(profile, split is not None),
        "network.yaml": network(profile),
        "quota.yaml": quota(profile),
        "rayservice.yaml": [ray_service(profile, images)],
        "rayservice-candidate.yaml": [ray_service(profile, split.images, candidate=True)] if split else [],
        "redis.yaml": redis(profile, images),
        "route.yaml": route(profile, split),
        "weights.yaml": weights(profile, images),
        "nvidia/mig-parted.yaml": mig_parted(profile),
        "nvidia/time-slicing.yaml": time_slicing(profile),
    }
    options = [*([f"--values {values}"] if values else ()), *([split.option] if split else ())]
    top = header(profile, options, tracing is not None and bool(tracing))
    return {name: top + dump(documents) for name, documents in objects.items() if documents}


def header(profile: Profile, options: Sequence[str] = (), traced: bool = False) -> str:
    """Lines at the top of each file: how it was made. `traced`: with OpenTelemetry's variables."""
    command = " ".join(["sonograph render", profile.name, *options])
    sources = [f"kuberay/profiles/{profile.name}.yaml", *(["OpenTelemetry's variables"] if traced else ())]
    sizes = (
        "Memory is measured." if profile.values.measured else "CPU, memory and GPU shares are ESTIMATES: they are not measured."
    )
    source = f"Rendered by `{command}` from {' and '.join(sources)}: change {'those' if traced else 'that'}, not this."
    return f"# {source}\n# {profile.name}: {' '.join(profile.values.summary.split())}.\n# {sizes}\n"


def shared() -> dict[Path, str]:
    """Rendered files that no profile changes."""
    models = [name for name, spec in specs().items() if spec.in_triton]
    guide, targets = ROOT / "docs" / "kubernetes", ROOT / "images" / "docker-bake.hcl"
    return {
        ROOT / "graphs" / "local.yaml": LOCAL + dump([serve_config.local()]),
        guide / "pinning.svg": diagram.svg(SMALL_GPUS),
        guide / "values.md": _insert(guide / "values.md", {VALUES: values_table.table()}),
        targets: _insert(targets, {TARGETS: bake.targets(models, ALL)}),
        **{ROOT / "docs" / "dashboards" / name: text for name, text in dashboards.files().items()},
    }


def _insert(file: Path, parts: Mapping[tuple[str, str], str]) -> str:
    """The file's text with each rendered part between its two marks."""
    text = file.read_text(encoding="utf-8")
    for (begin, end), rendered in parts.items():
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = before + begin + rendered + end + after
    return text


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(documents: list[Object]) -> str:
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=1000)
