"""Stable Diffusion's rows: correctness, then figures against diffusers' own pipeline call on the same weights."""

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.batching import RequestLevel, StepLevel, saturate
from benchmarks.gpu import measuring
from benchmarks.gpu.models import SHAPES, Shape, random_pipeline, tiny
from benchmarks.gpu.options import Options, rounding_error
from benchmarks.gpu.report import Part, Row
from benchmarks.load import arrivals, open_loop, percentile
from deployments.diffusion.batch import Batch
from deployments.diffusion.denoising import Denoising
from deployments.diffusion.engine import DiffusionEngine, decoded_together
from deployments.diffusion.job import JobCancelled
from deployments.diffusion.memory import MemoryBudget
from deployments.diffusion.types import EngineConfig
from deployments.roles.text_to_image import GenerateRequest

ROUNDINGS = 400
"""Of a call of the UNet: about 25 blocks of 16 products, norms and sums in a row."""
STEP_BATCH = 8
LOAD = 0.7
"""Of the best static batch's rate, in the row of arrivals."""
SEED = 11


class Images:
    """One pipeline in one precision: this project's engine, and diffusers' call."""

    def __init__(self, shape: Shape, options: Options, dtype: torch.dtype) -> None:
        precision = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
        self.pipeline = random_pipeline(shape, options.device, dtype)
        self.engine = DiffusionEngine(EngineConfig("random", options.device, precision, torch.get_num_threads()), self.pipeline)
        self.shape, self.device = shape, options.device
        self.best_per_s = 0.0

    def request(self, number: int, steps: int = 0) -> GenerateRequest:
        return GenerateRequest(
            f"picture {number}",
            steps=steps or self.shape.steps,
            guidance_scale=self.shape.guidance_scale,
            seed=number,
            format="jpeg",
        )

    def mixed(self, number: int) -> GenerateRequest:
        """Steps from half to one and a half times the shape's, by a hash of the number."""
        least = max(1, self.shape.steps // 2)
        return self.request(number, least + (number * 2654435761 % 2**32) % (2 * (self.shape.steps - least) + 1))

    def ours(self, count: int, steps: int = 0) -> None:
        states = self.begin(range(count), steps)
        self.finish(states)
        self.engine.decode(states)

    def begin(self, numbers: Sequence[int], steps: int = 0) -> list[Denoising]:
        return [self.engine.begin(self.request(number, steps)) for number in numbers]

    def finish(self, states: Sequence[Denoising]) -> None:
        """Run the remaining steps of images that have equally many."""
        while states[0].step < states[0].steps:
            self.engine.step(states)
            self.engine.wait()

    def theirs(self, count: int, steps: int = 0) -> None:
        latents = self.pipeline(
            prompt=[self.request(number).prompt for number in range(count)],
            num_inference_steps=steps or self.shape.steps,
            guidance_scale=self.shape.guidance_scale,
            generator=[torch.Generator().manual_seed(number) for number in range(count)],
            output_type="latent",
        ).images
        # For SDXL diffusers' call converts the decoder to fp32 and back each time, and decodes all images at once, which a card
        # may not hold; here it is in fp32 for both, and takes as many at once for both.
        vae = self.pipeline.vae
        for some in torch.split(latents, decoded_together(self.shape.side_px**2)):
            with torch.inference_mode():
                images = vae.decode(some.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
            self.pipeline.image_processor.postprocess(images, output_type="pil")


def measure(name: str, part: Part, options: Options) -> None:
    """Measure the rows of the pipeline of this name in SHAPES."""
    shape = tiny(SHAPES[name]) if options.tiny else SHAPES[name]
    part.row("precision", lambda: precision(shape, options), expected_s=30)
    images = cache(lambda: Images(shape, options, options.dtype))  # made by the first row that needs it
    bound = part.rows["precision"].get("latents", {}).get("engine", {}).get("error", 0.0)
    part.row("an image in a batch against alone", lambda: together(images(), bound), expected_s=10)
    for batch in options.images:
        part.row(f"batch {batch}", partial(_by_batch, throughput, images, options, batch), expected_s=15)
    best = best_static(part)
    part.row("step-level, saturated", lambda: saturated(images(), options, best), expected_s=20)
    for batch in (1, STEP_BATCH):
        part.row(f"idle and waits, batch {batch}", partial(_by_batch, idle, images, options, batch), expected_s=10)
    part.row("memory", lambda: memory(images(), options), expected_s=15)
    part.row("cancel to the next free step", lambda: cancel(images(), options), expected_s=15)
    part.row(f"arrivals at {LOAD:.0%}", lambda: arriving(images(), options, best), expected_s=4 * options.arrivals_s)
    part.row("compiled", lambda: compiled(images(), options), expected_s=90)


def _by_batch(row: Callable[[Images, Options, int], Row], images: Callable[[], Images], options: Options, batch: int) -> Row:
    return row(images(), options, batch)


def best_static(part: Part) -> float:
    """Images a second of the best static batch of either side."""
    rates = [row["images a second"] for name, row in part.rows.items() if name.startswith("batch ") and "images a second" in row]
    return max((side["median"] for row in rates for side in row.values()), default=0.0)


def precision(shape: Shape, options: Options) -> Row:
    """fp16 and bf16 against fp32: the first prediction, and the latents after all steps, which have no tolerance of their own."""
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    found: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
    for dtype in (torch.float32, *options.precisions):
        one = Images(shape, options, dtype)
        states = one.begin(range(1))
        # Without guidance, which multiplies the error of a difference.
        predicted = one.engine.predict([_unguided(states[0])])[0].float().cpu()
        one.finish(states)
        found[dtype] = predicted, states[0].latents.float().cpu()
        del one
        measuring.release()
    torch.backends.cudnn.allow_tf32 = tf32
    row: Row = {"prediction": {}, "latents": {}}
    holds = True
    for dtype in options.precisions:
        name = str(dtype).removeprefix("torch.")
        first, last = (measuring.error(found[dtype][place], found[torch.float32][place]) for place in (0, 1))
        tolerance = rounding_error(dtype, ROUNDINGS)
        row["prediction"][name] = {"error": first, "tolerance": tolerance}
        row["latents"][name] = {"error": last}
        holds &= first <= tolerance and last < float("inf")
        row["latents"]["engine"] = row["latents"][name]
    return {**row, "largest latent": float(found[torch.float32][1].abs().max()), "holds": holds}


def _unguided(state: Denoising) -> Denoising:
    added = state.added_conditions and {name: one[-1:] for name, one in state.added_conditions.items()}
    return Denoising(**{**vars(state), "embeddings": state.embeddings[-1:], "added_conditions": added})


def together(images: Images, bound: float) -> Row:
    """The latents of an image in a batch, and of one that joins others at a step, against alone.

    Tolerance: `bound`, the difference between the engine's precision and fp32 for such an image. Batched products sum in another order,
    which is rounding as well; an image that shares a batch must not be further away than that.
    """
    alone = images.begin([0])
    images.finish(alone)
    batched = images.begin(range(3))
    images.finish(batched)
    row: Row = {"batch": measuring.error(batched[0].latents, alone[0].latents)}
    if images.shape.steps > 1:
        join = images.shape.steps // 2
        others = images.begin([1, 2])
        for _ in range(join):
            images.engine.step(others)
        joined = images.begin([0])
        while joined[0].step < joined[0].steps:
            running = [state for state in (*others, *joined) if state.step < state.steps]
            images.engine.step(running)
            images.engine.wait()
        row[f"joined at step {join}"] = measuring.error(joined[0].latents, alone[0].latents)
    other = measuring.error(batched[1].latents, alone[0].latents)
    return {**row, "another image": other, "tolerance": bound, "holds": max(row.values()) <= bound < other}


def throughput(images: Images, options: Options, batch: int) -> Row:
    """Images a second, from prompts to pixels: equal images that begin together."""
    few = min(2, images.shape.steps)
    for side in (images.ours, images.theirs):
        side(batch, few)
    sides: dict[str, measuring.Work] = {"ours": lambda: images.ours(batch), "diffusers": lambda: images.theirs(batch)}
    took_s = measuring.alternate(sides, options.repeats if batch < STEP_BATCH else 1, options.device)
    return {
        "steps": images.shape.steps,
        "side px": images.shape.side_px,
        "images a second": measuring.rates(took_s, batch),
    }


def saturated(images: Images, options: Options, best_per_s: float) -> Row:
    """Twice as many clients as places, which never pause, with images of different steps: images of the mean number of steps a second."""
    count = 4 * STEP_BATCH if not options.tiny else STEP_BATCH
    steps = sum(images.mixed(number).steps or 0 for number in range(count))
    side = StepLevel(images.engine, STEP_BATCH)
    wall_s = asyncio.run(saturate(side.generate, images.mixed, 2 * STEP_BATCH, count))[1]
    per_s = steps / images.shape.steps / wall_s
    return {
        "images a second": per_s,
        "mean batch": statistics.mean(side.batch_sizes),
        "best static": best_per_s,
        "share": per_s / best_per_s if best_per_s else None,
        "goal": 0.95,
    }


def idle(images: Images, options: Options, batch: int) -> Row:
    """In the service's own loop, less its Triton and Ray; a few steps."""
    steps = min(6, images.shape.steps)

    async def work() -> None:
        together = Batch(images.engine, batch)
        try:
            await asyncio.gather(*(together.generate(images.request(number, steps), {}) for number in range(batch)))
        finally:
            together.close()

    def run() -> None:
        asyncio.run(work())

    run()
    states = images.begin(range(batch))
    images.engine.step(states)
    return {
        "steps": steps,
        "gpu busy": measuring.busy(run, options.device),
        "waits of a run": measuring.waits(run, options.device),
        "waits of a step": measuring.waits(lambda: images.engine.step(states), options.device)
        if states[0].step < steps
        else None,
    }


def memory(images: Images, options: Options) -> Row:
    """Peak of a step and the decoding by batch, and by `MemoryBudget`, from which the service takes its largest batch."""
    budget = MemoryBudget.measure(images.engine)
    pixels = images.shape.side_px**2

    def work(count: int) -> Callable[[], None]:
        states = [images.engine.begin(images.request(number, max(2, images.shape.steps))) for number in range(count)]

        def run() -> None:
            images.engine.step(states)
            images.engine.decode(states)

        return run

    peaks = {str(count): measuring.peak_bytes(work(count), options.device) for count in options.images}
    return {
        "peak bytes": peaks,
        "estimate": {count: round(budget.needed_bytes(int(count), pixels)) for count in peaks},
        "available bytes": budget.available_bytes,
    }


def cancel(images: Images, options: Options) -> Row:
    """From a client that leaves a full batch to the beginning of the one that waits for its place."""

    async def once() -> tuple[float, float]:
        loop, running, joined = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        begins: list[float] = []
        steps: list[float] = []
        begin = images.engine.begin

        def noted(request: GenerateRequest) -> Denoising:
            begins.append(time.perf_counter())
            if len(begins) > STEP_BATCH:
                loop.call_soon_threadsafe(joined.set)
            return begin(request)

        def step(count: int) -> None:
            steps.append(time.perf_counter())
            if len(steps) == 5:
                loop.call_soon_threadsafe(running.set)

        left = [False] * (STEP_BATCH + 1)
        batch = Batch(images.engine, STEP_BATCH, on_steps=step)
        images.engine.begin = noted  # type: ignore[method-assign]
        try:
            clients = [
                asyncio.create_task(batch.generate(images.request(n, 40), {}, is_cancelled=partial(left.__getitem__, n)))
                for n in range(STEP_BATCH + 1)
            ]
            await running.wait()
            left_s, left[0] = time.perf_counter(), True
            await joined.wait()
            left[:] = [True] * len(left)
            outcomes = await asyncio.gather(*clients, return_exceptions=True)
            assert all(isinstance(one, JobCancelled) for one in outcomes), outcomes
        finally:
            images.engine.begin = begin  # type: ignore[method-assign]
            batch.close()
        step_s = statistics.median(after - before for before, after in itertools.pairwise(steps[1:5]))
        return begins[-1] - left_s, step_s

    found = [asyncio.run(once()) for _ in range(options.repeats + 2)]
    return {
        "ms": {"median": 1000 * statistics.median(one for one, _ in found), **_ends([1000 * one for one, _ in found])},
        "steps": {
            "median": statistics.median(one / step_s for one, step_s in found),
            **_ends([one / step for one, step in found]),
        },
    }


def _ends(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "greatest": max(values)}


def arriving(images: Images, options: Options, best_per_s: float) -> Row:
    """Seconds from a request to its image, at random arrivals (Poisson) of images of different steps: step-level and static batches."""
    if not best_per_s:
        raise ValueError("the rows of static batches come first")
    per_s = LOAD * best_per_s
    due_s = arrivals(per_s, max(options.arrivals_s, 3 / per_s), SEED)

    def run(side: Any) -> dict[str, float]:
        async def send(number: int) -> int:
            await side.generate(images.mixed(number))
            return 200

        took_s = [answer.latency_s for answer in asyncio.run(open_loop(send, due_s))]
        return {"mean": statistics.mean(took_s), "p50": percentile(took_s, 0.5), "p95": percentile(took_s, 0.95)}

    step, static = run(StepLevel(images.engine, STEP_BATCH)), run(RequestLevel(images.engine, STEP_BATCH))
    return {
        "images a second": per_s,
        "images": len(due_s),
        "step-level": step,
        "static": static,
        "mean, step-level by static": step["mean"] / static["mean"],
    }


def compiled(images: Images, options: Options) -> Row:
    """A batch of STEP_BATCH with the UNet compiled, which both sides call; SD-Turbo and the like also alone."""
    unet = images.pipeline.unet
    unet.compile(backend=options.compiler, dynamic=False)
    try:
        return throughput(images, options, STEP_BATCH)
    finally:
        unet._compiled_call_impl = None
