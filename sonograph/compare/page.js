"use strict";

/* Draws the charts in the colours of the page, again when these change; hides candidates; moves the timeline by keyboard and touch. */

const charts = JSON.parse(document.getElementById("charts").textContent);
const hidden = new Set();
const touch = matchMedia("(pointer: coarse)").matches;
const config = { displayModeBar: false, responsive: true, displaylogo: false, doubleClick: "reset", showTips: false };

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function axis(given) {
  const line = colour("line");
  return { gridcolor: line, zerolinecolor: line, linecolor: line, fixedrange: touch, automargin: true, ...given };
}

function layout(chart) {
  const { xaxis, yaxis, ...rest } = chart.layout;
  const ink = colour("ink");
  return {
    font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
    margin: { l: 56, r: 16, t: 16, b: 48, pad: 4 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false,
    hovermode: "closest",
    dragmode: touch ? false : "zoom",
    hoverlabel: { bgcolor: colour("sheet"), bordercolor: colour("soft"), font: { color: ink, size: 12 }, align: "left" },
    ...rest,
    xaxis: axis(xaxis),
    yaxis: axis({ ...yaxis, fixedrange: true }),
  };
}

function data(chart) {
  const ink = colour("ink");
  const paper = colour("paper");
  return chart.data.map((trace) => {
    const visible = !hidden.has(trace.meta);
    if (trace.type === "bar") return { ...trace, visible, marker: { ...trace.marker, line: { ...trace.marker.line, color: paper } } };
    if (trace.meta !== "ink") return { ...trace, visible };
    const marker = { ...trace.marker, color: ink, line: { color: ink, ...trace.marker?.line } };
    return { ...trace, marker, line: { ...trace.line, color: ink } };
  });
}

function draw() {
  for (const [id, chart] of Object.entries(charts)) Plotly.react(document.getElementById(`chart-${id}`), data(chart), layout(chart), config);
}

/* Each step keeps the view within the whole: [scale, shift], as shares of what is shown. */
const STEPS = { nearer: [0.5, 0], farther: [2, 0], earlier: [1, -0.5], later: [1, 0.5] };

function move(step) {
  const element = document.getElementById("chart-timeline");
  if (step === "all") return Plotly.relayout(element, { "xaxis.autorange": true });
  const [from, to] = element.whole;
  const [begin, end] = element.layout.xaxis.range;
  const [scale, shift] = STEPS[step];
  const width = Math.min(to - from, (end - begin) * scale);
  const middle = (begin + end) / 2 + shift * (end - begin);
  const left = Math.max(from, Math.min(to - width, middle - width / 2));
  return Plotly.relayout(element, { "xaxis.range": [left, left + width] });
}

draw();
const timeline = document.getElementById("chart-timeline");
if (timeline) timeline.whole = [...timeline.layout.xaxis.range];
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
for (const button of document.querySelectorAll("[data-move]")) button.addEventListener("click", () => move(button.dataset.move));
for (const box of document.querySelectorAll("[data-candidate]")) {
  box.addEventListener("change", () => {
    const place = Number(box.dataset.candidate);
    if (box.checked) hidden.delete(place);
    else hidden.add(place);
    draw();
  });
}
document.body.dataset.drawn = "yes";
