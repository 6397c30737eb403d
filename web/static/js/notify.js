// Notifications of this browser, from whichever page of Muster is open: one tab speaks for all of them.

import { onAlerts } from './alerts.js';
import { stayAwake } from './live.js';
import { url } from './page.js';

// A browser may have several dashboards open, even at one origin.
const KEY = `muster.notify ${url('.').pathname}`;
const TOLD = `${KEY} told`;
// More than so many at once are told as one.
const SINGLE_MAX = 3;
const OVER_SHOWN = 20000;

const listeners = [];
const others = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(KEY);
let speaking = false;
let hush = () => {};
let latest = null;
let broken = '';

// Why it does not work here, `on`, or `off`.
export function standing() {
  if (broken) return broken;
  if (!window.isSecureContext) return 'insecure';
  if (!('Notification' in window)) return 'unable';
  if (Notification.permission === 'denied') return 'refused';
  return wanted() && Notification.permission === 'granted' ? 'on' : 'off';
}

export function onStanding(listener) {
  listeners.push(listener);
  listener(standing());
}

// A browser may forbid to keep anything; then nothing was chosen.
function wanted() {
  try {
    return localStorage.getItem(KEY) === 'on';
  } catch {
    return false;
  }
}

// Only ever called by a click: that is when a browser may ask.
export async function switchOn() {
  if (standing() === 'off' && (await Notification.requestPermission()) === 'granted') {
    // What fires already is on the page; only what comes is told.
    remember(latest ? firing(latest.alerts) : null);
    localStorage.setItem(KEY, 'on');
  }
  changed();
}

export function switchOff() {
  localStorage.removeItem(KEY);
  localStorage.removeItem(TOLD);
  changed();
}

// Takes up what was chosen in this browser before.
export function resume() {
  changed(false);
}

function changed(tell = true) {
  if (standing() === 'on') speak();
  else hush();
  for (const listener of listeners) listener(standing());
  if (tell) others?.postMessage('changed');
}
others?.addEventListener('message', () => changed(false));

// The tab that holds the lock speaks; when it closes, the next one does.
function speak() {
  if (speaking) return;
  speaking = true;
  const stop = new AbortController();
  const held = new Promise((release) => {
    hush = () => {
      speaking = false;
      stop.abort();
      release();
      stayAwake(false);
      hush = () => {};
    };
  });
  const begin = () => {
    stayAwake(true);
    leading = true;
    if (latest) tell(latest);
    return held.then(() => (leading = false));
  };
  // Without locks every tab speaks, and the browser lets the last of one tag stand for all.
  if (navigator.locks) navigator.locks.request(KEY, { signal: stop.signal }, begin).catch(() => {});
  else begin();
}
let leading = false;

onAlerts((state) => {
  latest = state;
  if (leading) tell(state);
});

const firing = (alerts) =>
  Object.fromEntries(alerts.filter((one) => one.phase === 'firing' && !one.silenced).map((one) => [one.id, shortly(one)]));
const shortly = ({ level, rule, host_name, since }) => ({ level, rule, host_name, since });
// An alert has the same id each time that it fires. What was noted without its beginning counts as the same time.
const isAnother = (known, one) => known.since !== undefined && known.since !== one.since;

// What this browser was told of and what is not over yet, by id; null: nothing was noted yet.
function told() {
  try {
    return JSON.parse(localStorage.getItem(TOLD));
  } catch {
    return null;
  }
}

function remember(what) {
  if (what) localStorage.setItem(TOLD, JSON.stringify(what));
  else localStorage.removeItem(TOLD);
}

function tell({ alerts, available, trouble, left_out }) {
  // Nothing is over because nobody can say.
  if (!available || trouble) return;
  const before = told();
  if (before === null) {
    remember(firing(alerts));
    return;
  }
  const there = new Map(alerts.map((one) => [one.id, one]));
  const fresh = alerts.filter((one) => {
    const known = before[one.id];
    const worse = known?.level === 'warning' && one.level === 'critical';
    return one.phase === 'firing' && !one.silenced && (!known || worse || isAnother(known, one));
  });
  const over = Object.entries(before).filter(([id, known]) => {
    const one = there.get(id);
    return one ? isAnother(known, one) : !(left_out > 0);
  });
  if (fresh.length === 0 && over.length === 0) return;
  const after = { ...before };
  for (const [id] of over) delete after[id];
  for (const one of fresh) after[one.id] = shortly(one);
  // First noted, then shown: what a browser cannot show it cannot show again either.
  remember(after);
  tellOver(over);
  // Last, because one of the same tag takes the place of the one before.
  tellFresh(fresh);
}

function tellFresh(fresh) {
  if (fresh.length > SINGLE_MAX) {
    const some = fresh.slice(0, SINGLE_MAX).map((one) => one.summary);
    show('many', `${fresh.length} alerts`, [...some, `and ${fresh.length - SINGLE_MAX} more`].join('\n'), false);
    return;
  }
  for (const one of fresh) show(one.id, `${one.rule} (${one.level})`, one.summary, false);
}

function tellOver(over) {
  if (over.length > SINGLE_MAX) {
    show('many', `${over.length} alerts are over`, '', true);
    return;
  }
  for (const [id, { rule, host_name }] of over) show(id, `Over: ${rule}`, host_name, true);
}

// One of the same tag takes the place of the one before.
function show(id, title, body, over) {
  try {
    const options = { body, tag: `${KEY} ${id}`, silent: over };
    const shown = new Notification(title, over ? options : { ...options, renotify: true });
    shown.onclick = () => {
      focus();
      location.assign(url('alerts'));
    };
    if (over) setTimeout(() => shown.close(), OVER_SHOWN);
  } catch {
    // Some browsers of telephones have notifications, but not for pages.
    broken = 'unable';
    changed(false);
  }
}
