// A button to hold or to press: by pointer, by space or enter, or by a screen reader's click.

/** Calls `onPress()` when the button goes down and `onRelease(heldMs)` when it comes up; for a click without either, both at once. */
export function pushToTalk(button, { onPress, onRelease }) {
  let pressedMs = null; // while the button is down
  let releasedMs = 0;

  const down = () => {
    if (pressedMs !== null) return;
    pressedMs = performance.now();
    onPress();
  };
  const up = () => {
    if (pressedMs === null) return;
    const heldMs = performance.now() - pressedMs;
    pressedMs = null;
    releasedMs = performance.now();
    onRelease(heldMs);
  };

  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    down();
  });
  button.addEventListener("pointerup", up);
  button.addEventListener("pointercancel", up);
  button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch opens the context menu
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
    if (pressedMs !== null || performance.now() - releasedMs < 300) return;
    down();
    up();
  });
}
