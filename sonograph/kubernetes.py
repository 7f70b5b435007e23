"""`sonograph render` and `sonograph doctor`: manifests for a cluster, written and examined."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kuberay.profiles import PROFILES

MANIFESTS = Path("kuberay/manifests")
console = Console(highlight=False, soft_wrap=True)


def render(
    profile: Annotated[str, typer.Argument(help=f"{', '.join(PROFILES)}; without it every one.")] = "",
    registry: Annotated[str, typer.Option(help="Registry and folder of the images: registry/folder.")] = "",
    digests: Annotated[Path | None, typer.Option(help="The file that `docker buildx bake --metadata-file` wrote.")] = None,
    dns_cidr: Annotated[
        list[str] | None, typer.Option(help="A DNS resolver that the policies do not name: address or range. Repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the manifests, one below it for each profile.")] = MANIFESTS,
) -> None:
    """Write a profile's manifests from kuberay/profiles.py; in this repository also graphs/local.yaml and other rendered files."""
    from kuberay import render as rendering
    from kuberay.images import REGISTRY, Images
    from kuberay.images import digests as read
    from kuberay.manifest.network import resolver

    if profile and profile not in PROFILES:
        raise typer.BadParameter(f"there is no {profile}, only {', '.join(PROFILES)}", param_hint="PROFILE")
    try:
        resolvers = [resolver(cidr) for cidr in dns_cidr or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--dns-cidr") from error
    images = Images(registry or REGISTRY, read(digests) if digests else {})
    own = out.resolve() == rendering.ROOT / MANIFESTS
    for name in [profile] if profile else PROFILES:
        files = {out / name / file: text for file, text in rendering.manifests(PROFILES[name], images, resolvers).items()}
        for path, text in (files | (rendering.shared() if own else {})).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for stale in set((out / name).glob("*.yaml")) - set(files) if own else ():
            stale.unlink()
        console.print(f"{out / name}: {len(files)} files")


def doctor(
    paths: Annotated[list[Path], typer.Argument(help="Manifests, or folders of them; the files of one folder belong together.")],
) -> None:
    """Report errors in these manifests before they are applied. Needs no network; exits with 1 on any error.

    It imports the app that a manifest names.
    """
    from kuberay.doctor.examine import examine
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
