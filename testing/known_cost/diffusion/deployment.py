"""The diffusion model's own Serve class over the repository beside this module."""

from deployments.diffusion.deployment import Diffusion


class KnownCostDiffusion(Diffusion):
    pass
