// A recording from the microphone: starts it, shows its level and duration, and hands it on to be drawn.

import { openMicrophone } from "./microphone.js";
import { $, clearCanvas, setState, setStatus, showWaveform } from "./view.js";
import { BARS, resampleLevels } from "./waveform.js";

const METER_INTERVAL_MS = 60;

export class RecordingController {
  #drawing;
  #limits;
  #recording = null; // while the microphone is open
  #levels = []; // of the microphone since the start

  /** `limits.max_duration_s`: one second before it, a recording ends by itself. */
  constructor(drawing, limits) {
    this.#drawing = drawing;
    this.#limits = limits;
  }

  get active() {
    return this.#recording !== null;
  }

  async start() {
    setState("opening");
    clearCanvas();
    showWaveform([]);
    setStatus("Opening the microphone");
    try {
      this.#recording = await openMicrophone();
    } catch (error) {
      setState("idle");
      return this.#drawing.fail(error);
    }
    this.#levels = [];
    setState("recording");
    setStatus("Recording");
    this.#meter();
  }

  async finish() {
    const recording = this.#recording;
    this.#recording = null;
    this.#drawing.drawFile(await recording.finish(), resampleLevels(this.#levels));
  }

  discard() {
    this.#recording.close();
    this.#recording = null;
    setState("idle");
    this.#drawing.restore("Discarded");
  }

  #meter() {
    if (!this.#recording) return;
    this.#levels.push(this.#recording.level());
    const latest = this.#levels.slice(-BARS);
    showWaveform([...Array(BARS - latest.length).fill(0), ...latest]);
    $("record").style.setProperty("--level", latest.at(-1));
    const durationS = Math.floor(this.#recording.durationS);
    $("clock").textContent = `${Math.floor(durationS / 60)}:${String(durationS % 60).padStart(2, "0")}`;
    if (this.#recording.durationS >= this.#limits.max_duration_s - 1) this.finish();
    else setTimeout(() => this.#meter(), METER_INTERVAL_MS);
  }
}
