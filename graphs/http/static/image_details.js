// What is shown beside a finished image: facts, the duration of each stage, and its file name.

import { doneLabel, modelLabel } from "./stages.js";
import { element } from "./view.js";

export const formatDuration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** Fills a definition list. */
export function renderFacts(list, image) {
  const rows = [
    ["Seed", String(image.seed)],
    ["Size", `${image.width} × ${image.height} pixels`],
    ...Object.entries(image.models).map(([stage, model]) => [modelLabel(stage), model.split("/").pop()]),
    ["Time", `${formatDuration(image.durationMs)} in all`],
  ];
  list.replaceChildren(
    ...rows.map(([term, value]) => {
      const row = element("div");
      row.append(element("dt", term), element("dd", value));
      return row;
    }),
  );
}

/** Fills a bar with each stage's share of the time, and its legend. A stage with a model has a colour of its own. */
export function renderTimings(bar, legend, image) {
  const stages = Object.entries(image.timings);
  const models = Object.keys(image.models);
  const className = (stage) => (models.includes(stage) ? `model-${models.indexOf(stage) + 1}` : "");
  bar.parentElement.hidden = !stages.length;
  bar.replaceChildren(
    ...stages.map(([stage, ms]) => {
      const part = element("span", undefined, { className: className(stage) });
      part.style.flexGrow = ms;
      return part;
    }),
  );
  legend.replaceChildren(
    ...stages.map(([stage, ms]) => element("li", `${doneLabel(stage)} in ${formatDuration(ms)}`, { className: className(stage) })),
  );
}

export function fileName(image) {
  const slug = image.prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 40);
  return `${slug || "picture"}-${image.seed}.${image.blob.type.split("/")[1]}`;
}
