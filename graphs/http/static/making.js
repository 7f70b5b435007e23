// One question to the service, from asking to the picture.

import { enlarged } from "./enlarge.js";
import * as view from "./view.js";

const NAMES = { whisper: "Listening", diffusion: "Drawing" };

/** A picture that is made: what is known of it when it is done. */
export class Making {
  #abort = new AbortController();
  #startedMs = performance.now();
  #words = ""; // heard so far
  #part = 0; // of the steps
  #picture;

  constructor(bars) {
    this.#picture = { bars, timings: {}, models: {} };
  }

  get cancelled() {
    return this.#abort.signal.aborted;
  }

  cancel() {
    this.#abort.abort();
  }

  /** `asked(signal)`: the events. Resolves to the picture; throws Failed, or AbortError where it was cancelled. */
  async follow(asked) {
    const picture = this.#picture;
    for await (const event of asked(this.#abort.signal)) this.#told(event);
    picture.tookMs = performance.now() - this.#startedMs;
    picture.shown = URL.createObjectURL(await enlarged(picture.blob));
    this.#abort.signal.throwIfAborted();
    return picture;
  }

  #told(event) {
    const picture = this.#picture;
    switch (event.type) {
      case "accepted":
        return view.say(NAMES.whisper);
      case "queued":
        return view.say(event.position > 0 ? `Waiting for its turn, place ${event.position}` : NAMES[event.stage]);
      case "transcript.delta":
        this.#words = `${this.#words} ${event.text}`.trim();
        view.hear(this.#words);
        return view.say(NAMES.whisper, false);
      case "transcript":
        view.hear(event.text);
        view.say(NAMES.diffusion, false);
        return view.announce(`Heard: ${event.text}`);
      case "image.step": {
        this.#part = event.step / event.steps;
        view.progress(this.#part);
        const left = event.eta_ms >= 500 ? `, ${Math.ceil(event.eta_ms / 1000)} s left` : "";
        return view.say(`Drawing, step ${event.step} of ${event.steps}${left}`, false);
      }
      case "image.preview":
        return this.#show(event, this.#part);
      case "image":
        Object.assign(picture, { prompt: event.prompt, truncated: event.prompt_truncated, seed: event.seed });
        Object.assign(picture, { width: event.image.width, height: event.image.height, models: event.models ?? {} });
        return this.#show(event.image, 1);
      case "retry":
        if (event.stage === "whisper") this.#words = "";
        this.#part = 0;
        view.progress(null);
        return view.say("The service lost a worker and begins again");
      case "done":
        picture.timings = event.timings_ms ?? {};
    }
  }

  /** A newer state of the picture takes the place of the one before. */
  #show({ base64, media_type: type }, part) {
    const before = this.#picture.url;
    this.#picture.blob = new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type });
    this.#picture.url = URL.createObjectURL(this.#picture.blob);
    view.appear(this.#picture.url, part);
    if (before) URL.revokeObjectURL(before);
  }
}
