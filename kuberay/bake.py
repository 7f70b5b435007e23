"""The rendered part of images/docker-bake.hcl: the tag, and a target for the image of each model and of all models together."""

from collections.abc import Sequence

from kuberay.versions import TAG

TARGET = """
target "{image}" {{
  inherits   = ["common"]
  dockerfile = "images/model.Dockerfile"
  contexts   = {{ base = "target:base", wheel = "target:wheel" }}
  args       = {{ IMAGE = "{image}", MODELS = "{models}", WEIGHTS = WEIGHTS }}
  tags       = ["${{REGISTRY}}/{image}:${{TAG}}"]
}}
"""


def targets(models: Sequence[str], shared: str) -> str:
    """HCL for the images of these models; `shared` is the image that holds all of them."""
    images = {**{model: model for model in models}, shared: " ".join(models)}
    listed = ", ".join(f'"{image}"' for image in ("ingress", *images))
    head = f'variable "TAG" {{ default = "{TAG}" }}\n\ngroup "default" {{ targets = [{listed}] }}\n'
    return head + "".join(TARGET.format(image=image, models=names) for image, names in images.items())
