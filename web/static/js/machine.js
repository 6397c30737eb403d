// The machine page: charts that open filled and move, a range for all of them, processes of a moment.

import { watchAlerts, writeBadges } from './badges.js';
import { Chart } from './chart.js';
import { onColoursChanged } from './colours.js';
import { places, write } from './fields.js';
import { duration, time } from './format.js';
import { key } from './keys.js';
import { connect, on } from './live.js';
import { chooseMoment, currentMoment, onMoment } from './moment.js';
import { json, reached, setText, url } from './page.js';
import * as range from './range.js';
import { niceStep } from './series.js';
import { Store } from './store.js';
import { serverNow } from './times.js';

const page = document.getElementById('machine');
const id = page.dataset.machineId;
const interval = Number(page.dataset.interval) || 1000;
const skew = Number(page.dataset.skew) || 0;
const store = new Store();
const headline = places(page.querySelector('.head').parentElement);

// The right edge of a live chart: now, by the machine's own clock, as far as data can be here.
const machineNow = () => Math.max(serverNow() + skew - 500, store.latest);

// --- charts -------------------------------------------------------------------------------------

const host = {
  bounds,
  zoom: (from, to) => to - from >= 2000 && range.choose({ from, to }),
  pick,
  moment: currentMoment,
  redraw: (chart) => draw(chart),
};
const LIVE_SPAN_MIN = 60e3;

// A machine that is new here has no five minutes yet: what there is gets the room.
function bounds() {
  if (!range.isLive()) return range.bounds(serverNow());
  const [from, to] = range.bounds(machineNow());
  const begun = Math.min(store.earliest(), to - LIVE_SPAN_MIN);
  return [Math.max(from, begun), to];
}

// The last click wins, also when its answer is not the last.
let picks = 0;
async function pick(ms, chart) {
  const mine = (picks += 1);
  // The answer must not cover what it is about.
  const { left, width } = chart.plot.over.getBoundingClientRect();
  const [from, to] = bounds();
  who.dataset.side = left + (width * (ms - from)) / (to - from) > innerWidth / 2 ? 'left' : 'right';
  const meant = range.isLive() ? ms : await (await import('./peak.js')).peakNear(chart, ms, id);
  if (mine === picks) chooseMoment(Math.min(meant, serverNow()));
}

const charts = [...document.querySelectorAll('.chart')].map((figure) => new Chart(figure, host));
const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) entry.target.chart.visible = entry.isIntersecting;
    if (range.isLive()) paintSoon();
    else loadPast();
  },
  { rootMargin: '100px' },
);
for (const chart of charts) observer.observe(chart.figure);
new ResizeObserver(() => {
  for (const chart of charts) chart.resize();
}).observe(document.getElementById('charts'));
onColoursChanged(() => {
  for (const chart of charts) {
    chart.repaint();
    draw(chart);
  }
});

// Links, pictures and tables of what is shown.
document.getElementById('charts').addEventListener('click', async (event) => {
  const button = event.target.closest('[data-take]');
  if (!button) return;
  const { chart } = button.closest('.chart');
  if (!chart.plot) return;
  const { take } = await import('./take.js');
  const words = button.textContent;
  setText(button, await take(button.dataset.take, chart, { bounds, name: page.dataset.name }));
  setTimeout(() => {
    setText(button, words);
    button.closest('details').open = false;
  }, 1200);
});

let loaded = false;
let painting = false;
let painted = 0;
let row = null;
// Most of an instant's layouts are here so soon after the first.
const GATHER = 120;
const PAUSE = 850;
// Nothing new for this long: the axes move on all the same.
const QUIET = 1500;

// All that moves does so in one picture a second: a picture costs a browser more than the lines in it, and
// it hands on every canvas of the page again, drawn to or not.
function paintSoon() {
  if (painting || !range.isLive() || document.hidden) return;
  painting = true;
  const wait = Math.max(GATHER, PAUSE - (performance.now() - painted));
  setTimeout(() => requestAnimationFrame(paint), loaded ? wait : 0);
}

// Something other than the newest values has changed.
function paintAllSoon() {
  for (const chart of charts) chart.newest = null;
  paintSoon();
}

function paint() {
  painting = false;
  painted = performance.now();
  writeRow();
  writeProcesses();
  if (!range.isLive()) return;
  for (const chart of charts) {
    // What had no series when the page was opened is hidden, and out of sight for ever unless it is shown first.
    const begins = loaded && chart.figure.hidden && chart.has(store.of(chart.metrics));
    if (begins) chart.figure.hidden = false;
    if (begins || (chart.visible && isNews(chart))) draw(chart);
  }
}

// What has no new value only moves on, which is worth a drawing when it can be seen.
const MOVED_MIN = 3;
function isNews(chart) {
  const newest = store.newest(chart.metrics);
  const [from, to] = bounds();
  const moved = ((to - chart.drawnTo) / (to - from)) * (chart.plot?.width ?? Infinity);
  if (newest === chart.newest && moved < MOVED_MIN) return false;
  [chart.newest, chart.drawnTo] = [newest, to];
  return true;
}

function draw(chart) {
  const live = range.isLive();
  const tracks = live ? store.of(chart.metrics) : pastOf(chart);
  if (!tracks) return;
  const shown = chart.show(tracks, live);
  if (shown) reached('muster:chart');
  if (live && loaded) chart.figure.hidden = !shown;
  // What this machine has never had is no news in a range of the past either.
  if (!live) chart.figure.hidden = !shown && loaded && !chart.has(store.of(chart.metrics));
  if (!live && !shown) chart.say('nothing in this range');
  chart.mark(currentMoment());
}

// --- the last five minutes ----------------------------------------------------------------------

// All metrics when none is named; only series that have this label when one is.
async function loadWindow(metrics, having) {
  if (metrics?.length === 0) return;
  const params = metrics ? { metrics: metrics.join(',') } : {};
  if (having) params.having = having;
  const window = await json(url(`api/v1/machines/${id}/window`, params));
  store.load(window);
}

// What is drawn stays; who looks is told, and can try again.
const trouble = document.getElementById('trouble');
let tryAgain = () => {};

function failed(some, problem, again) {
  tryAgain = again;
  trouble.hidden = false;
  const kept = charts.some((chart) => chart.plot);
  const what = kept ? 'What you see is what was loaded before.' : '';
  setText(trouble.querySelector('span'), `Values could not be loaded: ${problem.message}. ${what}`);
  for (const chart of some) if (!chart.plot) chart.say('not loaded');
}

function mended() {
  trouble.hidden = true;
}

trouble.querySelector('button').addEventListener('click', () => tryAgain());

// Every chart once, so that nothing is empty when it scrolls into view; never in the way of a click.
function drawOneByOne(left) {
  const chart = left.shift();
  if (!chart) return;
  if (range.isLive()) draw(chart);
  setTimeout(() => requestAnimationFrame(() => drawOneByOne(left)), 0);
}

// The first chart first, then what else is on the screen, then the rest.
async function fill() {
  const bottom = innerHeight + 100;
  const seen = charts.filter((chart) => chart.figure.getBoundingClientRect().top < bottom);
  for (const chart of seen) chart.visible = true;
  const asked = new Set();
  try {
    // A machine of many CPUs has many series of this metric, and the first chart needs few of them.
    const [first] = charts;
    await loadWindow(first.metrics, first.only.find((condition) => !condition.includes('=')));
    if (range.isLive()) draw(first);
    for (const some of [seen, charts]) {
      const fresh = [...new Set(some.flatMap((chart) => chart.metrics))].filter((metric) => !asked.has(metric));
      fresh.forEach((metric) => asked.add(metric));
      await loadWindow(fresh);
      if (range.isLive() && some !== charts) some.forEach(draw);
    }
    loaded = true;
    // Charts without a single series are none of this machine's.
    drawOneByOne([...charts]);
    const [{ showThresholds }, { showSpans }] = await Promise.all([import('./thresholds.js'), import('./spans.js')]);
    showSpans(charts, id);
    showThresholds(charts, id, (metric) => store.of([metric])[0]?.v.at(-1));
    if (range.isLive()) mended();
  } catch (problem) {
    if (range.isLive()) failed(seen, problem, refill);
    clearTimeout(retry);
    retry = setTimeout(fill, RETRY);
  }
}
const RETRY = 5000;
let retry = 0;

// All of the last minutes again, because some of them may be missing here.
async function refill() {
  if (!loaded) {
    clearTimeout(retry);
    return fill();
  }
  try {
    await loadWindow();
    if (range.isLive()) mended();
    paintAllSoon();
  } catch (problem) {
    if (range.isLive()) failed([], problem, refill);
  }
}

on('layout', (message) => message.machine === id && store.layout(message));
on('frames', (message) => {
  if (message.machine !== id) return;
  const before = store.latest;
  store.frames(message);
  // A straggler of an instant that is drawn waits for the next, so that it does not set the pace.
  if (message.late) paintAllSoon();
  else if (store.latest > before) paintSoon();
});
on('missed', refill);
on('open', ({ again }) => {
  if (!again) return;
  refill();
  reloadPast();
});
setInterval(() => performance.now() - painted > QUIET && paintSoon(), 1000);

// --- the past -----------------------------------------------------------------------------------

let asked = new Map();
let abort = new AbortController();
let askedBounds = null;

// Answers by metric for the range that is shown; a new range forgets them.
function forgetPast() {
  abort.abort();
  abort = new AbortController();
  asked = new Map();
  askedBounds = null;
}

function loadPast() {
  if (range.isLive()) return;
  askedBounds ??= host.bounds();
  const [from, to] = askedBounds;
  const width = Math.max(300, document.querySelector('.chart.full .plot').clientWidth);
  const step = Math.max(niceStep(((to - from) * 2) / width), niceStep(interval));
  for (const chart of charts) {
    if (!chart.visible) continue;
    const fresh = chart.metrics.filter((metric) => !asked.has(metric));
    for (const metric of fresh) asked.set(metric, ask(metric, from, to, step, abort.signal));
    const all = chart.metrics.map((metric) => asked.get(metric));
    const mine = abort;
    Promise.all(all.map((one) => one.promise)).then(
      () => {
        if (mine !== abort || !chart.visible) return;
        if ([...asked.values()].every((one) => one.tracks)) mended();
        draw(chart);
      },
      (problem) => {
        if (mine === abort) failed([chart], problem, reloadPast);
      },
    );
  }
  sayRange(from, to, step);
}

// The same range again. What is drawn stays until the answers are here.
function reloadPast() {
  if (range.isLive()) return;
  forgetPast();
  loadPast();
}

function ask(metric, from, to, step, signal) {
  const params = { metric, machine: id, start: Math.round(from), end: Math.round(to), step: `${step}ms`, band: 'true' };
  const one = { tracks: null };
  one.promise = json(url('api/v1/query_range', params), signal).then((answer) => {
    one.tracks = answer.series.map((series) => {
      const t = series.values.map((_, i) => answer.start_ms + i * answer.step_ms);
      const { metric, labels, values, min, max } = series;
      return { key: JSON.stringify([metric, labels]), metric, labels, counter: false, t, v: values, min, max };
    });
  });
  return one;
}

// Null while any of its metrics is on its way.
function pastOf(chart) {
  const all = chart.metrics.map((metric) => asked.get(metric)?.tracks);
  return all.every(Boolean) ? all.flat() : null;
}

function sayRange(from, to, step) {
  const text = range.isLive() ? '' : `${time(from)} – ${time(to)}, a point for each ${duration(step / 1000)}`;
  setText(document.getElementById('shown'), text);
}

// A named range goes on with the clock.
setInterval(() => {
  if (!document.hidden && !range.isFixed()) reloadPast();
}, 20000);

// --- the range ----------------------------------------------------------------------------------

function rangeChanged() {
  const { name } = range.current();
  for (const button of document.querySelectorAll('[data-range]')) {
    button.setAttribute('aria-pressed', String(button.dataset.range === name));
  }
  writeBack();
  forgetPast();
  mended();
  if (range.isLive()) {
    sayRange();
    for (const chart of charts) {
      chart.repaint();
      chart.newest = null;
      if (loaded) chart.figure.hidden = store.of(chart.metrics).length === 0;
    }
    paint();
  } else {
    // What the machine has not now it may have had then.
    for (const chart of charts) chart.figure.hidden = false;
    loadPast();
  }
}
range.onRange(rangeChanged);

function writeBack() {
  document.getElementById('back').hidden = !range.canGoBack() && currentMoment() === null;
}

function chooseNamed(name) {
  const next = range.named(name);
  if (next) range.choose(next);
}

document.getElementById('ranges').addEventListener('click', (event) => {
  const button = event.target.closest('[data-range]');
  if (button) chooseNamed(button.dataset.range);
  if (event.target.closest('#back')) goBack();
});
document.getElementById('custom').addEventListener('submit', (event) => {
  event.preventDefault();
  const [from, to] = ['from', 'to'].map((name) => new Date(event.target.elements[name].value).getTime());
  if (!(to > from)) {
    event.target.elements.to.setCustomValidity('must be after "from"');
    event.target.reportValidity();
    return;
  }
  event.target.parentElement.open = false;
  range.choose({ from, to });
});
document.getElementById('custom').addEventListener('input', (event) => event.target.form.elements.to.setCustomValidity(''));
document.querySelector('.custom').addEventListener('toggle', (event) => {
  if (!event.target.open) return;
  const [from, to] = host.bounds();
  const local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60000).toISOString().slice(0, 19);
  const { elements } = event.target.querySelector('form');
  elements.from.value = local(from);
  elements.to.value = local(to);
});

// --- processes ----------------------------------------------------------------------------------

const processes = document.getElementById('processes');
const processForm = document.getElementById('process-choice');
const who = document.getElementById('who');
let processesVisible = false;

new IntersectionObserver(([entry]) => (processesVisible = entry.isIntersecting), { rootMargin: '200px' }).observe(processes);
const refreshProcesses = () => htmx.trigger(processes, 'refresh');
const isRead = () => processes.querySelector('table')?.contains(document.activeElement);
let table = null;
setInterval(async () => {
  if (!processesVisible || document.hidden || currentMoment() !== null || isRead()) return;
  // Asked for here and put in with the charts: a picture of its own would cost as much as all of them.
  const choice = new URLSearchParams(new FormData(processForm));
  const answer = await fetch(url(`machines/${id}/processes?${choice}`)).catch(() => null);
  if (!answer?.ok) return;
  table = { text: await answer.text(), choice: String(choice) };
  if (performance.now() - painted > QUIET) requestAnimationFrame(writeProcesses);
}, 2500);

function writeProcesses() {
  if (!table || currentMoment() !== null || isRead()) return;
  // Somebody may have chosen something else meanwhile.
  if (table.choice === String(new URLSearchParams(new FormData(processForm)))) {
    htmx.swap({ text: table.text, sourceElement: processes, target: '#process-table' });
  }
  table = null;
}

for (const [part, pause] of [['containers', 10000], ['events', 15000], ['facts', 30000], ['filesystems', 60000]]) {
  const element = document.getElementById(part);
  if (element) setInterval(() => document.hidden || htmx.trigger(element, 'refresh'), pause);
}

let typing = 0;
processForm.addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(refreshProcesses, 150);
});
processForm.addEventListener('submit', (event) => event.preventDefault());
who.addEventListener('click', (event) => event.target.closest('[data-now]') && chooseMoment(null));
processes.addEventListener('click', (event) => {
  const head = event.target.closest('[data-process-sort]');
  if (head) {
    event.preventDefault();
    processForm.elements.sort.value = head.dataset.processSort;
    refreshProcesses();
  } else if (event.target.closest('[data-now]')) {
    chooseMoment(null);
  }
});

onMoment((ms) => {
  processForm.elements.at.value = ms ?? '';
  for (const chart of charts) chart.mark(ms);
  writeBack();
  refreshProcesses();
  who.hidden = ms === null;
  if (ms === null) who.replaceChildren();
  else htmx.trigger(who, 'refresh');
});

// What is wrong with this machine.
watchAlerts(() => writeBadges(page.querySelector('[data-badges]'), id));

// --- the rest -----------------------------------------------------------------------------------

on('fleet', (message) => {
  row = message.rows.find((one) => one.id === id) ?? row;
  // With the charts, while they move.
  if (performance.now() - painted > QUIET) requestAnimationFrame(writeRow);
});

function writeRow() {
  if (!row) return;
  write(headline, row);
  const title = `${row.name} · Muster`;
  if (document.title !== title) document.title = title;
  row = null;
}

function goBack() {
  if (currentMoment() !== null) chooseMoment(null);
  else range.back();
  writeBack();
}

key('Escape', () => {
  if (document.activeElement === processForm.elements.q) {
    processForm.elements.q.blur();
    return;
  }
  goBack();
});
key('/', () => processForm.elements.q.select());
['5m', '1h', '6h', '24h', '7d', '30d'].forEach((name, i) => key(String(i + 1), () => chooseNamed(name)));
function chooseRow(step) {
  const rows = [...processes.querySelectorAll('tbody tr[data-pid]')];
  const at = rows.findIndex((row) => row.dataset.chosen !== undefined);
  if (at >= 0) delete rows[at].dataset.chosen;
  const next = rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
  if (!next) return;
  next.dataset.chosen = '';
  next.scrollIntoView({ block: 'nearest' });
}
key('j', () => chooseRow(1));
key('k', () => chooseRow(-1));

// A little overlap, because not all layouts arrive at the same instant; what is known is left out.
connect(() => ({ rows: [id], machine: id, after: store.latest && store.latest - 3000 }));
const { name } = range.current();
if (name !== range.LIVE) rangeChanged();
fill();
