// The images drawn since the page was opened, newest first.

import { element } from "./view.js";

const MAX_IMAGES = 48; // a phone's memory bounds how many

export class Gallery {
  #list;
  #onSelect;

  /** `onSelect(image)` is called when an image is pressed. */
  constructor(list, onSelect) {
    this.#list = list;
    this.#onSelect = onSelect;
  }

  add(image) {
    const button = element("button", undefined, { type: "button" });
    button.setAttribute("aria-label", `Show again: ${image.prompt}, seed ${image.seed}`);
    button.append(element("img", undefined, { src: image.displayUrl, alt: "" }));
    button.addEventListener("click", () => this.#onSelect(image));
    const item = Object.assign(element("li"), { image });
    item.append(button);
    this.#list.prepend(item);
    while (this.#list.childElementCount > MAX_IMAGES) {
      const { image: oldest } = this.#list.lastElementChild;
      this.#list.lastElementChild.remove();
      for (const url of [oldest.url, oldest.displayUrl, oldest.recordingUrl]) if (url) URL.revokeObjectURL(url);
    }
  }

  markCurrent(image) {
    for (const item of this.#list.children) {
      if (item.image === image) item.firstElementChild.setAttribute("aria-current", "true");
      else item.firstElementChild.removeAttribute("aria-current");
    }
  }
}
