// Which stretch of time all charts show: live, the last hours, or from here to there. In the address.

const NAMED = { '5m': 300e3, '1h': 3600e3, '6h': 6 * 3600e3, '24h': 24 * 3600e3, '7d': 7 * 86400e3, '30d': 30 * 86400e3 };
export const LIVE = '5m';

// { name } for a named one, { from, to } in milliseconds for any other.
let range = read();
const before = [];
const listeners = [];

export const current = () => range;
export const isLive = () => range.name === LIVE;
export const isFixed = () => range.name === undefined;
export const canGoBack = () => before.length > 0;

export function bounds(now) {
  return range.name ? [now - NAMED[range.name], now] : [range.from, range.to];
}

export function onRange(listener) {
  listeners.push(listener);
}

export function choose(next) {
  if (next.name === range.name && next.from === range.from && next.to === range.to) return;
  before.push(range);
  if (before.length > 50) before.shift();
  set(next);
}

// Whether there was anywhere to go back to.
export function back() {
  const last = before.pop();
  if (last) set(last);
  return last !== undefined;
}

export function named(name) {
  return NAMED[name] ? { name } : null;
}

function set(next) {
  range = next;
  const address = new URL(location.href);
  for (const name of ['range', 'from', 'to']) address.searchParams.delete(name);
  if (range.name === undefined) {
    address.searchParams.set('from', String(Math.round(range.from)));
    address.searchParams.set('to', String(Math.round(range.to)));
  } else if (range.name !== LIVE) {
    address.searchParams.set('range', range.name);
  }
  history.replaceState(null, '', address);
  for (const listener of listeners) listener(range);
}

function read() {
  const search = new URLSearchParams(location.search);
  const [from, to] = [Number(search.get('from')), Number(search.get('to'))];
  if (from > 0 && to > from) return { from, to };
  return named(search.get('range')) ?? { name: LIVE };
}
