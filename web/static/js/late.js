// Where on a chart the values came late: a hatched strip at its foot.

import { colour } from './colours.js';

const HEIGHT = 5;
const STRIPE = 4;

// Stretches of [from, to] in milliseconds, of all these tracks together.
export function lateStretches(tracks) {
  const found = [];
  for (const { t, late } of tracks) {
    if (!late?.length) continue;
    const step = t.length > 1 ? (t.at(-1) - t[0]) / (t.length - 1) : 1000;
    for (const time of late) found.push([time - step, time]);
  }
  found.sort((a, b) => a[0] - b[0]);
  const joined = [];
  for (const [from, to] of found) {
    const last = joined.at(-1);
    if (last && from <= last[1] + 1000) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

export function drawLate({ ctx, bbox, valToPos }, stretches) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = colour('warn');
  ctx.lineWidth = devicePixelRatio;
  const [height, stripe] = [HEIGHT * devicePixelRatio, STRIPE * devicePixelRatio];
  const foot = bbox.top + bbox.height;
  for (const [from, to] of stretches) {
    const [left, right] = [from, to].map((ms) => valToPos(ms / 1000, 'x', true));
    ctx.beginPath();
    for (let x = left; x < right + stripe; x += stripe) {
      ctx.moveTo(x - stripe, foot);
      ctx.lineTo(x, foot - height);
    }
    ctx.moveTo(left, foot - height);
    ctx.lineTo(right, foot - height);
    ctx.stroke();
  }
  ctx.restore();
}
