"""The diffusion model's description of itself."""

from deployments.diffusion.settings import DiffusionSettings
from deployments.model_spec import ModelSpec, Workload
from deployments.roles.text_to_image import GenerateRequest, Image, Step


def workload(request: GenerateRequest, settings: DiffusionSettings) -> Workload:
    """A step's time depends on the image's size and on whether there is guidance, which doubles the UNet's batch."""
    request = settings.with_defaults(request)
    guided = (request.guidance_scale or 0.0) > 1
    return Workload(key=(request.width, request.height, guided), units=request.steps or 0)


SPEC = ModelSpec(
    name="diffusion",
    title="Stable Diffusion",
    role="text_to_image",
    settings=DiffusionSettings,
    result=Image,
    deployment="deployments.diffusion.deployment:Diffusion",
    workload=workload,
    progress=(Step,),
)
