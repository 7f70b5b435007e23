// The page's entry point: connects its controls to recording, drawing and settings.

import { fetchLimits, fetchSample } from "./api.js";
import { DrawingController } from "./drawing.js";
import { UserFacingError } from "./errors.js";
import { Gallery } from "./gallery.js";
import { pushToTalk } from "./push_to_talk.js";
import { RecordingController } from "./recording.js";
import { Settings } from "./settings.js";
import { $, announce, clearCanvas, millisecondsInState, setState, showWaveform, state } from "./view.js";
import { barsOfFile } from "./waveform.js";

const HELD_MS = 400; // a shorter press is a tap, and a second tap ends the recording
const DEBOUNCE_MS = 600; // a press sooner after a change of the button's action is meant for the old action

const settings = new Settings($("settings-form"));
const gallery = new Gallery($("gallery"), (image) => {
  scrollTo({ top: 0 });
  drawing.present(image);
});
const drawing = new DrawingController(settings, gallery);
const limits = { max_duration_s: Infinity, max_upload_bytes: Infinity };
const recording = new RecordingController(drawing, limits);
const limitsLoaded = fetchLimits()
  .then((served) => {
    Object.assign(limits, served);
    $("width").max = $("height").max = served.max_side_px;
    $("kept").textContent = served.may_keep_content
      ? "Its operator has set this service so that it may keep recordings, words and pictures."
      : "The service keeps neither the recording nor the picture.";
  })
  .catch(() => {}); // the service itself refuses a request beyond its limits

// Recording

let startedByPress = false; // whether the present press started the recording
pushToTalk($("record"), {
  onPress() {
    startedByPress = state() === "idle";
    if (startedByPress) recording.start();
    else if (recording.active) recording.finish();
    else if (millisecondsInState() > DEBOUNCE_MS) drawing.cancel();
  },
  onRelease(heldMs) {
    if (startedByPress && recording.active && heldMs > HELD_MS) recording.finish();
  },
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || $("settings").open) return;
  if (recording.active) recording.discard();
  drawing.cancel();
});

// Files

$("side").addEventListener("click", () => (recording.active ? recording.discard() : $("file").click()));
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) acceptFile(file);
  $("file").value = "";
});

async function acceptFile(file) {
  await limitsLoaded;
  if (state() !== "idle") return;
  if (file.size > limits.max_upload_bytes) {
    const maxMiB = Math.floor(limits.max_upload_bytes / 2 ** 20);
    drawing.fail(new UserFacingError("The file is too large", `This service takes at most ${maxMiB} MiB: choose a shorter recording.`));
    return;
  }
  const bars = await barsOfFile(file);
  if (state() === "idle") drawing.drawFile(file, bars);
}

for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => {
    $("record").focus({ preventScroll: true });
    try {
      await acceptFile(await fetchSample(button.dataset.sample));
    } catch (error) {
      drawing.fail(error, () => button.click());
    }
  });
}

for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.toggleAttribute("data-drop", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) acceptFile(event.dataTransfer.files[0]);
  });
}

// The text editor

function openEditor(open) {
  $("editor").hidden = !open;
  $("type").setAttribute("aria-expanded", String(open));
  if (open) $("text").focus();
}

$("type").addEventListener("click", () => openEditor($("editor").hidden));
$("edit").addEventListener("click", () => openEditor(true));
$("close-editor").addEventListener("click", () => {
  openEditor(false);
  $("type").focus();
});
$("editor").addEventListener("submit", (event) => {
  event.preventDefault();
  openEditor(false);
  $("record").focus();
  drawing.drawPrompt($("text").value.trim(), drawing.image?.bars);
});

// The image

$("again").addEventListener("click", () => {
  $("record").focus();
  drawing.drawPrompt(drawing.image.prompt, drawing.image.bars);
});
$("try-again").addEventListener("click", () => {
  $("record").focus();
  drawing.retry();
});

$("copy").addEventListener("click", async () => {
  $("command").textContent = drawing.image.command;
  $("command-box").hidden = false;
  try {
    await navigator.clipboard.writeText(drawing.image.command);
    $("copy-name").textContent = "Copied";
    announce("The command is copied");
    setTimeout(() => ($("copy-name").textContent = "Copy as curl"), 2000);
  } catch {
    $("command-box").open = true; // without a clipboard the command is copied by hand
  }
});

// Settings

const openSettings = () => $("settings").showModal();

function showChangedCount() {
  $("chosen").hidden = settings.count === 0;
  $("chosen").textContent = String(settings.count);
  $("chosen").append(Object.assign(document.createElement("span"), { className: "sr", textContent: " changed" }));
}

$("open-settings").addEventListener("click", openSettings);
$("failure-settings").addEventListener("click", openSettings);
$("close-settings").addEventListener("click", () => $("settings").close());
$("settings-form").addEventListener("submit", (event) => {
  event.preventDefault(); // the browser has validated the fields
  $("settings").close();
});
$("settings").addEventListener("click", (event) => event.target === $("settings") && $("settings").close());
$("settings").addEventListener("close", showChangedCount);

clearCanvas();
setState("idle");
showWaveform([]);
showChangedCount();
