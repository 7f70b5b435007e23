// The page's state on the screen and for a screen reader: two attributes of <body>, which the stylesheet reads, and its texts.

import { IDLE_BARS, renderBars } from "./waveform.js";

const RECORD_BUTTON = {
  idle: ["Record", "i-microphone", "Hold to speak, or tap to start and tap to end"],
  opening: ["Record", "i-microphone", "The browser may ask for the microphone"],
  recording: ["Finish recording", "i-finish", "Release or tap to draw, Escape to discard"],
  working: ["Cancel", "i-cancel", "Press to cancel"],
};

export const $ = (id) => document.getElementById(id);

export function element(name, text, attributes = {}) {
  const created = Object.assign(document.createElement(name), attributes);
  if (text !== undefined) created.textContent = text;
  return created;
}

let stateSinceMs = 0;

export const state = () => document.body.dataset.state;
export const millisecondsInState = () => performance.now() - stateSinceMs;

/** `next`: idle, opening, recording or working. */
export function setState(next) {
  stateSinceMs = performance.now();
  document.body.dataset.state = next;
  const [name, icon, hint] = RECORD_BUTTON[next];
  $("record-name").textContent = name;
  setIcon($("record"), icon);
  $("hint").textContent = hint;
  const recording = next === "recording";
  setIcon($("side"), recording ? "i-cancel" : "i-file");
  $("side").lastElementChild.textContent = recording ? "Discard" : "File";
  $("side").disabled = next === "working" || next === "opening";
  for (const button of document.querySelectorAll("#type, .page button")) button.disabled = next !== "idle";
}

const setIcon = (button, icon) => button.querySelector("use").setAttribute("href", `#${icon}`);

/** Shows the status; a screen reader reads it out unless `aloud` is false. */
export function setStatus(text, aloud = true) {
  $("status").textContent = text;
  if (aloud) announce(text);
}

/** Text for screen readers only. */
export function announce(text) {
  $("announcer").textContent = text;
}

/** From 0 to 1; null where it is unknown. */
export function setProgress(value) {
  if (value === null) $("progress").removeAttribute("value");
  else $("progress").value = value;
}

export function clearCanvas() {
  $("result").hidden = true;
  $("transcript").textContent = "";
  $("picture").hidden = true;
  setCanvas("empty");
}

/** The transcript fills the canvas until there is an image. */
export function showTranscript(text) {
  $("transcript").textContent = text;
  setCanvas("transcript");
}

/** Shows an image, the more clearly the further its `progress` from 0 to 1. */
export function showImage(url, progress, description = "") {
  $("picture").src = url;
  $("picture").alt = description;
  $("picture").hidden = false;
  $("picture").style.setProperty("--blur", `${10 * (1 - progress)}px`);
  $("picture").style.setProperty("--opacity", Math.min(1, 0.3 + progress));
  setCanvas("picture");
}

export function showFailure({ title, detail, canRetry, fixedBySettings }) {
  clearCanvas();
  $("failure-title").textContent = title;
  $("failure-detail").textContent = detail;
  $("try-again").hidden = !canRetry;
  $("failure-settings").hidden = !fixedBySettings;
  setCanvas("failure");
  setStatus("No picture", false);
}

/** Without bars the waveform is that of an idle page. */
export function showWaveform(bars) {
  renderBars($("wave"), bars.length ? bars : IDLE_BARS);
}

/** `content`: empty, transcript, picture or failure. */
function setCanvas(content) {
  document.body.dataset.canvas = content;
  $("failure").hidden = content !== "failure";
}
