// The one WebSocket of a page: says what the page shows, hands out what comes, comes back by itself.

import { setText, url, version } from './page.js';
import { time } from './format.js';
import { heardServerClock, serverNow } from './times.js';

const RETRY_MIN = 500;
const RETRY_MAX = 15000;
// The server speaks every 15 s at least.
const SILENCE_MAX = 35000;
// A tab that nobody sees shows nothing at once, and hangs up after this.
const HIDDEN_MAX = 60000;

const listeners = new Map();
let socket = null;
let show = () => ({});
// Whether somebody wants to be told of alerts by this tab while nobody sees it.
let awake = false;
let begun = false;
let retry = RETRY_MIN;
let retryTimer = 0;
let hangUpTimer = 0;
let heard = 0;
let lostSince = 0;
let upstream = { up: true, reason: '' };
let connections = 0;
let loggedOut = false;

// `told` returns what the page shows now; it is asked whenever that is to be said.
export function connect(told) {
  show = told;
  begun = true;
  open();
}

export function on(type, listener) {
  if (!listeners.has(type)) listeners.set(type, []);
  listeners.get(type).push(listener);
}

// Says what the page shows, because it has changed.
export function changed() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  const seen = document.hidden ? {} : show();
  socket.send(JSON.stringify({ ...seen, alerts: awake || !document.hidden }));
}

// From now on this tab stays connected while it is hidden, for alerts alone; or no longer.
export function stayAwake(wanted) {
  awake = wanted;
  // A page that is not live, such as the login, does not become so.
  if (awake && begun && socket === null) open();
  else changed();
}

export const isLive = () => socket?.readyState === WebSocket.OPEN && upstream.up;

function emit(type, message) {
  for (const listener of listeners.get(type) ?? []) listener(message);
}

function open() {
  clearTimeout(retryTimer);
  const address = url('ws');
  address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
  address.search = '';
  const mine = new WebSocket(address);
  socket = mine;
  let opened = false;
  mine.onopen = () => {
    opened = true;
    loggedOut = false;
    heard = Date.now();
    connections += 1;
    changed();
    emit('open', { again: connections > 1 });
  };
  mine.onmessage = (event) => {
    if (mine !== socket) return;
    heard = Date.now();
    retry = RETRY_MIN;
    take(JSON.parse(event.data));
  };
  mine.onclose = () => {
    if (mine !== socket) return;
    socket = null;
    if (document.hidden && !awake) return;
    lostSince ||= serverNow();
    // Jitter, so that a server that comes back is not met by everybody at once.
    const pause = retry * (0.75 + Math.random() / 2);
    retry = Math.min(retry * 2, RETRY_MAX);
    retryTimer = setTimeout(open, pause);
    say();
    if (!opened) askWhetherLoggedOut();
  };
}

// A browser does not tell why a socket was refused, but a request that is cheap to answer does.
async function askWhetherLoggedOut() {
  let answer;
  try {
    answer = await fetch(url('api/v1/metrics'), { method: 'HEAD', cache: 'no-store' });
  } catch {
    return; // The server is away: that is not the same.
  }
  loggedOut = answer.status === 401;
  if (!loggedOut) return;
  clearTimeout(retryTimer);
  say();
}

function take(message) {
  switch (message.t) {
    case 'hello':
      heardServerClock(message.now);
      lostSince = 0;
      if (message.version !== version) newer();
      break;
    case 'tick':
      heardServerClock(message.now);
      break;
    case 'link':
      upstream = message;
      break;
  }
  if (message.t !== 'tick') say();
  emit(message.t, message);
}

// The server was updated: what this page knows of it may no longer fit.
function newer() {
  notice('Muster was updated. Reload this page to get the new version.');
  document.addEventListener('visibilitychange', () => document.hidden && location.reload());
}

const link = document.getElementById('link');
const words = document.getElementById('link-words');
const bar = document.getElementById('notice');
let saidState = '';
let oldTimer = 0;

function say() {
  let state = 'live';
  let text = 'live';
  let why = '';
  if (loggedOut) {
    state = 'lost';
    text = 'logged out';
    why = 'Your session has ended. What you see is what was last known.';
  } else if (lostSince) {
    state = 'waiting';
    text = 'reconnecting';
    why = `Disconnected since ${time(lostSince)}. What you see is what was last known; trying again by itself.`;
  } else if (!upstream.up) {
    state = 'lost';
    text = 'not live';
    why = `Not live: ${upstream.reason}. What you see is what was last known.`;
  }
  if (text === saidState) return;
  saidState = text;
  link.dataset.state = state;
  setText(words, text);
  clearTimeout(oldTimer);
  if (state === 'live') {
    document.documentElement.classList.remove('is-old');
    notice('');
  } else {
    // A hiccup of a second is not worth alarming anybody.
    oldTimer = setTimeout(() => {
      document.documentElement.classList.add('is-old');
      notice(why);
      if (loggedOut) offerLogin();
    }, 1500);
  }
}

// The page itself, asked for again, sends to the login and comes back.
function offerLogin() {
  const again = document.createElement('a');
  // Without the fragment, with which it would only scroll.
  again.href = location.pathname + location.search;
  again.textContent = 'Log in';
  bar.append(' ', again);
}

function notice(text) {
  bar.hidden = text === '';
  setText(bar, text);
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(hangUpTimer);
  if (document.hidden) {
    changed();
    hangUpTimer = setTimeout(() => awake || socket?.close(1000), HIDDEN_MAX);
  } else if (socket === null) {
    retry = RETRY_MIN;
    open();
  } else {
    changed();
  }
});
addEventListener('online', () => {
  if (socket === null) open();
});
setInterval(() => {
  if (socket?.readyState === WebSocket.OPEN && Date.now() - heard > SILENCE_MAX) {
    // A dead connection may take minutes to say so.
    const dead = socket;
    dead.onclose({});
    dead.onclose = null;
    dead.close();
  }
}, 5000);
