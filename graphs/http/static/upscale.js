// Upscales a small image for display: smooth between pixels, sharp at edges. The download stays the service's own image.

const DISPLAY_PX = 512;
const SMALL_PX = 128; // the browser scales a larger image well enough
const PASSES = 2;
const STRENGTH = 1.2; // the largest shift towards an edge, in pixels of the small image

/** Resolves to a larger PNG of the image, or to the image itself where it is large already. */
export async function upscale(blob) {
  const bitmap = await createImageBitmap(blob);
  const factor = Math.floor(DISPLAY_PX / Math.max(bitmap.width, bitmap.height));
  if (Math.max(bitmap.width, bitmap.height) > SMALL_PX || factor < 2) return blob;
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const small = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const [width, height] = [small.width * factor, small.height * factor];
  let planes = [0, 1, 2].map((channel) => {
    const values = Float32Array.from({ length: small.width * small.height }, (_, at) => small.data[at * 4 + channel]);
    const wide = interpolate(values, small.width, small.height, factor, 1, small.width);
    return interpolate(wide, small.height, width, factor, width, 1);
  });
  for (let pass = 0; pass < PASSES; pass++) planes = sharpen(planes, width, height, factor);
  canvas.width = width;
  canvas.height = height;
  const large = context.createImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    for (let channel = 0; channel < 3; channel++) large.data[at * 4 + channel] = planes[channel][at];
    large.data[at * 4 + 3] = 255;
  }
  context.putImageData(large, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve));
}

/** Catmull-Rom cubic interpolation along one direction: `length` values `step` apart, on lines `stride` apart. */
function interpolate(values, length, lines, factor, step, stride) {
  const out = new Float32Array(values.length * factor);
  const outStride = step === 1 ? stride * factor : stride;
  for (let position = 0; position < length * factor; position++) {
    const from = (position + 0.5) / factor - 0.5;
    const whole = Math.floor(from);
    const t = from - whole;
    const [a, b, c, d] = [-1, 0, 1, 2].map((offset) => Math.min(length - 1, Math.max(0, whole + offset)) * step);
    const wa = 0.5 * t * (-1 + t * (2 - t));
    const wb = 1 + 0.5 * t * t * (3 * t - 5);
    const wc = 0.5 * t * (1 + t * (4 - 3 * t));
    const wd = 0.5 * t * t * (t - 1);
    for (let line = 0; line < lines; line++) {
      const at = line * stride;
      const sum = wa * values[at + a] + wb * values[at + b] + wc * values[at + c] + wd * values[at + d];
      out[line * outStride + position * step] = sum;
    }
  }
  return out;
}

/** Warp sharpening: samples each pixel a little further from the nearest edge, which makes the edge steeper. */
function sharpen(planes, width, height, factor) {
  const edges = blur(gradients(planes, width, height), width, height, Math.round(factor / 2));
  const shift = (STRENGTH * factor * factor) / edges.reduce((most, one) => Math.max(most, one), 1e-3);
  const out = planes.map((one) => new Float32Array(one.length));
  for (let y = 0; y < height; y++) {
    const [above, below] = [Math.max(0, y - 1) * width, Math.min(height - 1, y + 1) * width];
    for (let x = 0; x < width; x++) {
      const dx = edges[y * width + Math.min(width - 1, x + 1)] - edges[y * width + Math.max(0, x - 1)];
      const dy = edges[below + x] - edges[above + x];
      const fromX = Math.min(width - 1.001, Math.max(0, x - Math.min(factor, Math.max(-factor, dx * shift))));
      const fromY = Math.min(height - 1.001, Math.max(0, y - Math.min(factor, Math.max(-factor, dy * shift))));
      const at = (fromY | 0) * width + (fromX | 0);
      const [tx, ty] = [fromX - (fromX | 0), fromY - (fromY | 0)];
      for (let channel = 0; channel < 3; channel++) {
        const one = planes[channel];
        const upper = one[at] * (1 - tx) + one[at + 1] * tx;
        const lower = one[at + width] * (1 - tx) + one[at + width + 1] * tx;
        out[channel][y * width + x] = upper * (1 - ty) + lower * ty;
      }
    }
  }
  return out;
}

/** The gradient of the lightness at each pixel, clipped where it is very steep. */
function gradients([red, green, blue], width, height) {
  const light = red.map((value, at) => 0.3 * value + 0.59 * green[at] + 0.11 * blue[at]);
  const out = new Float32Array(light.length);
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const at = y * width + x;
      const [dx, dy] = [light[at + 1] - light[at - 1], light[at + width] - light[at - width]];
      out[at] = Math.min(60, Math.sqrt(dx * dx + dy * dy));
    }
  }
  return out;
}

/** Three box blurs of this radius along both directions: nearly Gaussian. */
function blur(values, width, height, radius) {
  let out = values;
  for (let pass = 0; pass < 3; pass++) {
    out = boxBlur(out, width, height, radius, 1, width);
    out = boxBlur(out, height, width, radius, width, 1);
  }
  return out;
}

function boxBlur(values, length, lines, radius, step, stride) {
  const out = new Float32Array(values.length);
  for (let line = 0; line < lines; line++) {
    const from = line * stride;
    let sum = radius * values[from];
    for (let position = 0; position < radius; position++) sum += values[from + position * step];
    for (let position = 0; position < length; position++) {
      sum += values[from + Math.min(length - 1, position + radius) * step];
      out[from + position * step] = sum / (2 * radius + 1);
      sum -= values[from + Math.max(0, position - radius) * step];
    }
  }
  return out;
}
