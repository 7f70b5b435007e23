"""The picture of the pinning in kuberay/README.md, as Mermaid: deployments, what holds them, and the pods that offer it."""

from kuberay.profiles import Profile

BEGIN, END = "<!-- the picture: `sonograph render` writes it -->\n", "<!-- end of the picture -->\n"


def insert(text: str, profile: Profile) -> str:
    """`text` with the picture between its two marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + mermaid(profile) + END + after


def mermaid(profile: Profile) -> str:
    lines = ["```mermaid", "flowchart LR", '  subgraph serve["Ray Serve: deployments"]']
    deployments = [(deployment, group) for group in profile.groups for deployment in group.deployments]
    lines += [f"    {deployment.name}({deployment.name})" for deployment, _ in deployments]
    lines += ["  end", '  subgraph workers["KubeRay: worker groups, each with its image"]']
    for group in profile.groups:
        offers = ", ".join(f"{name} {amount}" for name, amount in group.resources.items())
        lines += [f'    {group.name}-pod["<b>{group.name}</b>: {group.min_pods} to {group.max_pods} pods<br/>offers {offers}"]']
    lines += ['    head["<b>head</b>: CPU 0, so no replica"]', "  end"]
    for deployment, group in deployments:
        (label,) = (f"{key}: {value}" for key, value in group.labels.items())
        lines += [f'  {deployment.name} -- "resource {deployment.name} 1<br/>label {label}" --> {group.name}-pod']
    return "\n".join([*lines, "```"]) + "\n"
