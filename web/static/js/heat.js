// One row for each series, stronger is more. Drawn into the chart that keeps axes, cursor and zoom.

import { colour } from './colours.js';

const SHADES = 32;
// One for all heat maps: each is drawn from it at once.
const small = new OffscreenCanvas(1, 1);
let ramp = { base: '', shades: [] };

// From the background to the colour of the CPU, in steps that can be told apart.
function shades() {
  const base = `${colour('cpu')} ${colour('track')}`;
  if (ramp.base === base) return ramp.shades;
  const canvas = new OffscreenCanvas(SHADES, 1);
  const context = canvas.getContext('2d');
  const gradient = context.createLinearGradient(0, 0, SHADES, 0);
  gradient.addColorStop(0, colour('track'));
  gradient.addColorStop(1, colour('cpu'));
  context.fillStyle = gradient;
  context.fillRect(0, 0, SHADES, 1);
  const { data } = context.getImageData(0, 0, SHADES, 1);
  const list = Array.from({ length: SHADES }, (_, i) => [data[i * 4], data[i * 4 + 1], data[i * 4 + 2]]);
  ramp = { base, shades: list };
  return list;
}

// `ys[0]` is the top row.
export function drawHeat(plot, ys) {
  const { ctx, bbox, data } = plot;
  const x = data[0];
  if (x.length < 2 || ys.length === 0) return;
  const width = Math.max(1, Math.round(bbox.width));
  const image = new ImageData(width, ys.length);
  const pixels = new Uint32Array(image.data.buffer);
  const list = shades().map(([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r);
  const gap = (x.at(-1) - x[0]) / x.length * 3;
  for (let i = 0; i < x.length; i += 1) {
    const from = plot.valToPos(i > 0 && x[i] - x[i - 1] < gap ? x[i - 1] : x[i] - gap / 3, 'x', true) - bbox.left;
    const to = plot.valToPos(x[i], 'x', true) - bbox.left;
    const left = Math.max(0, Math.round(from));
    const right = Math.min(width, Math.round(to));
    if (right <= left) continue;
    for (let row = 0; row < ys.length; row += 1) {
      const value = ys[row][i];
      if (value === null || value === undefined) continue;
      const shade = list[Math.min(SHADES - 1, Math.max(0, Math.round(value * (SHADES - 1))))];
      pixels.fill(shade, row * width + left, row * width + right);
    }
  }
  Object.assign(small, { width, height: ys.length });
  small.getContext('2d').putImageData(image, 0, 0);
  ctx.save();
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(small, bbox.left, bbox.top, width, bbox.height);
  // A hair between the rows, as long as they are high enough to need one.
  const height = bbox.height / ys.length;
  if (height > 6 * devicePixelRatio) {
    ctx.fillStyle = colour('bg');
    for (let row = 1; row < ys.length; row += 1) ctx.fillRect(bbox.left, Math.round(bbox.top + row * height), width, devicePixelRatio);
  }
  ctx.restore();
}
