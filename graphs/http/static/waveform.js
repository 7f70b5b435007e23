// A recording as a row of bars.

export const BARS = 48;
const WIDTH = 5; // of the 10 units that a bar has
const HEIGHT = 100;
const SVG = "http://www.w3.org/2000/svg";

/** Shows `heights`, each from 0 to 1. */
export function show(svg, heights) {
  for (let index = svg.querySelectorAll("rect").length; index < BARS; index++) {
    const bar = document.createElementNS(SVG, "rect");
    bar.setAttribute("width", WIDTH);
    bar.setAttribute("rx", WIDTH / 2);
    bar.setAttribute("x", index * 10 + WIDTH / 2);
    svg.append(bar);
  }
  svg.querySelectorAll("rect").forEach((bar, index) => {
    const height = Math.max(WIDTH, (heights[index] ?? 0) * HEIGHT);
    bar.setAttribute("height", height);
    bar.setAttribute("y", (HEIGHT - height) / 2);
  });
}

/** As many bars as there are, each the loudest of its share of `levels`. */
export function gathered(levels) {
  if (!levels.length) return [];
  return Array.from({ length: BARS }, (_, index) => {
    const from = Math.floor((index * levels.length) / BARS);
    const to = Math.max(from + 1, Math.floor(((index + 1) * levels.length) / BARS));
    return Math.max(...levels.slice(from, to));
  });
}

/** The bars of a file; none where this browser cannot decode it, which says nothing of the service. */
export async function heard(file) {
  try {
    const context = new OfflineAudioContext(1, 1, 16000);
    const samples = (await context.decodeAudioData(await file.arrayBuffer())).getChannelData(0);
    const share = Math.max(1, Math.floor(samples.length / BARS));
    const loud = Array.from({ length: BARS }, (_, index) => {
      const part = samples.subarray(index * share, (index + 1) * share);
      return Math.sqrt(part.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(1, part.length));
    });
    const most = Math.max(...loud, 1e-4);
    return loud.map((one) => (one / most) ** 0.7);
  } catch {
    return [];
  }
}

/** At rest: a breath that swells and falls. */
export const REST = Array.from({ length: BARS }, (_, index) => {
  const from = index / (BARS - 1);
  return 0.06 + 0.5 * Math.sin(Math.PI * from) ** 2 * Math.abs(Math.sin(index * 0.9) * 0.7 + Math.sin(index * 0.37) * 0.3);
});
