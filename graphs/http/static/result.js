// A picture that is done: what there is to say of it, and the strip of those before it.

const STAGES = { decode: "decoded", whisper: "heard", diffusion: "drawn", encode: "encoded" };
const KEPT = 48; // more of them a phone would have to hold

const element = (name, text, attributes = {}) => {
  const one = Object.assign(document.createElement(name), attributes);
  if (text !== undefined) one.textContent = text;
  return one;
};

export const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** Terms and their values. */
export function facts(list, picture) {
  const rows = [
    ["Seed", String(picture.seed)],
    ["Size", `${picture.width} × ${picture.height} pixels`],
    ...Object.values(picture.models).map((model, index) => [index ? "Drawn by" : "Heard by", model.split("/").pop()]),
    ["Time", `${seconds(picture.tookMs)} in all`],
  ];
  list.replaceChildren(
    ...rows.map(([term, value]) => {
      const row = element("div");
      row.append(element("dt", term), element("dd", value));
      return row;
    }),
  );
}

/** The stages' shares of the time, as a bar, and their words. */
export function timings(bar, legend, picture) {
  const stages = Object.entries(picture.timings).filter(([stage]) => STAGES[stage]);
  bar.parentElement.hidden = !stages.length;
  bar.replaceChildren(
    ...stages.map(([stage, ms]) => {
      const part = element("span", undefined, { className: stage });
      part.style.flexGrow = ms;
      return part;
    }),
  );
  legend.replaceChildren(...stages.map(([stage, ms]) => element("li", `${STAGES[stage]} in ${seconds(ms)}`, { className: stage })));
}

export function fileName(picture) {
  const words = picture.prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 40);
  return `${words || "picture"}-${picture.seed}.${picture.blob.type.split("/")[1]}`;
}

/** The pictures of this visit, the newest first; `chosen(picture)` when one is pressed. */
export class Strip {
  #list;
  #chosen;

  constructor(list, chosen) {
    this.#list = list;
    this.#chosen = chosen;
  }

  add(picture) {
    const button = element("button", undefined, { type: "button" });
    button.setAttribute("aria-label", `Show again: ${picture.prompt}, seed ${picture.seed}`);
    button.append(element("img", undefined, { src: picture.shown, alt: "" }));
    button.addEventListener("click", () => this.#chosen(picture));
    const item = Object.assign(element("li"), { picture });
    item.append(button);
    this.#list.prepend(item);
    while (this.#list.childElementCount > KEPT) {
      const { picture: oldest } = this.#list.lastElementChild;
      this.#list.lastElementChild.remove();
      for (const url of [oldest.url, oldest.shown, oldest.heard]) if (url) URL.revokeObjectURL(url);
    }
  }

  mark(picture) {
    for (const item of this.#list.children) {
      if (item.picture === picture) item.firstElementChild.setAttribute("aria-current", "true");
      else item.firstElementChild.removeAttribute("aria-current");
    }
  }
}
