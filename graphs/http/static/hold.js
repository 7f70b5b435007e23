// A button that can be held, and one that can be pressed: by pointer, by space or enter, or by a screen reader's click.

/** `pressed()` when it goes down, `released(heldMs)` when it comes up; a click without either is both at once. */
export function hold(button, { pressed, released }) {
  let since = null;
  let handled = 0;

  const down = () => {
    if (since !== null) return;
    since = performance.now();
    pressed();
  };
  const up = () => {
    if (since === null) return;
    const heldMs = performance.now() - since;
    since = null;
    handled = performance.now();
    released(heldMs);
  };

  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    down();
  });
  button.addEventListener("pointerup", up);
  button.addEventListener("pointercancel", up);
  button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch would open it
  button.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) down();
  });
  button.addEventListener("keyup", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    up();
  });
  button.addEventListener("blur", up);
  button.addEventListener("click", () => {
    if (since !== null || performance.now() - handled < 300) return;
    down();
    up();
  });
}
