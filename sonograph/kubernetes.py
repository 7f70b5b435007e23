"""The verbs of `sonograph` for a cluster: render and doctor."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kuberay.profiles import PROFILES

MANIFESTS = Path("kuberay/manifests")
console = Console(highlight=False, soft_wrap=True)


def render(
    profile: Annotated[str, typer.Argument(help=f"{', '.join(PROFILES)}; every one without it.")] = "",
    registry: Annotated[str, typer.Option(help="Where the images are: registry/folder.")] = "",
    digests: Annotated[Path | None, typer.Option(help="What `docker buildx bake --metadata-file` wrote.")] = None,
    dns_cidr: Annotated[
        list[str] | None, typer.Option(help="A DNS resolver that the policies do not know: address or range. Repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the manifests, one below it for each profile.")] = MANIFESTS,
) -> None:
    """Write a profile's manifests; in this repository graphs/local.yaml too. All of it comes from kuberay/profiles.py."""
    from kuberay import render as rendering
    from kuberay.images import REGISTRY, Images
    from kuberay.images import digests as read
    from kuberay.manifest import around

    if profile and profile not in PROFILES:
        raise typer.BadParameter(f"there is no {profile}, only {', '.join(PROFILES)}", param_hint="PROFILE")
    try:
        resolvers = [around.resolver(cidr) for cidr in dns_cidr or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--dns-cidr") from error
    images = Images(registry or REGISTRY, read(digests) if digests else {})
    own = out.resolve() == rendering.ROOT / MANIFESTS
    for name in [profile] if profile else PROFILES:
        files = {out / name / file: text for file, text in rendering.manifests(PROFILES[name], images, resolvers).items()}
        for path, text in (files | (rendering.shared() if own else {})).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for gone in set((out / name).glob("*.yaml")) - set(files) if own else ():
            gone.unlink()
        console.print(f"{out / name}: {len(files)} files")


def doctor(
    paths: Annotated[list[Path], typer.Argument(help="Manifests, or folders of them; what lies in one folder belongs together.")],
) -> None:
    """Say what would go wrong with these manifests, before anything is applied. Needs no network; ends with 1 on any error.

    It imports the app that a manifest names.
    """
    from kuberay.doctor import examine
    from kuberay.doctor.manifest import Unreadable

    try:
        findings = examine(paths)
    except Unreadable as error:
        Console(stderr=True, highlight=False).print(f"sonograph: {error}", soft_wrap=True)
        raise typer.Exit(1) from error
    for finding in findings:
        console.print(str(finding), markup=False)
    errors = sum(not finding.warning for finding in findings)
    console.print(f"{errors or 'No'} error{'s' if errors != 1 else ''}, {len(findings) - errors} warnings.")
    if errors:
        raise typer.Exit(1)
