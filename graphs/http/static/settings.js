// The settings dialog's values, kept in this tab until it closes and nowhere else.

const STORAGE_KEY = "settings";

/** Reads a form with fields named as parameters of POST /graph, and the field `key`. */
export class Settings {
  #form;

  constructor(form) {
    this.#form = form;
    const stored = JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "{}");
    for (const [name, value] of Object.entries(stored)) {
      if (form.elements.namedItem(name)) form.elements.namedItem(name).value = value;
    }
    form.addEventListener("input", () => this.#store());
    form.addEventListener("reset", () => setTimeout(() => this.#store()));
  }

  get key() {
    return this.#values().key ?? "";
  }

  /** The chosen parameters by name, without the key. */
  get parameters() {
    const { key, ...parameters } = this.#values();
    return parameters;
  }

  /** The number of fields that a person has filled in. */
  get count() {
    return Object.keys(this.#values()).length;
  }

  #values() {
    return Object.fromEntries([...new FormData(this.#form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
  }

  #store() {
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify(this.#values()));
  }
}
