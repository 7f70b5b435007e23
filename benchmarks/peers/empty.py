"""As many replicas as this service has on one machine, with nothing in them: what Ray Serve itself costs without a request."""

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

api = FastAPI()


class Model:
    async def run(self) -> None:
        pass


@serve.deployment(name="ingress", ray_actor_options={"num_cpus": 0})
@serve.ingress(api)
class Ingress:
    def __init__(self, **models: object) -> None:
        self.models = models

    @api.get("/readyz")
    async def ready(self) -> str:
        return "ready"


MODELS: dict[str, Application] = {name: serve.deployment(name=name)(Model).bind() for name in ("whisper", "diffusion")}
app = Ingress.bind(**MODELS)
