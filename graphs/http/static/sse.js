// Server-sent events from a response's body: https://html.spec.whatwg.org/multipage/server-sent-events.html

/** Yields the data of each event, parsed as JSON, as soon as the event's empty line arrives. */
export async function* parseEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      // A carriage return at the end may be half of a line's end: it waits for the next character.
      const text = rest + value;
      const completeLength = text.endsWith("\r") ? text.length - 1 : text.length;
      const blocks = text.slice(0, completeLength).replace(/\r\n?/g, "\n").split("\n\n");
      rest = blocks.pop() + text.slice(completeLength);
      for (const block of blocks) {
        const data = block
          .split("\n")
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).replace(/^ /, ""));
        if (data.length) yield JSON.parse(data.join("\n"));
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
