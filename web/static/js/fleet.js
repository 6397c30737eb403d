// The fleet page: rows that move while they are on the screen, a filter and an order in the address.

import * as format from './format.js';
import { key } from './keys.js';
import { changed, connect, on } from './live.js';
import { places, write } from './fields.js';
import { setText } from './page.js';
import { Spark } from './spark.js';

// Rows change places this often at most, and never under the pointer or the keyboard.
const ORDER_INTERVAL = 5000;
const NETWORK_FULL = 64 * 1024;

const fleet = document.getElementById('fleet');
let rows = new Map();
let visible = new Set();
let values = new Map();
let refreshing = false;
let lastOrder = 0;

const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const id = entry.target.dataset.machineId;
      if (entry.isIntersecting) visible.add(id);
      else visible.delete(id);
    }
    soon(changed);
  },
  { rootMargin: '200px' },
);

let timer = 0;
function soon(action) {
  clearTimeout(timer);
  timer = setTimeout(action, 120);
}

// Takes up the table that is on the page now: at first, and after each fragment.
function adopt() {
  observer.disconnect();
  rows = new Map();
  visible = new Set();
  const table = document.getElementById('machines');
  const drawnAt = Number(table?.dataset.now) || Date.now();
  for (const element of table?.tBodies[0].rows ?? []) {
    const labels = [...element.querySelectorAll('[data-label]')].map((a) => a.dataset.label.toLowerCase());
    const line = (name, full) => new Spark(element.querySelector(`[data-line=${name}] path`), full, drawnAt);
    const id = element.dataset.machineId;
    rows.set(id, {
      id,
      element,
      labels,
      name: element.querySelector('[data-field=name]').textContent,
      places: places(element),
      cpu: line('cpu', 1),
      network: line('network', NETWORK_FULL),
    });
    const known = values.get(id);
    if (known) write(rows.get(id).places, known);
    observer.observe(element);
  }
  filter();
  order(true);
}

function fits(row, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const name = row.name.toLowerCase();
  const status = row.element.dataset.status;
  return words.every((word) => {
    const [, head, value] = word.match(/^([^=:]*)[=:](.*)$/) ?? [];
    if (head !== undefined) {
      return (
        (head === 'status' && status.startsWith(value)) || row.labels.some((label) => label.startsWith(`${head}=${value}`))
      );
    }
    return (
      name.includes(word) || row.id.startsWith(word) || status === word || row.labels.some((label) => label.includes(word))
    );
  });
}

function filter() {
  const input = document.getElementById('q');
  if (!input) return;
  let found = 0;
  for (const row of rows.values()) {
    const shown = fits(row, input.value);
    row.element.hidden = !shown;
    if (shown) found += 1;
  }
  setText(document.getElementById('found'), found === rows.size ? '' : `${found} of ${rows.size}`);
  const none = document.getElementById('none-fit');
  if (none) none.hidden = found > 0 || rows.size === 0;
}

const both = (a, b) => (a == null && b == null ? null : (a ?? 0) + (b ?? 0));
const KEYS = {
  cpu: (row) => row.cpu,
  memory: (row) => row.mem,
  disk: (row) => row.disk,
  network: (row) => both(row.rx, row.tx),
  io: (row) => both(row.rd, row.wr),
  load: (row) => (row.cpus ? row.load / row.cpus : null),
  temperature: (row) => row.temp,
  uptime: (row) => row.up,
};

const choice = (name) => document.querySelector(`#filter [name=${name}]`);

function order(now) {
  const sort = choice('sort')?.value ?? 'name';
  const body = document.getElementById('machines')?.tBodies[0];
  if (!body) return;
  const live = sort !== 'name';
  if (!now && (!live || performance.now() - lastOrder < ORDER_INTERVAL)) return;
  if (!now && (body.matches(':hover') || body.contains(document.activeElement))) return;
  if (live && values.size < rows.size) return;
  lastOrder = performance.now();
  const sign = choice('order').value === 'desc' ? -1 : 1;
  const byName = (a, b) => a.name.toLowerCase().localeCompare(b.name.toLowerCase());
  const value = (row) => KEYS[sort](values.get(row.id) ?? {});
  const sorted = [...rows.values()].sort((a, b) => {
    if (!live) return sign * byName(a, b);
    const [x, y] = [value(a), value(b)];
    if (x == null || y == null) return (x == null) - (y == null) || byName(a, b);
    return sign * (x - y) || byName(a, b);
  });
  // Only rows out of place are moved.
  let place = body.firstElementChild;
  for (const { element } of sorted) {
    if (place === element) place = place.nextElementSibling;
    else body.insertBefore(element, place);
  }
  for (const head of document.querySelectorAll('#machines th[data-sort]')) {
    const chosen = head.dataset.sort === sort;
    head.ariaSort = chosen ? (sign < 0 ? 'descending' : 'ascending') : 'none';
  }
}

// The address says what is shown, so that it can be sent to somebody.
function remember() {
  const address = new URL(location.href);
  const put = (name, value, usual) => {
    if (value && value !== usual) address.searchParams.set(name, value);
    else address.searchParams.delete(name);
  };
  put('q', document.getElementById('q').value.trim());
  put('sort', choice('sort').value, 'name');
  put('order', choice('order').value, 'asc');
  put('view', document.querySelector('#filter [name=view]:checked').value);
  history.replaceState(null, '', address);
}

function setFilter(text) {
  const input = document.getElementById('q');
  input.value = text;
  filter();
  remember();
}

fleet.addEventListener('input', (event) => {
  if (event.target.id === 'q') {
    filter();
    remember();
  }
  if (event.target.name === 'view') {
    document.getElementById('machines')?.classList.toggle('cards', event.target.value === 'cards');
    remember();
  }
});
fleet.addEventListener('submit', (event) => event.preventDefault());
fleet.addEventListener('click', (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  const head = event.target.closest('th[data-sort] a');
  const label = event.target.closest('a[data-label]');
  const status = event.target.closest('a[data-status]');
  if (head) {
    event.preventDefault();
    const column = head.parentElement.dataset.sort;
    const again = choice('sort').value === column;
    const descending = again ? choice('order').value !== 'desc' : column !== 'name';
    choice('sort').value = column;
    choice('order').value = descending ? 'desc' : 'asc';
    order(true);
    remember();
  } else if (label) {
    event.preventDefault();
    setFilter(label.dataset.label);
  } else if (status) {
    event.preventDefault();
    setFilter(`status:${status.dataset.status}`);
  } else if (event.target.closest('#show-all')) {
    event.preventDefault();
    setFilter('');
  }
});

function totals(sums) {
  const texts = {
    machines: String(sums.machines),
    cpus_busy: sums.cpus_busy.toFixed(1),
    cpus: format.number(sums.cpus),
    memory_used: format.bytes(sums.memory_used_bytes),
    memory: format.bytes(sums.memory_bytes),
    receive: format.bytesRate(sums.receive_rate),
    transmit: format.bytesRate(sums.transmit_rate),
    read: format.bytesRate(sums.read_rate),
    write: format.bytesRate(sums.write_rate),
  };
  for (const [name, text] of Object.entries(texts)) setText(document.querySelector(`[data-total=${name}]`), text);
  for (const name of ['online', 'stale', 'asleep', 'offline', 'stopped']) {
    const element = document.querySelector(`.statuses [data-total=${name}]`);
    if (element) setText(element, String(sums[name]));
    else if (sums[name] > 0) return true;
  }
  return false;
}

function refresh() {
  if (refreshing) return;
  refreshing = true;
  setTimeout(() => {
    refreshing = false;
    htmx.trigger(fleet, 'fleet-changed');
  }, 250);
}

let painting = false;
const moved = new Set();

on('fleet', (message) => {
  let unknown = false;
  for (const row of message.rows) {
    values.set(row.id, row);
    if (rows.has(row.id)) moved.add(row.id);
    else unknown = true;
  }
  const newStatus = totals(message.totals);
  if (message.changed || unknown || newStatus || message.totals.machines !== rows.size) refresh();
  if (!painting) {
    painting = true;
    requestAnimationFrame(paint);
  }
});

function paint() {
  painting = false;
  for (const id of moved) {
    const row = rows.get(id);
    const latest = values.get(id);
    if (!row || !latest) continue;
    row.name = latest.name;
    // A silent machine's numbers are old: its line just moves on.
    const heard = latest.status === 'online' || latest.status === 'stale';
    row.cpu.add(heard ? (latest.cpu ?? NaN) : NaN);
    row.network.add(heard ? (both(latest.rx, latest.tx) ?? NaN) : NaN);
    if (!visible.has(id)) continue;
    write(row.places, latest);
    row.cpu.draw();
    row.network.draw();
  }
  moved.clear();
  order(false);
}

on('open', ({ again }) => again && refresh());
document.addEventListener('htmx:after:swap', adopt);

function choose(step) {
  const shown = [...(document.getElementById('machines')?.tBodies[0].rows ?? [])].filter((row) => !row.hidden);
  if (shown.length === 0) return;
  const at = shown.findIndex((row) => row.dataset.chosen !== undefined);
  if (at >= 0) delete shown[at].dataset.chosen;
  const next = shown[Math.min(Math.max(at + step, 0), shown.length - 1)];
  next.dataset.chosen = '';
  next.querySelector('.name').focus({ preventScroll: true });
  next.scrollIntoView({ block: 'nearest' });
}
key('j', () => choose(1));
key('k', () => choose(-1));
key('/', () => document.getElementById('q')?.select());
key('Escape', () => {
  const input = document.getElementById('q');
  if (input?.value) setFilter('');
  else document.activeElement?.blur();
});

adopt();
connect(() => ({ rows: [...visible] }));
