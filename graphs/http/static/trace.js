// A request's trace as a waterfall, as `sonograph trace` draws it. The service shows it to operators alone.

import { formatDuration } from "./image_details.js";
import { $, element } from "./view.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 12;
const LEAST_WIDTH = 0.5; // of a bar, in percent of the axis

/** Fills and shows the waterfall. `trace`: the answer of GET /graph/traces/{id}. */
export function showTrace(trace) {
  const totalMs = Math.max(trace.took_ms, ...trace.spans.map((span) => span.start_ms + span.took_ms));
  $("trace-summary").textContent = `Where the time went: ${formatDuration(trace.took_ms)}`;
  $("trace-axis").textContent = `0 to ${totalMs.toFixed(0)} ms`;
  $("trace-rows").replaceChildren(...inOrder(trace.spans).map(([depth, span]) => row(depth, span, totalMs)));
  const dropped = trace.dropped ? ` ${trace.dropped} further parts were not kept.` : "";
  $("trace-note").textContent = `Trace ${trace.trace_id}.${dropped}`;
  $("trace").hidden = false;
}

/** Each span after the one around it, with its depth. One whose parent was not kept stands at the top. */
function inOrder(spans) {
  const ids = new Set(spans.map(({ id }) => id));
  const children = Map.groupBy(spans, ({ id, parent_id }) => (ids.has(parent_id) && parent_id !== id ? parent_id : null));
  const below = (parent, depth) => (children.get(parent) ?? []).flatMap((span) => [[depth, span], ...below(span.id, depth + 1)]);
  return below(null, 0);
}

function row(depth, span, totalMs) {
  const created = element("tr", undefined, { className: span.error ? "failed" : "" });
  const name = element("th", span.name, { scope: "row" });
  name.style.setProperty("--depth", depth);
  const facts = remark(span);
  if (facts) name.append(element("small", facts));
  const time = element("td");
  time.append(bar(span, totalMs), element("span", `from ${span.start_ms.toFixed(1)} ms`, { className: "sr" }));
  created.append(name, time, element("td", span.took_ms.toFixed(1)));
  return created;
}

/** The most telling facts of a span: its error, events, batch and model. */
function remark({ error, events, attributes }) {
  const batch = attributes["sonograph.batch_size"];
  const model = attributes["gen_ai.response.model"];
  return [error, events.length && `${events.length} × ${events[0].name}`, batch && `batch of ${batch}`, model].filter(Boolean).join(", ");
}

/** A bar from the span's begin to its end, with a tick at each of its events. */
function bar(span, totalMs) {
  const percent = (ms) => Math.min(100, Math.max(0, (ms / totalMs) * 100));
  const width = Math.max(LEAST_WIDTH, percent(span.took_ms));
  const x = Math.min(percent(span.start_ms), 100 - width);
  const ticks = span.events.map(({ at_ms }) => `M${percent(at_ms)} 0V${HEIGHT}`).join("");
  const drawing = svg("svg", { viewBox: `0 0 100 ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  drawing.append(svg("rect", { x, width, y: HEIGHT / 4, height: HEIGHT / 2 }), svg("path", { d: ticks }));
  return drawing;
}

function svg(name, attributes) {
  const created = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) created.setAttribute(attribute, value);
  return created;
}
