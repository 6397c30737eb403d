// What a chart shows, to take away: an address, a picture, a table. Loaded when first asked for.

import { colour } from './colours.js';
import { exactTime } from './format.js';

const PADDING = 16;
const LINE = 20;

// `kind` is `link`, `png` or `csv`; `page` has the bounds that are shown, a name, and an address where that alone says it all. Returns what to say.
export async function take(kind, chart, page) {
  const [from, to] = page.bounds().map(Math.round);
  const title = `${page.name} · ${chart.title}`;
  if (kind === 'link') return copy(page.address ?? link(chart, from, to));
  const file = `${page.name} ${chart.id} ${new Date(from).toISOString().slice(0, 19)}`.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-/, '');
  if (kind === 'csv') save(`${file}.csv`, new Blob([table(chart, from, to)], { type: 'text/csv' }));
  else save(`${file}.png`, await picture(chart, title, from, to));
  return 'Saved';
}

// Fixed times: whoever opens it sees this, and not what is then.
function link(chart, from, to) {
  const address = new URL(location.href);
  address.searchParams.delete('range');
  address.searchParams.set('from', String(from));
  address.searchParams.set('to', String(to));
  address.hash = chart.figure.id;
  return address.href;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return 'Copied';
  } catch {
    // Only secure origins may write to the clipboard.
    history.replaceState(null, '', text);
    return 'In the address bar';
  }
}

// One row for each time on the chart; empty where a series has no value. Numbers are exact, in base units.
export function table(chart, from, to) {
  const { x, ys } = chart.values;
  const unit = chart.unit === 'number' ? '' : ` (${chart.unit})`;
  const sides = (one) => (chart.sides ? ` ${chart.sides[Number(one.below)]}` : '');
  const lines = [['time', ...chart.series.map((one) => `${one.name}${sides(one)}${unit}`)]];
  x.forEach((seconds, i) => {
    const ms = Math.round(seconds * 1000);
    if (ms < from || ms > to || ys.every((y) => y[i] == null)) return;
    const values = ys.map((y, s) => (y[i] == null ? '' : String(chart.series[s].below ? -y[i] : y[i])));
    lines.push([new Date(ms).toISOString(), ...values]);
  });
  return lines.map((cells) => cells.map(cell).join(',')).join('\r\n') + '\r\n';
}

// Names come from the machines: a spreadsheet must not take one for a formula.
function cell(text) {
  const safe = /^[=+@\t\r]|^-(?![\d.])/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function picture(chart, title, from, to) {
  const source = chart.plot.ctx.canvas;
  const ratio = source.width / chart.plot.width;
  const width = chart.plot.width + 2 * PADDING;
  const ruler = new OffscreenCanvas(1, 1).getContext('2d');
  ruler.font = '12px system-ui, sans-serif';
  const names = legend(chart, ruler, width - 2 * PADDING);
  const head = PADDING + LINE * (2 + (names.at(-1)?.line ?? -1) + 1);
  const canvas = new OffscreenCanvas(width * ratio, (head + chart.plot.height + PADDING) * ratio);
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  context.fillStyle = colour('bg');
  context.fillRect(0, 0, width, canvas.height);
  context.fillStyle = colour('fg');
  context.font = '600 15px system-ui, sans-serif';
  context.fillText(title, PADDING, PADDING + 12, width - 2 * PADDING);
  context.font = '12px system-ui, sans-serif';
  context.fillStyle = colour('soft');
  context.fillText(`${exactTime(from)} – ${exactTime(to)}`, PADDING, PADDING + 12 + LINE, width - 2 * PADDING);
  for (const { name, css, left, line } of names) {
    const y = PADDING + 12 + LINE * (2 + line);
    context.fillStyle = css;
    context.fillRect(PADDING + left, y - 9, 10, 10);
    context.fillStyle = colour('soft');
    context.fillText(name, PADDING + left + 15, y);
  }
  context.drawImage(source, PADDING, head, chart.plot.width, chart.plot.height);
  return canvas.convertToBlob({ type: 'image/png' });
}

// Each name once, in lines that are no wider than the picture.
function legend(chart, ruler, width) {
  if (chart.draw === 'heat') return [];
  const placed = [];
  let [left, line] = [0, 0];
  for (const one of chart.series) {
    if (placed.some((other) => other.name === one.name)) continue;
    const needs = ruler.measureText(one.name).width + 32;
    if (left > 0 && left + needs > width) [left, line] = [0, line + 1];
    placed.push({ name: one.name, css: one.colour, left, line });
    left += needs;
  }
  return placed;
}

function save(name, blob) {
  const anchor = document.createElement('a');
  anchor.href = URL.createObjectURL(blob);
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
}
