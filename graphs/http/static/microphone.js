// A recording from the microphone, and its level.

import { UserFacingError } from "./errors.js";

const TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];
const TAIL_MS = 200; // the last word ends after the button is released

/** Opens the microphone and starts to record. Throws UserFacingError where the browser allows none. */
export async function openMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
    throw new UserFacingError(
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
    throw microphoneError(error);
  }
  return new Recording(stream);
}

function microphoneError(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new UserFacingError(
        "The microphone was refused",
        "Allow it in the browser’s settings for this page, beside the address, and press the button again; or choose a file.",
      );
    case "NotFoundError":
    case "OverconstrainedError":
      return new UserFacingError("There is no microphone", "Connect one and press the button again, or choose a file.");
    default:
      return new UserFacingError(
        "The microphone does not answer",
        "Another program may have it: close that and press the button again, or choose a file.",
      );
  }
}

class Recording {
  #stream;
  #recorder;
  #chunks = [];
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
    this.#recorder.addEventListener("dataavailable", (event) => this.#chunks.push(event.data));
    this.#recorder.start();
  }

  get durationS() {
    return (performance.now() - this.#startedMs) / 1000;
  }

  /** The present level, from 0 (-60 dB) to 1 (-10 dB), linear in decibels as loudness is. */
  level() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    const power = this.#samples.reduce((sum, sample) => sum + sample * sample, 0) / this.#samples.length;
    return Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-10) + 60) / 50));
  }

  /** Closes the microphone and resolves to the recording as a file. */
  async finish() {
    await new Promise((resolve) => setTimeout(resolve, TAIL_MS));
    const stopped = new Promise((resolve) => this.#recorder.addEventListener("stop", resolve, { once: true }));
    if (this.#recorder.state !== "inactive") {
      this.#recorder.stop();
      await stopped;
    }
    this.close();
    const type = (this.#recorder.mimeType || "audio/webm").split(";")[0];
    return new File(this.#chunks, `recording.${type.split("/")[1]}`, { type });
  }

  /** Closes the microphone. */
  close() {
    for (const track of this.#stream.getTracks()) track.stop();
    if (this.#context.state !== "closed") this.#context.close();
  }
}
