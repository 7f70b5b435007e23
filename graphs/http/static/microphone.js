// One recording from the microphone, and how loud it is.

import { Failed } from "./service.js";

const TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];
const TAIL_MS = 200; // the end of the last word comes after the finger has gone

/** Opens the microphone and records at once. Throws Failed where the browser gives none. */
export async function record() {
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
    throw new Failed(
      "No microphone here",
      window.isSecureContext
        ? "This browser cannot record. Choose a file instead."
        : "Browsers give the microphone only to pages over https or on this very machine. Open the page by https or at http://localhost, or choose a file.",
    );
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    throw refused(error);
  }
  return new Recording(stream);
}

function refused(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new Failed(
        "The microphone was refused",
        "Allow it in the browser’s settings for this page, beside the address, and press the button again; or choose a file.",
      );
    case "NotFoundError":
    case "OverconstrainedError":
      return new Failed("There is no microphone", "Connect one and press the button again, or choose a file.");
    default:
      return new Failed(
        "The microphone does not answer",
        "Another program may have it: close that and press the button again, or choose a file.",
      );
  }
}

class Recording {
  #stream;
  #recorder;
  #parts = [];
  #context = new AudioContext();
  #analyser = this.#context.createAnalyser();
  #samples = new Float32Array(2048);
  #startedMs = performance.now();

  constructor(stream) {
    this.#stream = stream;
    this.#analyser.fftSize = this.#samples.length;
    this.#context.createMediaStreamSource(stream).connect(this.#analyser);
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    this.#recorder = new MediaRecorder(stream, mimeType ? { mimeType } : {});
    this.#recorder.addEventListener("dataavailable", (event) => this.#parts.push(event.data));
    this.#recorder.start();
  }

  get seconds() {
    return (performance.now() - this.#startedMs) / 1000;
  }

  /** From 0, silence, to 1. Ears hear in decibels: those from -60 to -10 are spread evenly. */
  level() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    const power = this.#samples.reduce((sum, sample) => sum + sample * sample, 0) / this.#samples.length;
    return Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-10) + 60) / 50));
  }

  /** The recording as a file, once the microphone is closed. */
  async finish() {
    await new Promise((resolve) => setTimeout(resolve, TAIL_MS));
    const stopped = new Promise((resolve) => this.#recorder.addEventListener("stop", resolve, { once: true }));
    if (this.#recorder.state !== "inactive") {
      this.#recorder.stop();
      await stopped;
    }
    this.discard();
    const type = (this.#recorder.mimeType || "audio/webm").split(";")[0];
    return new File(this.#parts, `recording.${type.split("/")[1]}`, { type });
  }

  /** Closes the microphone. */
  discard() {
    for (const track of this.#stream.getTracks()) track.stop();
    if (this.#context.state !== "closed") this.#context.close();
  }
}
