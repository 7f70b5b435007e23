// What the page asks of the service. Each question yields events as POST /graph tells them, or throws Failed.

import { events } from "./events.js";

export const PREVIEWS = 10;

/** Why there is no picture, in words for a person. `code`: the problem's, where the service named one. */
export class Failed extends Error {
  constructor(title, detail, code = "") {
    super(detail);
    this.title = title;
    this.detail = detail;
    this.code = code;
  }
}

/** Where a path of the service is, whatever path the page itself is under. */
export function address(path) {
  return new URL(path, document.baseURI).href;
}

/** `parameters`: those of POST /graph, by name. */
export async function* draw(recording, parameters, key, signal) {
  const form = new FormData();
  form.append("file", recording, recording.name);
  for (const [name, value] of Object.entries(parameters)) form.append(name, value);
  form.append("previews", PREVIEWS);
  const answer = await ask("graph", { body: form, headers: { Accept: "text/event-stream" } }, key, signal);
  let ended = false;
  for await (const event of told(answer)) {
    if (event.type === "error") throw failure(event.problem);
    yield event;
    ended = event.type === "done";
  }
  if (!ended) throw cut();
}

/** Draws words that were typed, or heard before. `asked`: what `generation` makes. */
export async function* redraw(asked, key, signal) {
  const body = { ...asked, stream: true, partial_images: PREVIEWS, progress: true };
  const headers = { "Content-Type": "application/json" };
  const answer = await ask("v1/images/generations", { body: JSON.stringify(body), headers }, key, signal);
  let ended = false;
  for await (const event of told(answer)) {
    const type = event.type.replace("image_generation.", "");
    if (type === "error") throw failure(event);
    if (type === "queued") yield { type, stage: "diffusion", position: event.position };
    if (type === "step") yield { ...event, type: "image.step" };
    if (type === "partial_image") yield { type: "image.preview", ...picture(event) };
    if (type === "completed") {
      yield { type: "image", prompt: asked.prompt, prompt_truncated: event.prompt_truncated, seed: event.seed, image: picture(event) };
      yield { type: "done" };
      ended = true;
    }
  }
  if (!ended) throw cut();
}

/** The body of POST /v1/images/generations, from the parameters of a recording and a seed; one side alone is a square's. */
export function generation(prompt, { width, height, negative_prompt, ...numbers }) {
  return {
    prompt,
    ...((width || height) && { size: `${width || height}x${height || width}` }),
    ...(negative_prompt && { negative_prompt }),
    ...Object.fromEntries(["seed", "steps", "guidance_scale"].flatMap((name) => (name in numbers ? [[name, Number(numbers[name])]] : []))),
  };
}

function picture({ b64_json: base64, output_format: format, size }) {
  const [width, height] = size.split("x").map(Number);
  return { base64, media_type: `image/${format}`, width, height };
}

/** A file of the service itself. */
export async function sample(path, signal) {
  const answer = await ask(path, { method: "GET" }, "", signal);
  const blob = await answer.blob();
  return new File([blob], path.split("/").pop(), { type: blob.type });
}

export async function limits() {
  return (await ask("page/limits.json", { method: "GET" }, "")).json();
}

async function ask(path, options, key, signal) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let answer;
  try {
    answer = await fetch(address(path), { method: "POST", ...options, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failed(
      navigator.onLine ? "The service does not answer" : "No network",
      navigator.onLine
        ? "Nothing came back from this page’s service: it may be down, or the network is cut. Try again in a moment."
        : "This device is not connected. Connect it, and try again.",
      "network",
    );
  }
  if (answer.ok) return answer;
  throw failure(await answer.json().catch(() => ({})), answer.status, answer.headers.get("Retry-After"));
}

async function* told(answer) {
  try {
    yield* events(answer.body);
  } catch (error) {
    throw error.name === "AbortError" ? error : cut();
  }
}

function cut() {
  return new Failed("The connection was cut", "The service stopped in the middle of the picture, or the network did. Try again.", "cut");
}

/** A problem of the service, or an error as OpenAI's routes tell it. */
function failure(problem, status = 0, retryAfter = null) {
  const { title, detail, code } = problem.error ? { detail: problem.error.message, code: problem.error.code } : problem;
  const later = retryAfter ? ` Try again in ${retryAfter} s.` : "";
  return new Failed(
    title || "There is no picture",
    detail ? sentence(detail) + later : `The service answered with status ${status} and no reason.${later || " Try again."}`,
    code,
  );
}

function sentence(text) {
  const whole = text.trim();
  return whole.charAt(0).toUpperCase() + whole.slice(1) + (/[.!?]$/.test(whole) ? "" : ".");
}
