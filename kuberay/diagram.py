"""The Mermaid diagram of the pinning in docs/kubernetes/index.md: deployments, the pins of each, and the pods that offer them."""

from kuberay.profiles import Profile


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
