// Labels of a request's stages, by the names in the service's events, `timings_ms` and `models`.
// A stage without a label here is shown by its own name.

export const LISTENING = "Listening";
export const DRAWING = "Drawing";
const LABELS = {
  decode: { done: "decoded" },
  whisper: { active: LISTENING, done: "heard", model: "Heard by" },
  diffusion: { active: DRAWING, done: "drawn", model: "Drawn by" },
  encode: { done: "encoded" },
};

/** The status while a stage works. */
export const activeLabel = (stage) => LABELS[stage]?.active ?? stage;

/** The word before a stage's duration: "heard in 1.2 s". */
export const doneLabel = (stage) => LABELS[stage]?.done ?? stage;

/** The term before a stage's model: "Heard by". */
export const modelLabel = (stage) => LABELS[stage]?.model ?? stage;
