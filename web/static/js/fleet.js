// The fleet page: rows that move while they are on the screen, a filter and an order in the address.

import { watchAlerts, writeBadges } from './badges.js';
import * as format from './format.js';
import { key } from './keys.js';
import { changed, connect, on } from './live.js';
import { places, write } from './fields.js';
import { byGroup, groupOf, headings, summarise } from './groups.js';
import { reached, setText } from './page.js';
import { Spark } from './spark.js';
import { serverNow } from './times.js';

// Rows change places this often at most, and never under the pointer or the keyboard.
const ORDER_INTERVAL = 5000;
const NETWORK_FULL = 64 * 1024;

const fleet = document.getElementById('fleet');
const list = document.getElementById('list');
let rows = new Map();
let visible = new Set();
const values = new Map();
// A small fleet is on the page as a whole, to be ordered and filtered here; a larger one by the server.
let whole = true;
let adopted = false;
let refreshing = false;
let lastOrder = performance.now();
let lastSummary = 0;
let machines = Number(document.querySelector('[data-total=machines]').textContent);

const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const id = entry.target.dataset.machineId;
      if (id === undefined) {
        if (entry.isIntersecting) more(entry.target);
      } else if (entry.isIntersecting) {
        visible.add(id);
      } else {
        visible.delete(id);
      }
    }
    soon(changed, 120);
  },
  { rootMargin: '200px' },
);

const timers = new Map();
function soon(action, wait) {
  clearTimeout(timers.get(action));
  timers.set(action, setTimeout(action, wait));
}

// Takes up the table that is on the page now: at first, and after each fragment.
function adopt() {
  const before = rows;
  rows = new Map();
  const table = document.getElementById('machines');
  whole = table?.dataset.whole !== 'false';
  const drawnAt = adopted ? serverNow() : Number(table?.dataset.now) || serverNow();
  adopted = true;
  for (const element of table?.tBodies[0].querySelectorAll('[data-machine-id]') ?? []) {
    const id = element.dataset.machineId;
    const old = before.get(id);
    if (old?.element === element) {
      rows.set(id, old);
      continue;
    }
    const labelled = [...element.querySelectorAll('[data-label]')].map((a) => a.dataset.label);
    const labels = labelled.map((label) => label.toLowerCase());
    const grouping = new Map(labelled.map((label) => [label.slice(0, label.indexOf('=') + 1), label.slice(label.indexOf('=') + 1)]));
    const line = (name, full) => new Spark(element.querySelector(`[data-line=${name}] path`), full, drawnAt);
    rows.set(id, {
      id,
      element,
      labels,
      grouping,
      name: element.querySelector('[data-field=name]').textContent,
      places: places(element),
      cpu: line('cpu', 1),
      network: line('network', NETWORK_FULL),
    });
    observer.observe(element);
  }
  for (const [id, row] of before) {
    if (rows.get(id)?.element === row.element) continue;
    observer.unobserve(row.element);
    if (!rows.has(id)) visible.delete(id);
  }
  const next = document.getElementById('more');
  if (next) observer.observe(next);
  if (whole) {
    filter();
    order(true);
  }
  sayFound();
  soon(changed, 120);
}

// The next rows of a large fleet, as its end comes into view.
function more(row) {
  observer.unobserve(row);
  htmx.trigger(row, 'fleet-more');
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
  if (!whole) {
    soon(ask, 200);
    return;
  }
  let found = 0;
  for (const row of rows.values()) {
    const shown = fits(row, input.value);
    row.element.hidden = !shown;
    if (shown) found += 1;
  }
  const table = document.getElementById('machines');
  if (table) table.dataset.found = found;
  sayFound();
  if (table && grouped()) summarise(table.tBodies[0], rows.values(), grouped(), values);
  comparing?.refilter();
  const none = document.getElementById('none-fit');
  if (none) none.hidden = found > 0 || rows.size === 0;
}

function sayFound() {
  const found = Number(document.getElementById('machines')?.dataset.found ?? 0);
  setText(document.getElementById('found'), found < machines ? `${found} of ${machines}` : '');
}

// The table anew, as the server orders and filters it.
function ask() {
  lastOrder = performance.now();
  htmx.trigger(list, 'fleet-changed');
}

const heard = (latest) => latest.status === 'online' || latest.status === 'stale';
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

const grouped = () => choice('group')?.value ?? '';
const choice = (name) => document.querySelector(`#filter [name=${name}]`);

function order(now) {
  const sort = choice('sort')?.value ?? 'name';
  const body = document.getElementById('machines')?.tBodies[0];
  if (!body) return;
  const live = sort !== 'name';
  if (!now && whole && grouped() && performance.now() - lastSummary > 1000) {
    lastSummary = performance.now();
    summarise(body, rows.values(), grouped(), values);
  }
  if (!now && (!live || performance.now() - lastOrder < ORDER_INTERVAL)) return;
  if (!now && (body.matches(':hover') || body.contains(document.activeElement))) return;
  if (!whole) {
    // Not while somebody reads further down: the beginning would take the place of what they read.
    if (now || (scrollY < innerHeight && performance.now() - lastOrder > 2 * ORDER_INTERVAL)) ask();
    return;
  }
  if (live && values.size < rows.size) return;
  lastOrder = performance.now();
  const sign = choice('order').value === 'desc' ? -1 : 1;
  const byName = (a, b) => a.name.toLowerCase().localeCompare(b.name.toLowerCase());
  // What a silent machine last said is not how it is now.
  const value = (row) => {
    const latest = values.get(row.id) ?? {};
    return heard(latest) ? KEYS[sort](latest) : null;
  };
  const group = grouped();
  const sorted = [...rows.values()].sort((a, b) => {
    const apart = group ? byGroup(groupOf(a, group), groupOf(b, group)) : 0;
    if (apart !== 0) return apart;
    if (!live) return sign * byName(a, b);
    const [x, y] = [value(a), value(b)];
    if (x == null || y == null) return (x == null) - (y == null) || byName(a, b);
    return sign * (x - y) || byName(a, b);
  });
  // Only rows out of place are moved.
  let place = body.firstElementChild;
  for (const element of headed(sorted, body, group)) {
    if (place === element) place = place.nextElementSibling;
    else body.insertBefore(element, place);
  }
  for (const head of document.querySelectorAll('#machines th[data-sort]')) {
    const chosen = head.dataset.sort === sort;
    head.ariaSort = chosen ? (sign < 0 ? 'descending' : 'ascending') : 'none';
  }
}

// Rows with their headings between them, in the order of the page.
function headed(sorted, body, group) {
  if (!group) return sorted.map((row) => row.element);
  const known = headings(body);
  let before = null;
  return sorted.flatMap((row) => {
    const name = groupOf(row, group);
    const heading = name === before ? [] : [known.get(name)];
    before = name;
    // A machine whose status has no heading yet: the server makes one.
    if (heading.includes(undefined)) refresh();
    return [...heading, row.element].filter(Boolean);
  });
}

// The chart of one metric over all machines; its code is loaded when it is first wanted.
let comparing = null;
async function compare() {
  const wanted = choice('compare')?.value ?? '';
  if (!wanted && !comparing) return;
  comparing ??= await import('./compare.js');
  comparing.compare(wanted, choice('span').value, () => {
    const some = whole || choice('q').value.trim() !== '';
    return some ? new Set([...rows.values()].filter((row) => !row.element.hidden).map((row) => row.id)) : null;
  });
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
  put('group', grouped());
  put('compare', choice('compare').value);
  put('span', choice('compare').value && choice('span').value, '1h');
  put('view', document.querySelector('#filter [name=view]:checked').value);
  history.replaceState(null, '', address);
}

function sortBy(column, descending) {
  choice('sort').value = column;
  choice('order').value = descending ? 'desc' : 'asc';
  document.getElementById('sort-by').value = column;
  order(true);
  remember();
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
  if (event.target.name === 'group') {
    ask();
    remember();
  }
  if (event.target.id === 'sort-by') sortBy(event.target.value, event.target.value !== 'name');
  if (event.target.name === 'compare') {
    compare();
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
  const span = event.target.closest('[data-span]');
  if (span) {
    choice('span').value = span.dataset.span;
    compare();
    remember();
  } else if (head) {
    event.preventDefault();
    const column = head.parentElement.dataset.sort;
    const again = choice('sort').value === column;
    sortBy(column, again ? choice('order').value !== 'desc' : column !== 'name');
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
  machines = sums.machines;
  const texts = {
    machines: String(sums.machines),
    cpus_busy: format.number(sums.cpus_busy),
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
    setText(element, String(sums[name]));
    element.parentElement.hidden = sums[name] === 0 && name !== 'online';
  }
}

function refresh() {
  if (refreshing || (!whole && scrollY > innerHeight)) return;
  refreshing = true;
  setTimeout(() => {
    refreshing = false;
    ask();
  }, 250);
}

let painting = false;
const moved = new Set();

on('fleet', (message) => {
  for (const row of message.rows) {
    values.set(row.id, row);
    if (rows.has(row.id)) moved.add(row.id);
  }
  totals(message.totals);
  if (message.changed || (whole && message.totals.machines !== rows.size)) refresh();
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
    const speaks = heard(latest);
    row.cpu.add(speaks ? (latest.cpu ?? NaN) : NaN);
    row.network.add(speaks ? (both(latest.rx, latest.tx) ?? NaN) : NaN);
    if (!visible.has(id)) continue;
    write(row.places, latest);
    row.cpu.draw();
    row.network.draw();
  }
  moved.clear();
  order(false);
  if (values.size > 0) reached('muster:fleet');
}

on('open', ({ again }) => again && refresh());
document.addEventListener('htmx:after:swap', adopt);

function choose(step) {
  const shown = [...document.querySelectorAll('#machines tbody [data-machine-id]')].filter((row) => !row.hidden);
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

function badges() {
  for (const row of rows.values()) writeBadges(row.element.querySelector('[data-badges]'), row.id);
}

adopt();
compare();
watchAlerts(badges);
document.addEventListener('htmx:after:swap', badges);
connect(() => ({ rows: [...visible], all: whole }));
