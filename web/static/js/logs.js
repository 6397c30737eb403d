// The logs page: what arrives, on top of what was found; paused at will, and while the page is hidden.

import { key } from './keys.js';
import './times.js';
import { connect } from './live.js';
import { setText, url } from './page.js';

const LINES_MAX = 2000;
// What waits while it is paused.
const WAITING_MAX = 1000;

const AROUND_MS = 150e3;

const list = document.getElementById('logs');
const blank = document.getElementById('log-line').content.firstElementChild;
const field = document.getElementById('log-q');
const button = document.getElementById('log-live');
const state = document.getElementById('log-state');
const problem = document.getElementById('log-problem');

let source = null;
let paused = false;
let waiting = [];
let passed = 0;
let missed = 0;
let drawing = false;

connect(() => ({}));

// A bar leads to its time.
const bars = document.getElementById('log-bars');
bars?.addEventListener('click', (event) => {
  const { left, width } = bars.getBoundingClientRect();
  const { from, bar, bars: count } = bars.dataset;
  const at = Math.min(Math.floor(((event.clientX - left) / width) * count), count - 1);
  const params = new URLSearchParams(location.search);
  params.delete('page');
  params.set('from', +from + at * bar);
  params.set('to', +from + (at + 1) * bar);
  location.search = params;
});

function follow() {
  const query = new URLSearchParams(location.search).get('q') ?? '';
  source = new EventSource(url('api/v1/logs/tail', query ? { query } : {}));
  source.addEventListener('message', (event) => {
    const { entries, dropped } = JSON.parse(event.data);
    missed += dropped;
    waiting.push(...entries);
    const over = waiting.length - WAITING_MAX;
    if (over > 0) {
      waiting.splice(0, over);
      passed += over;
    }
    drawSoon();
  });
  source.addEventListener('open', say);
  // The browser tries again by itself, unless the server refused.
  source.addEventListener('error', () => {
    if (source?.readyState === EventSource.CLOSED) {
      problem.textContent = 'The server does not take this query, or no more live pages.';
      problem.hidden = false;
      stop();
    } else say();
  });
  say();
}

function stop() {
  source?.close();
  source = null;
  say();
}

// A line as the server draws them: a copy of its blank one, filled with text.
function line(entry) {
  const item = blank.cloneNode(true);
  const part = (name) => item.querySelector(`[data-f="${name}"]`);
  const write = (name, text) => setText(part(name), text);
  item.dataset.levelOf = entry.level;
  item.querySelector('.level').className = `level ${entry.level}`;
  item.querySelector('.level .word').textContent = entry.level;
  item.querySelector('.level use').setAttribute('href', `#l-${entry.level}`);
  const clock = part('clock');
  clock.dateTime = entry.time;
  clock.title = entry.time;
  setText(clock, entry.time.slice(11, 23));
  write('host', entry.host_name);
  write('service', entry.service);
  write('summary', entry.body.slice(0, 400));
  write('body', entry.truncated ? `${entry.body}\n… (longer than 64 KiB: the rest was cut)` : entry.body);
  write('time', entry.time);
  write('source', entry.source);
  const around = { from: entry.time_ms - AROUND_MS, to: entry.time_ms + AROUND_MS };
  const charts = part('charts');
  charts.href = url(`machines/${encodeURIComponent(entry.machine)}`, around);
  charts.textContent = `${entry.host_name}: charts at that moment`;
  part('around').href = url('logs', { ...around, q: `machine:${entry.machine}` });
  part('of-service').href = url('logs', { q: `service:"${entry.service}"` });
  write('of-service', entry.service);
  for (const [name, value] of Object.entries(entry.attributes)) {
    const row = document.createElement('div');
    row.append(document.createElement('dt'), document.createElement('dd'));
    row.firstChild.textContent = name;
    row.lastChild.textContent = value;
    item.querySelector('.facts').append(row);
  }
  return item;
}

// At most once a frame, and nothing while somebody reads.
function drawSoon() {
  if (paused || drawing || document.hidden) return say();
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    // A page that was scrolled stays where it is.
    const held = scrollY > 0 ? document.documentElement.scrollHeight - scrollY : null;
    list.prepend(...waiting.reverse().map(line));
    waiting = [];
    passed = 0;
    document.getElementById('log-empty')?.remove();
    for (let extra = list.childElementCount - LINES_MAX; extra > 0; extra -= 1) list.lastElementChild.remove();
    if (held !== null) scrollTo({ top: document.documentElement.scrollHeight - held, behavior: 'instant' });
    say();
  });
}

function say() {
  const live = source !== null;
  button.setAttribute('aria-pressed', String(live && !paused));
  button.textContent = !live ? 'Follow live' : paused ? 'Go on' : 'Pause';
  const words = [];
  if (live) words.push(paused ? 'paused' : source.readyState === EventSource.OPEN ? 'following live' : 'connecting');
  if (waiting.length > 0) words.push(`${waiting.length}${passed ? ' and more' : ''} waiting`);
  if (missed > 0) words.push(`${missed} lines came too fast to look at`);
  if (live || words.length > 0) state.textContent = words.join(', ');
}

button.addEventListener('click', () => {
  if (!source) {
    paused = false;
    follow();
  } else {
    paused = !paused;
    if (!paused) drawSoon();
    say();
  }
});
document.addEventListener('visibilitychange', () => document.hidden || drawSoon());
key('/', () => field.focus());
key('Escape', () => (document.activeElement === field ? field.blur() : stop()));
key(' ', (event) => (source && event.target === document.body ? button.click() : false));
