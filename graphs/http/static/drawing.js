// One drawing at a time: starts it, shows its image or its failure, and repeats it.

import * as api from "./api.js";
import * as curl from "./curl.js";
import { UserFacingError } from "./errors.js";
import { Generation } from "./generation.js";
import { fileName, formatDuration, renderFacts, renderTimings } from "./image_details.js";
import { showTrace } from "./trace.js";
import { $, announce, clearCanvas, setProgress, setState, setStatus, showFailure, showImage, showWaveform } from "./view.js";

const CODES_FIXED_BY_SETTINGS = new Set(["invalid_parameter", "invalid_api_key"]);

export class DrawingController {
  /** The image that is shown or was shown last, null before the first. */
  image = null;
  #settings;
  #gallery;
  #generation = null; // while a drawing is in progress
  #repeat = null; // repeats the drawing that failed

  constructor(settings, gallery) {
    this.#settings = settings;
    this.#gallery = gallery;
  }

  /** Draws a recording. `bars`: its waveform. */
  drawFile(file, bars) {
    const { parameters, key } = this.#settings;
    return this.#draw({
      request: (signal) => api.drawRecording(file, parameters, key, signal),
      command: (seed) => curl.graphCommand(api.address("graph"), file.name, { ...parameters, seed }, key),
      bars,
      file,
    });
  }

  /** Draws a text with a new seed. `bars`: the waveform of the recording that the text came from. */
  drawPrompt(prompt, bars = []) {
    const { parameters, key } = this.#settings;
    const body = api.generationBody(prompt, { ...parameters, seed: crypto.getRandomValues(new Uint32Array(1))[0] });
    return this.#draw({
      request: (signal) => api.drawPrompt(body, key, signal),
      command: () => curl.generationCommand(api.address("v1/images/generations"), body, key),
      bars,
    });
  }

  /** Repeats the drawing that failed. */
  retry() {
    this.#repeat();
  }

  /** Cancels the drawing in progress, if there is one. */
  cancel() {
    this.#generation?.cancel();
  }

  present(image) {
    clearCanvas();
    this.image = image;
    showImage(image.displayUrl, 1, image.prompt);
    showWaveform(image.bars);
    $("prompt").textContent = image.prompt;
    $("truncated").hidden = !image.truncated;
    $("download").href = image.url;
    $("download").download = fileName(image);
    $("command-box").hidden = true;
    $("command-box").open = false;
    $("recording").hidden = !image.recordingUrl;
    $("recording").href = image.recordingUrl ?? "";
    $("recording").download = image.recordingName ?? "";
    renderFacts($("facts"), image);
    renderTimings($("timings"), $("legend"), image);
    $("trace").hidden = true;
    image.trace?.then((trace) => trace && this.image === image && showTrace(trace));
    $("text").value = image.prompt;
    $("result").hidden = false;
    this.#gallery.markCurrent(image);
    setStatus(`Drawn in ${formatDuration(image.durationMs)}`, false);
  }

  /** Returns to the image shown before, or to the empty canvas, with `status` below it. */
  restore(status) {
    if (this.image) this.present(this.image);
    else {
      clearCanvas();
      showWaveform([]);
    }
    setStatus(status);
  }

  /** Shows a failure. `repeat` is called by the button "Try again"; without it the button is hidden. */
  fail(error, repeat = null) {
    this.#repeat = repeat;
    const expected = error instanceof UserFacingError;
    const { title, detail, code } = expected ? error : new UserFacingError("This page has a defect", `Load it anew. It says: ${error}`);
    showWaveform([]);
    scrollTo({ top: 0 });
    showFailure({ title, detail, canRetry: repeat !== null, fixedBySettings: CODES_FIXED_BY_SETTINGS.has(code) });
    if (!expected) throw error;
  }

  /** `request(signal)` yields the events; `command(seed)` is the same request for a terminal; `file` is the recording. */
  async #draw({ request, command, bars, file = null }) {
    this.#generation = new Generation(bars);
    setState("working");
    clearCanvas();
    scrollTo({ top: 0 });
    showWaveform(bars);
    setProgress(null);
    setStatus("Sending");
    try {
      const image = await this.#generation.run(request);
      setState("idle");
      image.command = command(image.seed);
      image.recordingUrl = file && URL.createObjectURL(file);
      image.recordingName = file?.name;
      this.#gallery.add(image);
      $("gallery-section").hidden = false;
      this.present(image);
      announce(`The picture is drawn: ${image.prompt}`);
    } catch (error) {
      setState("idle");
      if (this.#generation.cancelled) this.restore("Cancelled");
      else this.fail(error, () => this.#draw({ request, command, bars, file }));
    } finally {
      this.#generation = null;
    }
  }
}
