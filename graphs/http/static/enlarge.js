// A small picture made large: smooth between pixels, sharp at edges. Only for looking at; what is downloaded is the service's own.

const TO_PX = 512;
const SMALL_PX = 128; // what is larger the browser enlarges well enough
const PASSES = 2;
const PULL = 1.2; // how far an edge's blur is drawn in, in parts of one small pixel

/** A larger PNG of this picture, or the picture itself where it is large already. */
export async function enlarged(blob) {
  const bitmap = await createImageBitmap(blob);
  const factor = Math.floor(TO_PX / Math.max(bitmap.width, bitmap.height));
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
    const wide = resized(values, small.width, small.height, factor, 1, small.width);
    return resized(wide, small.height, width, factor, width, 1);
  });
  for (let pass = 0; pass < PASSES; pass++) planes = warped(planes, width, height, factor);
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

/** Cubic interpolation by Catmull and Rom along one direction: `length` values `step` apart, on lines `stride` apart. */
function resized(values, length, lines, factor, step, stride) {
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

/** Takes each pixel from a little further away from the nearest edge, which makes the edge's slope steeper: warp sharpening. */
function warped(planes, width, height, factor) {
  const edges = blurred(slopes(planes, width, height), width, height, Math.round(factor / 2));
  const pull = (PULL * factor * factor) / edges.reduce((most, one) => Math.max(most, one), 1e-3);
  const out = planes.map((one) => new Float32Array(one.length));
  for (let y = 0; y < height; y++) {
    const [above, below] = [Math.max(0, y - 1) * width, Math.min(height - 1, y + 1) * width];
    for (let x = 0; x < width; x++) {
      const dx = edges[y * width + Math.min(width - 1, x + 1)] - edges[y * width + Math.max(0, x - 1)];
      const dy = edges[below + x] - edges[above + x];
      const fromX = Math.min(width - 1.001, Math.max(0, x - Math.min(factor, Math.max(-factor, dx * pull))));
      const fromY = Math.min(height - 1.001, Math.max(0, y - Math.min(factor, Math.max(-factor, dy * pull))));
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

/** How steep the lightness is at each pixel; what is very steep counts as steep. */
function slopes([red, green, blue], width, height) {
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

/** A box blur of this radius, three times along both directions, which is nearly Gaussian. */
function blurred(values, width, height, radius) {
  let out = values;
  for (let pass = 0; pass < 3; pass++) {
    out = averaged(out, width, height, radius, 1, width);
    out = averaged(out, height, width, radius, width, 1);
  }
  return out;
}

function averaged(values, length, lines, radius, step, stride) {
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
