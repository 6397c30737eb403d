// One metric of all machines in one chart. Loaded when somebody asks for it.

import { Chart } from './chart.js';
import { onColoursChanged } from './colours.js';
import { key } from './keys.js';
import { json, setText, url, version } from './page.js';
import { niceStep } from './series.js';
import { serverNow } from './times.js';

// `only` picks the series that count; several of one machine are folded into one.
const outside = ['network.interface.name!=lo'];
const METRICS = {
  cpu: { metric: 'system.cpu.utilization', only: ['cpu.mode=', 'cpu.logical_number='], fold: 'max', unit: 'ratio', full: 1 },
  memory: { metric: 'system.memory.utilization', only: [], fold: 'max', unit: 'ratio', full: 1 },
  disk: { metric: 'system.filesystem.utilization', only: [], fold: 'max', unit: 'ratio', full: 1 },
  received: { metric: 'system.network.io', only: [...outside, 'network.io.direction=receive'], fold: 'sum', unit: 'bytes/s' },
  sent: { metric: 'system.network.io', only: [...outside, 'network.io.direction=transmit'], fold: 'sum', unit: 'bytes/s' },
  read: { metric: 'system.disk.io', only: ['disk.io.direction=read'], fold: 'sum', unit: 'bytes/s' },
  written: { metric: 'system.disk.io', only: ['disk.io.direction=write'], fold: 'sum', unit: 'bytes/s' },
  load: { metric: 'system.cpu.load_average.1m', only: [], fold: 'max', unit: 'number' },
  temperature: { metric: 'hw.temperature', only: [], fold: 'max', unit: 'celsius' },
};
const SPANS = { '5m': 300e3, '1h': 3600e3, '6h': 6 * 3600e3, '24h': 24 * 3600e3, '7d': 7 * 86400e3 };
const FOLDS = { sum: (a, b) => a + b, max: Math.max };

const panel = document.getElementById('compare');
const figure = panel.querySelector('figure');
const trouble = panel.querySelector('.notice');
let chart = null;
let chosen = null;
let machines = () => null;
let span = '1h';
let zoomed = null;
let asked = 0;
let tracks = [];

const page = {
  bounds: () => zoomed ?? [serverNow() - SPANS[span], serverNow()],
  zoom(from, to) {
    if (to - from < 10e3) return;
    zoomed = [from, to];
    load();
  },
  pick() {},
  moment: () => null,
  redraw: draw,
};

function library() {
  if (globalThis.uPlot) return Promise.resolve();
  return new Promise((loaded, failed) => {
    const sheet = document.createElement('link');
    Object.assign(sheet, { rel: 'stylesheet', href: url(`static/${version}/vendor/uplot/uPlot.min.css`) });
    const script = document.createElement('script');
    Object.assign(script, { src: url(`static/${version}/vendor/uplot/uPlot.iife.min.js`), onload: loaded, onerror: failed });
    document.head.append(sheet, script);
  });
}

// `name` is one of METRICS; `shown` returns the ids that the filter lets through, or null for all.
export async function compare(name, longest, shown) {
  chosen = METRICS[name] ? name : null;
  span = SPANS[longest] ? longest : '1h';
  machines = shown;
  panel.hidden = chosen === null;
  if (chosen === null) return;
  for (const button of panel.querySelectorAll('[data-span]')) {
    button.setAttribute('aria-pressed', String(button.dataset.span === span));
  }
  zoomed = null;
  await library();
  const { unit, full } = METRICS[chosen];
  const title = document.querySelector(`#filter [name=compare] option[value=${chosen}]`).textContent;
  setText(figure.querySelector('h2'), title);
  figure.querySelector('.plot').setAttribute('aria-label', `${title} of all machines`);
  Object.assign(figure.dataset, { chart: `compare ${chosen}`, title, unit, full: full ?? 0 });
  chart?.plot?.destroy();
  chart = new Chart(figure, page);
  await load();
}

async function load() {
  const mine = (asked += 1);
  const { metric, only, fold } = METRICS[chosen];
  const [from, to] = page.bounds();
  const step = niceStep(((to - from) * 2) / Math.max(300, figure.clientWidth));
  const address = url('api/v1/query_range', { metric, start: Math.round(from), end: Math.round(to), step: `${step}ms` });
  for (const condition of only) address.searchParams.append('label', condition);
  try {
    const answer = await json(address);
    if (mine !== asked) return;
    tracks = folded(answer, FOLDS[fold]);
    trouble.hidden = true;
    draw();
  } catch (problem) {
    if (mine !== asked) return;
    // What is drawn stays.
    if (!chart.plot) chart.say('not loaded');
    setText(trouble.querySelector('span'), `Values could not be loaded: ${problem.message}.`);
    trouble.hidden = false;
  }
}
trouble.querySelector('button').addEventListener('click', () => load());

// One track for each machine.
function folded({ series, start_ms: start, step_ms: step }, fold) {
  const found = new Map();
  for (const { machine, host_name: name, values } of series) {
    const track = found.get(machine);
    if (track) values.forEach((value, i) => (track.v[i] = value === null ? track.v[i] : track.v[i] === null ? value : fold(track.v[i], value)));
    else found.set(machine, { machine, name, v: values.slice() });
  }
  const names = new Map();
  for (const { name } of found.values()) names.set(name, (names.get(name) ?? 0) + 1);
  return [...found.values()].map(({ machine, name, v }) => ({
    key: machine,
    machine,
    metric: 'compare',
    // Two machines may have one name.
    labels: { machine: names.get(name) > 1 ? `${name} ${machine.slice(0, 8)}` : name },
    counter: false,
    t: v.map((_, i) => start + i * step),
    v,
  }));
}

function draw() {
  if (!chart || tracks === null) return;
  const shown = machines();
  const some = shown ? tracks.filter((track) => shown.has(track.machine)) : tracks;
  if (!chart.show(some, false)) chart.say('nothing in this range');
}

// The filter has changed.
export const refilter = () => chosen && chart && draw();

key('Escape', () => {
  if (zoomed === null) return false;
  zoomed = null;
  load();
});
onColoursChanged(() => {
  chart?.repaint();
  refilter();
});
new ResizeObserver(() => chart?.resize()).observe(figure);
let last = performance.now();
setInterval(() => {
  const pause = span === '5m' ? 5000 : 20000;
  if (document.hidden || chosen === null || zoomed !== null || performance.now() - last < pause) return;
  last = performance.now();
  load();
}, 1000);

figure.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-take]');
  if (!button || !chart?.plot) return;
  const { take } = await import('./take.js');
  const words = button.textContent;
  setText(button, await take(button.dataset.take, chart, { bounds: page.bounds, name: 'Fleet', address: location.href }));
  setTimeout(() => {
    setText(button, words);
    button.closest('details').open = false;
  }, 1200);
});
