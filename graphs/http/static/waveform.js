// The waveform of a recording: a row of bars.

export const BARS = 48;
const WIDTH = 5; // of the 10 units between two bars
const HEIGHT = 100;
const SVG = "http://www.w3.org/2000/svg";

/** Draws bars of these heights, each from 0 to 1. */
export function renderBars(svg, heights) {
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

/** Reduces any number of levels to BARS, each the loudest of its share. */
export function resampleLevels(levels) {
  if (!levels.length) return [];
  return Array.from({ length: BARS }, (_, index) => {
    const from = Math.floor((index * levels.length) / BARS);
    const to = Math.max(from + 1, Math.floor(((index + 1) * levels.length) / BARS));
    return Math.max(...levels.slice(from, to));
  });
}

/** The bars of a file; none where this browser cannot decode it, although the service may. */
export async function barsOfFile(file) {
  try {
    const context = new OfflineAudioContext(1, 1, 16000);
    const samples = (await context.decodeAudioData(await file.arrayBuffer())).getChannelData(0);
    const share = Math.max(1, Math.floor(samples.length / BARS));
    const levels = Array.from({ length: BARS }, (_, index) => {
      const part = samples.subarray(index * share, (index + 1) * share);
      return Math.sqrt(part.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(1, part.length));
    });
    const loudest = Math.max(...levels, 1e-4);
    return levels.map((level) => (level / loudest) ** 0.7);
  } catch {
    return [];
  }
}

/** The bars of an idle page, highest in the middle. */
export const IDLE_BARS = Array.from({ length: BARS }, (_, index) => {
  const from = index / (BARS - 1);
  return 0.06 + 0.5 * Math.sin(Math.PI * from) ** 2 * Math.abs(Math.sin(index * 0.9) * 0.7 + Math.sin(index * 0.37) * 0.3);
});
