// Puts a machine's numbers where the page has a place for them.

import * as format from './format.js';
import { setText } from './page.js';
import { refreshTimes, serverNow } from './times.js';

const WRITERS = {
  cpu: (row) => format.percent(row.cpu ?? NaN),
  memory: (row) => format.percent(row.mem ?? NaN),
  disk: (row) => format.percent(row.disk ?? NaN),
  swap: (row) => format.percent(row.swap ?? NaN),
  mount: (row) => row.mount,
  receive: (row) => format.bytesRate(row.rx ?? NaN),
  transmit: (row) => format.bytesRate(row.tx ?? NaN),
  read: (row) => format.bytesRate(row.rd ?? NaN),
  write: (row) => format.bytesRate(row.wr ?? NaN),
  load: (row) => (row.cpus && row.load != null ? (row.load / row.cpus).toFixed(2) : format.ABSENT),
  temperature: (row) => format.celsius(row.temp ?? NaN),
  uptime: (row) => format.duration(row.up ?? NaN),
  name: (row) => row.name,
};

const LEVELS = { cpu: (row) => row.cpu, memory: (row) => row.mem, disk: (row) => row.disk };

const level = (ratio) => (ratio >= 0.92 ? 'full' : ratio >= 0.8 ? 'high' : '');

// The places of one machine, looked up once.
export function places(root) {
  const fields = new Map();
  for (const element of root.querySelectorAll('[data-field]')) fields.set(element.dataset.field, element);
  const meters = new Map();
  for (const element of root.querySelectorAll('[data-meter]')) meters.set(element.dataset.meter, element);
  return { root, fields, meters };
}

export function write({ root, fields, meters }, row) {
  for (const [name, element] of fields) {
    const writer = WRITERS[name];
    if (!writer) continue;
    setText(element, writer(row));
    const ratio = LEVELS[name];
    if (ratio) {
      const wants = level(ratio(row));
      if (element.dataset.level !== wants) element.dataset.level = wants;
    }
  }
  for (const [name, element] of meters) {
    const ratio = LEVELS[name](row);
    if (ratio != null) element.setAttribute('width', Math.round(Math.min(Math.max(ratio, 0), 1) * 100));
  }
  if (root.dataset.status !== row.status) writeStatus(root, fields, row);
}

function writeStatus(root, fields, row) {
  root.dataset.status = row.status;
  const heard = row.status === 'online' || row.status === 'stale';
  root.classList.toggle('silent', !heard);
  const status = fields.get('status');
  if (status) {
    status.title = row.status;
    status.querySelector('.shape').setAttribute('class', `shape ${row.status}`);
    status.querySelector('use').setAttribute('href', `#s-${row.status}`);
    setText(status.querySelector('.word'), row.status);
  }
  const since = fields.get('since');
  if (!since) return;
  since.replaceChildren();
  if (row.since != null && (row.status !== 'online' || root.id === 'machine')) {
    const own = root.id === 'machine';
    const when = document.createElement('time');
    when.dateTime = new Date(row.since).toISOString();
    when.dataset[own ? 'exact' : 'ago'] = row.since;
    when.textContent = format.ago(serverNow(), row.since);
    since.append(own ? 'since ' : `${row.status} `, when);
    refreshTimes(since);
  }
}
