// The page of alerts: what is wrong and what was stay true, and the switch for this browser.

import './plain.js';
import { onAlerts } from './alerts.js';
import { onStanding, switchOff, switchOn } from './notify.js';
import { setText, url } from './page.js';
import { refreshTimes } from './times.js';

const PAUSE = 400;
const PAUSE_AFTER_TROUBLE = 5000;
const PARTS = ['active', 'history'];

// What is shown may be older than what is known.
let dirty = false;
let waiting = 0;
let well = false;
// A part that somebody uses stays as it is until they leave it.
let held = false;

onAlerts(({ available, trouble }) => {
  const words = trouble && `The alert service is not heard: ${trouble}. What you see is what was last known.`;
  const place = document.getElementById('unheard');
  setText(place, words);
  place.hidden = !words;
  well = available && !trouble;
  if (well) soon(PAUSE);
});
document.addEventListener('focusout', () => held && soon(PAUSE));

function soon(pause) {
  dirty = true;
  waiting ||= setTimeout(async () => {
    dirty = false;
    const done = await renew().catch(() => false);
    waiting = 0;
    if (dirty) soon(PAUSE);
    else if (!done && well) soon(PAUSE_AFTER_TROUBLE);
  }, pause);
}

// The same page again, of which the parts that move take their places. False: to be tried again.
async function renew() {
  const answer = await fetch(url('alerts'), { cache: 'no-store' });
  // To the login: the parts are not there for this browser any more.
  if (answer.redirected) return true;
  if (!answer.ok) return false;
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  const pairs = PARTS.map((id) => [document.getElementById(id), page.getElementById(id)]);
  // Made while the alert service was not reached.
  if (pairs.some(([, there]) => !there)) return false;
  // And so was the page that is open: now there is all of it. It may be the answer to a form, so it is not sent again.
  if (pairs.some(([here]) => !here)) {
    location.replace(url('alerts'));
    return true;
  }
  held = false;
  for (const [here, there] of pairs) {
    if (here.contains(document.activeElement)) {
      held = true;
      continue;
    }
    here.replaceChildren(...there.childNodes);
    refreshTimes(here);
  }
  return true;
}

const button = document.getElementById('notify');
const said = document.getElementById('notify-said');
const WORDS = {
  on: 'New alerts show up in this browser while a page of Muster is open, seen or not.',
  off: '',
  refused: 'This browser has refused notifications for this address; its settings for the site can allow them.',
  insecure: 'This browser shows notifications only of pages that came over HTTPS, or from this very machine.',
  unable: 'This browser cannot show notifications of a page.',
};

// The page has no switch while the alert service is not reached.
if (button) {
  onStanding(showStanding);
  button.addEventListener('click', () => (button.getAttribute('aria-checked') === 'true' ? switchOff() : switchOn()));
}

function showStanding(standing) {
  const works = standing === 'on' || standing === 'off';
  button.setAttribute('aria-checked', String(standing === 'on'));
  button.disabled = !works;
  setText(said, WORDS[standing]);
}
