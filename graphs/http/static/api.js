// The service's HTTP API. Drawing yields events as POST /graph streams them, then for an operator `trace`, or throws UserFacingError.

import { connectionLost, networkError, problemError } from "./errors.js";
import { parseEvents } from "./sse.js";

const PREVIEWS = 10;

/** The absolute URL of a path of the service, also where a proxy serves the page under a prefix. */
export function address(path) {
  return new URL(path, document.baseURI).href;
}

/** Draws a recording by POST /graph. `parameters`: the route's, by name. */
export async function* drawRecording(file, parameters, key, signal) {
  const form = new FormData();
  form.append("file", file, file.name);
  for (const [name, value] of Object.entries(parameters)) form.append(name, value);
  form.append("previews", PREVIEWS);
  const response = await request("graph", { body: form, headers: { Accept: "text/event-stream" } }, key, signal);
  let ended = false;
  for await (const event of streamEvents(response)) {
    if (event.type === "error") throw problemError(event.problem);
    yield event;
    ended = event.type === "done";
  }
  if (!ended) throw connectionLost();
  yield* traceEvents(response, key, signal);
}

/** Draws a text by POST /v1/images/generations. `generation`: what `generationBody` returns. */
export async function* drawPrompt(generation, key, signal) {
  const body = { ...generation, stream: true, partial_images: PREVIEWS, progress: true };
  const headers = { "Content-Type": "application/json" };
  const response = await request("v1/images/generations", { body: JSON.stringify(body), headers }, key, signal);
  let ended = false;
  for await (const event of streamEvents(response)) {
    const type = event.type.replace("image_generation.", "");
    if (type === "error") throw problemError(event);
    if (type === "queued") yield { type, position: event.position };
    if (type === "step") yield { ...event, type: "image.step" };
    if (type === "partial_image") yield { type: "image.preview", ...imageOf(event) };
    if (type === "completed") {
      const { prompt_truncated, seed } = event;
      yield { type: "image", prompt: generation.prompt, prompt_truncated, seed, image: imageOf(event) };
      yield { type: "done" };
      ended = true;
    }
  }
  if (!ended) throw connectionLost();
  yield* traceEvents(response, key, signal);
}

/** The body of POST /v1/images/generations from the parameters of POST /graph and a seed; one side alone gives a square. */
export function generationBody(prompt, { width, height, negative_prompt, ...numbers }) {
  return {
    prompt,
    ...((width || height) && { size: `${width || height}x${height || width}` }),
    ...(negative_prompt && { negative_prompt }),
    ...Object.fromEntries(["seed", "steps", "guidance_scale"].flatMap((name) => (name in numbers ? [[name, Number(numbers[name])]] : []))),
  };
}

/** A sample recording of the service. */
export async function fetchSample(path) {
  const blob = await (await request(path, { method: "GET" }, "")).blob();
  return new File([blob], path.split("/").pop(), { type: blob.type });
}

/** The service's bounds on a request. */
export async function fetchLimits() {
  return (await request("page/limits.json", { method: "GET" }, "")).json();
}

/** The event `trace`, where the answer names the request's trace: a promise of it, or of null where the service does not show it. */
function* traceEvents(response, key, signal) {
  const id = response.headers.get("X-Trace-ID");
  if (!id) return;
  const trace = request(`graph/traces/${encodeURIComponent(id)}`, { method: "GET" }, key, signal).then((answer) => answer.json());
  yield { type: "trace", trace: trace.catch(() => null) };
}

/** The image of an OpenAI event, in the form of POST /graph's. */
function imageOf({ b64_json: base64, output_format: format, size }) {
  const [width, height] = size.split("x").map(Number);
  return { base64, media_type: `image/${format}`, width, height };
}

async function request(path, options, key, signal) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(address(path), { method: "POST", ...options, headers, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : networkError();
  }
  if (response.ok) return response;
  throw problemError(await response.json().catch(() => ({})), response.status, response.headers.get("Retry-After"));
}

async function* streamEvents(response) {
  try {
    yield* parseEvents(response.body);
  } catch (error) {
    throw error.name === "AbortError" ? error : connectionLost();
  }
}
