// What a person chose in the drawer: kept by this tab until it closes, and nowhere else.

const KEPT = "settings";

/** `form`: fields named as parameters of POST /graph, and `key`. */
export class Settings {
  #form;

  constructor(form) {
    this.#form = form;
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
    for (const [name, value] of Object.entries(kept)) {
      if (form.elements.namedItem(name)) form.elements.namedItem(name).value = value;
    }
    form.addEventListener("input", () => this.#keep());
    form.addEventListener("reset", () => setTimeout(() => this.#keep()));
  }

  get valid() {
    return this.#form.checkValidity();
  }

  get key() {
    return this.#all().key ?? "";
  }

  /** Those that were chosen, by name; not the key. */
  get parameters() {
    const { key, ...parameters } = this.#all();
    return parameters;
  }

  /** How many differ from what the service would choose. */
  get count() {
    return Object.keys(this.#all()).length;
  }

  #all() {
    return Object.fromEntries([...new FormData(this.#form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
  }

  #keep() {
    sessionStorage.setItem(KEPT, JSON.stringify(this.#all()));
  }
}
