// One request to the service, from sending to the image, with its progress on the page.

import { DRAWING, LISTENING, activeLabel } from "./stages.js";
import { upscale } from "./upscale.js";
import * as view from "./view.js";

export class Generation {
  #abort = new AbortController();
  #startedMs = performance.now();
  #transcript = ""; // as far as it is known
  #progress = 0; // the share of the denoising steps that is done
  #image;

  /** `bars`: the recording's waveform. */
  constructor(bars) {
    this.#image = { bars, timings: {}, models: {} };
  }

  get cancelled() {
    return this.#abort.signal.aborted;
  }

  cancel() {
    this.#abort.abort();
  }

  /** Follows the events of `request(signal)` and resolves to the image. Throws UserFacingError, or AbortError after `cancel`. */
  async run(request) {
    const image = this.#image;
    try {
      for await (const event of request(this.#abort.signal)) this.#handle(event);
      image.durationMs = performance.now() - this.#startedMs;
      image.displayUrl = URL.createObjectURL(await upscale(image.blob));
      this.#abort.signal.throwIfAborted();
      return image;
    } catch (error) {
      for (const url of [image.url, image.displayUrl]) if (url) URL.revokeObjectURL(url);
      throw error;
    }
  }

  #handle(event) {
    const image = this.#image;
    switch (event.type) {
      case "accepted":
        return view.setStatus(LISTENING);
      case "queued":
        if (event.position > 0) return view.setStatus(`Waiting for its turn, place ${event.position}`);
        return view.setStatus(event.stage ? activeLabel(event.stage) : DRAWING); // the Images API has one stage, and names none
      case "transcript.delta":
        this.#transcript += event.text;
        view.showTranscript(this.#transcript.trim());
        return view.setStatus(LISTENING, false);
      case "transcript":
        view.showTranscript(event.text);
        view.setStatus(DRAWING, false);
        return view.announce(`Heard: ${event.text}`);
      case "image.step": {
        this.#progress = event.step / event.steps;
        view.setProgress(this.#progress);
        const remaining = event.eta_ms >= 500 ? `, ${Math.ceil(event.eta_ms / 1000)} s left` : "";
        return view.setStatus(`Drawing, step ${event.step} of ${event.steps}${remaining}`, false);
      }
      case "image.preview":
        return this.#show(event, this.#progress);
      case "image":
        Object.assign(image, { prompt: event.prompt, truncated: event.prompt_truncated, seed: event.seed });
        Object.assign(image, { width: event.image.width, height: event.image.height, models: event.models ?? {} });
        return this.#show(event.image, 1);
      case "retry":
        this.#transcript = ""; // of use only until `transcript`, which carries all of it
        this.#progress = 0;
        view.setProgress(null);
        return view.setStatus("The service lost a worker and begins again");
      case "done":
        image.timings = event.timings_ms ?? {};
        return;
      case "trace":
        image.trace = event.trace;
    }
  }

  /** Replaces the image by a newer state of it. */
  #show({ base64, media_type: type }, progress) {
    const previousUrl = this.#image.url;
    this.#image.blob = new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type });
    this.#image.url = URL.createObjectURL(this.#image.blob);
    view.showImage(this.#image.url, progress);
    if (previousUrl) URL.revokeObjectURL(previousUrl);
  }
}
