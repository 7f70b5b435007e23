// What a person does on the page, and what follows from it.

import * as curl from "./curl.js";
import { hold } from "./hold.js";
import { Making } from "./making.js";
import { record } from "./microphone.js";
import { Strip, facts, fileName, seconds, timings } from "./result.js";
import { Failed, address, draw, generation, limits, redraw, sample } from "./service.js";
import { Settings } from "./settings.js";
import { $, announce, appear, become, blank, fail, inStateMs, progress, say, state, wave } from "./view.js";
import { BARS, gathered, heard } from "./waveform.js";

const HELD_MS = 400; // a shorter press is a tap, which another one ends
const STEADY_MS = 600; // after a change of what the button does, a press is meant for what it did
const LEVEL_MS = 60;
const MENDED_BY_SETTINGS = new Set(["invalid_parameter", "invalid_api_key"]);

const settings = new Settings($("settings-form"));
const strip = new Strip($("strip"), (picture) => {
  toTop();
  present(picture);
});
const bounds = { max_audio_s: Infinity, max_upload_bytes: Infinity };
const told = limits()
  .then((said) => {
    Object.assign(bounds, said);
    $("width").max = $("height").max = said.max_side_px;
  })
  .catch(() => {}); // the service says itself where they are passed
let recording = null; // while the microphone is open
let levels = []; // of the microphone so far
let making = null;
let current = null; // the picture that is done
let repeat = null; // asks again for what failed

const toTop = () => scrollTo({ top: 0 }); // to the print

// What is made

/** `asked(signal)`: the events of one question; `command(seed)`: the same for a terminal; `bars`: of what was heard; `file`: that. */
async function make(asked, command, bars, file = null) {
  repeat = () => make(asked, command, bars, file);
  making = new Making(bars);
  become("working");
  blank();
  toTop();
  wave(bars);
  progress(null);
  say("Sending");
  try {
    const picture = await making.follow(asked);
    become("idle");
    picture.command = command(picture.seed);
    picture.heard = file && URL.createObjectURL(file);
    picture.heardName = file?.name;
    strip.add(picture);
    $("visit").hidden = false;
    present(picture);
    announce(`The picture is drawn: ${picture.prompt}`);
  } catch (error) {
    become("idle");
    if (making.cancelled) back("Cancelled");
    else failed(error);
  }
  making = null;
}

function drawFile(file, bars) {
  const { parameters, key } = settings;
  const command = (seed) => curl.drawing(address("graph"), file.name, { ...parameters, seed }, key);
  return make((signal) => draw(file, parameters, key, signal), command, bars, file);
}

function drawText(prompt, bars = []) {
  const { parameters, key } = settings;
  const asked = generation(prompt, { ...parameters, seed: crypto.getRandomValues(new Uint32Array(1))[0] });
  return make((signal) => redraw(asked, key, signal), () => curl.redrawing(address("v1/images/generations"), asked, key), bars);
}

function present(picture) {
  blank();
  current = picture;
  appear(picture.shown, 1, picture.prompt);
  wave(picture.bars);
  $("said").textContent = picture.prompt;
  $("truncated").hidden = !picture.truncated;
  $("download").href = picture.url;
  $("download").download = fileName(picture);
  $("command-box").hidden = true;
  $("command-box").open = false;
  $("recording").hidden = !picture.heard;
  $("recording").href = picture.heard ?? "";
  $("recording").download = picture.heardName ?? "";
  facts($("facts"), picture);
  timings($("timings"), $("legend"), picture);
  $("text").value = picture.prompt;
  $("result").hidden = false;
  strip.mark(picture);
  say(`Drawn in ${seconds(picture.tookMs)}`, false);
}

/** To the picture that was there before, if there was one. */
function back(why) {
  if (current) present(current);
  else {
    blank();
    wave([]);
  }
  say(why);
}

function failed(error) {
  const known = error instanceof Failed;
  const { title, detail, code } = known ? error : new Failed("This page has a defect", `Load it anew. It says: ${error}`);
  wave([]);
  toTop();
  fail({ title, detail, repeats: repeat !== null, settings: MENDED_BY_SETTINGS.has(code) });
  if (!known) throw error;
}

// The microphone

async function startRecording() {
  become("opening");
  blank();
  wave([]);
  say("Opening the microphone");
  try {
    recording = await record();
  } catch (error) {
    become("idle");
    repeat = null;
    return failed(error);
  }
  levels = [];
  become("recording");
  say("Recording");
  meter();
}

function meter() {
  if (!recording) return;
  levels.push(recording.level());
  const latest = levels.slice(-BARS);
  wave([...Array(BARS - latest.length).fill(0), ...latest]);
  $("record").style.setProperty("--level", latest.at(-1));
  const whole = Math.floor(recording.seconds);
  $("clock").textContent = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  if (recording.seconds >= bounds.max_audio_s - 1) finishRecording();
  else setTimeout(meter, LEVEL_MS);
}

async function finishRecording() {
  const ending = recording;
  recording = null;
  drawFile(await ending.finish(), gathered(levels));
}

function discard() {
  recording.discard();
  recording = null;
  become("idle");
  back("Discarded");
}

// What a person does

let began = false; // whether the press that is going on began the recording
hold($("record"), {
  pressed() {
    began = state() === "idle";
    if (began) startRecording();
    else if (recording) finishRecording();
    else if (making && inStateMs() > STEADY_MS) making.cancel();
  },
  released(heldMs) {
    if (began && recording && heldMs > HELD_MS) finishRecording();
  },
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || $("settings").open) return;
  if (recording) discard();
  making?.cancel();
});

$("side").addEventListener("click", () => (recording ? discard() : $("file").click()));
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) takeFile(file);
  $("file").value = "";
});

async function takeFile(file) {
  await told;
  if (state() !== "idle") return;
  if (file.size > bounds.max_upload_bytes) {
    const most = Math.floor(bounds.max_upload_bytes / 2 ** 20);
    repeat = null;
    failed(new Failed("The file is too large", `This service takes at most ${most} MB: choose a shorter recording.`));
    return;
  }
  const bars = await heard(file);
  if (state() === "idle") drawFile(file, bars);
}

for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => {
    $("record").focus({ preventScroll: true });
    try {
      await takeFile(await sample(button.dataset.sample));
    } catch (error) {
      repeat = () => button.click();
      failed(error);
    }
  });
}

for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.toggleAttribute("data-drop", name.startsWith("drage") || name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) takeFile(event.dataTransfer.files[0]);
  });
}

function edit(open) {
  $("editor").hidden = !open;
  $("type").setAttribute("aria-expanded", String(open));
  if (open) $("text").focus();
}

$("type").addEventListener("click", () => edit($("editor").hidden));
$("edit").addEventListener("click", () => edit(true));
$("close-editor").addEventListener("click", () => {
  edit(false);
  $("type").focus();
});
$("editor").addEventListener("submit", (event) => {
  event.preventDefault();
  edit(false);
  $("record").focus();
  drawText($("text").value.trim(), current?.bars);
});
$("again").addEventListener("click", () => {
  $("record").focus();
  drawText(current.prompt, current.bars);
});
$("try-again").addEventListener("click", () => {
  $("record").focus();
  repeat();
});

$("copy").addEventListener("click", async () => {
  $("command").textContent = current.command;
  $("command-box").hidden = false;
  try {
    await navigator.clipboard.writeText(current.command);
    $("copy-name").textContent = "Copied";
    announce("The command is copied");
    setTimeout(() => ($("copy-name").textContent = "Copy as curl"), 2000);
  } catch {
    $("command-box").open = true; // there is no clipboard here: to be copied by hand
  }
});

const openSettings = () => $("settings").showModal();

function count() {
  $("chosen").hidden = settings.count === 0;
  $("chosen").textContent = String(settings.count);
  $("chosen").append(Object.assign(document.createElement("span"), { className: "sr", textContent: " changed" }));
}

$("open-settings").addEventListener("click", openSettings);
$("failure-settings").addEventListener("click", openSettings);
$("close-settings").addEventListener("click", () => $("settings").close());
$("settings-form").addEventListener("submit", (event) => {
  event.preventDefault(); // the browser has said before what is out of its bounds
  $("settings").close();
});
$("settings").addEventListener("click", (event) => event.target === $("settings") && $("settings").close());
$("settings").addEventListener("close", count);

blank();
become("idle");
wave([]);
count();
