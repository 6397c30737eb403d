// The axes of a chart: steps that people count in, and as much room as the longest label needs.

import { colour } from './colours.js';

const FONT = '11px system-ui, sans-serif';
// Charts of usual values have their left edges in one line.
const ROOM_MIN = 64;
const ROOM_STEP = 12;
const GAP = 4;

const ruler = new OffscreenCanvas(1, 1).getContext('2d');

// Grows in steps and never shrinks: a chart must not twitch because its longest label changed.
function room(plot, labels, at) {
  const longest = Math.max(0, ...(labels ?? []).map(widthOf));
  const wanted = longest + 2 * GAP;
  const more = Math.max(0, Math.ceil((wanted - ROOM_MIN) / ROOM_STEP)) * ROOM_STEP;
  return Math.max(plot.axes[at]._size ?? 0, ROOM_MIN + more);
}

export function axes(unit, write) {
  const line = { stroke: colour('soft'), font: FONT, ticks: { show: false }, gap: GAP };
  const x = { ...line, size: 26, space: 70, grid: { show: false }, values: TIME_VALUES };
  const y = { ...line, size: room, space: 34, grid: { stroke: colour('grid'), width: 1 } };
  y.values = (_, marks) => marks.map((mark) => (mark === 0 ? '0' : write(Math.abs(mark))));
  if (unit.startsWith('bytes')) y.incrs = BYTE_STEPS;
  return [x, y];
}

// Binary steps, so that the axis says 512 MiB and not 477 MiB.
const BYTE_STEPS = Array.from({ length: 60 }, (_, i) => 2 ** i);

// Labels repeat: to measure one costs more than to look it up.
const widths = new Map();

function widthOf(label) {
  let width = widths.get(label);
  if (width === undefined) {
    if (widths.size >= LABELS_MAX) widths.clear();
    ruler.font = FONT;
    width = ruler.measureText(label).width;
    widths.set(label, width);
  }
  return width;
}

// To write a time costs more than to draw it, and the marks stay the same while the chart moves.
const LABELS_MAX = 500;
const labels = new Map();

const TIME_VALUES = (_plot, marks, _axis, _space, step) =>
  marks.map((mark) => {
    const key = `${step} ${mark}`;
    let label = labels.get(key);
    if (label === undefined) {
      if (labels.size >= LABELS_MAX) labels.clear();
      label = timeLabel(mark, step);
      labels.set(key, label);
    }
    return label;
  });

function timeLabel(mark, step) {
  const date = new Date(mark * 1000);
  if (step >= 86400) return date.toLocaleDateString(undefined, { month: 'short', day: 'numeric' });
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  if (midnight && step >= 60) return date.toLocaleDateString(undefined, { weekday: 'short', day: 'numeric' });
  const clock = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
  return date.toLocaleTimeString(undefined, step < 60 ? { ...clock, second: '2-digit' } : clock);
}
