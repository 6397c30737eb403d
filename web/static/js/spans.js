// When alerts fired: shaded stretches on the charts, now and in the past. Loaded once the charts are filled.

import { colour, faint } from './colours.js';
import { on } from './live.js';
import { json, setText, url } from './page.js';
import { duration, time } from './format.js';
import { serverNow } from './times.js';

// An alert that begins or ends is told at once; this is for what nobody told.
const EVERY = 60000;
const PAUSE = 300;
const PAUSE_AFTER_TROUBLE = 5000;
// More than the range, so that a live chart does not ask with every second.
const BESIDE = 0.25;
// Shares of what a chart draws as a whole.
const DRAWN_AS = {
  'system.memory.utilization': 'system.memory.usage',
  'system.paging.utilization': 'system.paging.usage',
};

let machine = '';
let charts = [];
// By metric; the stretch that was asked for, in milliseconds.
let known = new Map();
let asked = null;
let askedAt = 0;
// From the pause before it asks until it has the answer: one question at a time.
let asking = false;
let news = false;
let trouble = false;
const hooked = new WeakSet();

export function showSpans(all, id) {
  [charts, machine] = [all, id];
  for (const chart of charts) chart.over.push((plot) => draw(plot, chart));
  on('alerts', () => {
    news = true;
    soon();
  });
  setInterval(() => document.hidden || performance.now() - askedAt < EVERY || soon(), 1000);
  soon();
}

function soon() {
  if (asking) return;
  asking = true;
  const pause = trouble ? PAUSE_AFTER_TROUBLE : PAUSE;
  setTimeout(async () => {
    news = false;
    trouble = await load().then(() => false, () => true);
    asking = false;
    if (news || trouble) soon();
    // The others are drawn before they can be seen.
    for (const chart of charts) if (chart.visible) chart.plot?.redraw(false);
  }, pause);
}

// What the page shows, not what a plot shows: one out of sight is not drawn, so it stays where it was.
async function load() {
  const [min, max] = charts[0].page.bounds();
  const beside = (max - min) * BESIDE;
  const [from, to] = [min - beside, max + beside];
  askedAt = performance.now();
  const params = { machine, start: Math.round(from), end: Math.round(to), limit: 1000 };
  const { incidents } = await json(url('api/v1/alerts/history', params));
  [asked, known] = [[from, to], new Map()];
  for (const one of incidents) {
    const metric = DRAWN_AS[one.metric] ?? one.metric;
    known.set(metric, [...(known.get(metric) ?? []), one]);
  }
}

// Those of a chart that are within what it shows, the worst on top.
function within(plot, chart) {
  const { min, max } = plot.scales.x;
  const all = [...new Set(chart.metrics)].flatMap((metric) => known.get(metric) ?? []);
  const seen = all.filter((one) => one.started_ms / 1000 < max && (one.resolved_ms ?? Infinity) / 1000 > min);
  return seen.sort((a, b) => (a.level === 'critical') - (b.level === 'critical'));
}

// A stretch that goes on ends where the newest values can be.
const endOf = (one, plot) => one.resolved_ms ?? Math.min(Math.max(serverNow(), one.started_ms), plot.scales.x.max * 1000);

function draw(plot, chart) {
  const [from, to] = chart.page.bounds();
  if (!asked || from < asked[0] || to > asked[1]) soon();
  const spans = within(plot, chart);
  chart.figure.dataset.firing = String(spans.length);
  paint(plot, spans);
  tell(plot, chart, spans);
  if (hooked.has(plot)) return;
  hooked.add(plot);
  plot.hooks.setCursor.push(() => tell(plot, chart, within(plot, chart)));
}

function paint(plot, spans) {
  if (spans.length === 0) return;
  const { ctx, bbox } = plot;
  const strong = matchMedia('(prefers-contrast: more)').matches;
  const bar = 3 * devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const one of spans) {
    const css = colour(one.level === 'critical' ? 'bad' : 'warn');
    const left = plot.valToPos(one.started_ms / 1000, 'x', true);
    const right = Math.max(plot.valToPos(endOf(one, plot) / 1000, 'x', true), left + devicePixelRatio);
    ctx.fillStyle = faint(css, strong ? 0.25 : 0.13);
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    // Not by a tint alone: a bar along the top, as long as it fired, and a post where it began.
    ctx.fillStyle = css;
    ctx.fillRect(left, bbox.top, right - left, one.level === 'critical' ? 2 * bar : bar);
    ctx.fillRect(left, bbox.top, devicePixelRatio, bbox.height);
  }
  ctx.restore();
}

// In the legend: which rules, and under the cursor what exactly.
function tell(plot, chart, spans) {
  const item = (chart.firing ??= makeItem());
  if (spans.length === 0) {
    item.remove();
    return;
  }
  const at = plot.cursor.idx == null ? null : plot.posToVal(plot.cursor.left, 'x') * 1000;
  const under = at === null ? [] : spans.filter((one) => one.started_ms <= at && at <= endOf(one, plot));
  const text = under.length > 0 ? under.map(exactly).join('; ') : `shaded: ${names(spans)}`;
  setText(item.lastChild, text);
  if (item.title !== text) item.title = text;
  if (item.parentElement !== chart.legend) chart.legend.prepend(item);
}

function names(spans) {
  const rules = [...new Set(spans.map((one) => one.rule))];
  return rules.slice(0, 2).join(', ') + (rules.length > 2 ? ` and ${rules.length - 2} more` : '');
}

function exactly(one) {
  const until = one.resolved_ms ? `– ${time(one.resolved_ms)}` : 'on';
  const lasted = duration(((one.resolved_ms ?? serverNow()) - one.started_ms) / 1000);
  const peak = one.peak_text ? `, peak ${one.peak_text}` : '';
  return `${one.rule}: ${one.level} from ${time(one.started_ms)} ${until} (${lasted}${peak})`;
}

function makeItem() {
  const item = document.createElement('li');
  item.className = 'firing';
  const sign = document.createElement('span');
  sign.setAttribute('aria-hidden', 'true');
  sign.className = 'sign';
  item.append(sign, document.createElement('span'));
  return item;
}
