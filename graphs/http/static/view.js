// What is seen and heard of the page's state, which is one word on <body>: the stylesheet does the rest.

import { REST, show } from "./waveform.js";

const BUTTON = {
  idle: ["Record", "i-microphone", "Hold to speak, or tap to start and tap to end"],
  opening: ["Record", "i-microphone", "The browser may ask for the microphone"],
  recording: ["Finish recording", "i-finish", "Release or tap to draw, Escape to discard"],
  working: ["Cancel", "i-cancel", "Press to cancel"],
};

export const $ = (id) => document.getElementById(id);

let changedMs = 0;

export const state = () => document.body.dataset.state;
export const inStateMs = () => performance.now() - changedMs;

export function become(next) {
  changedMs = performance.now();
  document.body.dataset.state = next;
  const [name, icon, how] = BUTTON[next];
  $("record-name").textContent = name;
  use($("record"), icon);
  $("how").textContent = how;
  const discards = next === "recording";
  use($("side"), discards ? "i-cancel" : "i-file");
  $("side").lastElementChild.textContent = discards ? "Discard" : "File";
  $("side").disabled = next === "working" || next === "opening";
  for (const one of document.querySelectorAll("#type, .page button")) one.disabled = next !== "idle";
}

const use = (button, icon) => button.querySelector("use").setAttribute("href", `#${icon}`);

/** Seen at once; read out by a screen reader only where it is a turn of events. */
export function say(text, aloud = true) {
  $("status").textContent = text;
  if (aloud) announce(text);
}

export function announce(text) {
  $("announcer").textContent = text;
}

/** From 0 to 1; null where nobody knows. */
export function progress(value) {
  if (value === null) $("progress").removeAttribute("value");
  else $("progress").value = value;
}

/** An empty print. */
export function blank() {
  $("result").hidden = true;
  $("words").textContent = "";
  $("picture").hidden = true;
  shows("nothing");
}

export function shows(what) {
  document.body.dataset.shows = what;
  $("failure").hidden = what !== "failure";
}

/** Words take the print until there is a picture. */
export function hear(words) {
  $("words").textContent = words;
  shows("words");
}

/** The picture, as far as it is: from 0, unknown, to 1, done. */
export function appear(url, part, words = "") {
  $("picture").src = url;
  $("picture").alt = words;
  $("picture").hidden = false;
  $("picture").style.setProperty("--blur", `${10 * (1 - part)}px`);
  $("picture").style.setProperty("--opacity", Math.min(1, 0.3 + part));
  shows("picture");
}

export function wave(bars) {
  show($("wave"), bars.length ? bars : REST);
}

/** `failed`: a Failed. */
export function fail(failed) {
  blank();
  $("failure-title").textContent = failed.title;
  $("failure-detail").textContent = failed.detail;
  $("try-again").hidden = !failed.repeats;
  $("failure-settings").hidden = !failed.settings;
  shows("failure");
  say("No picture", false);
}
