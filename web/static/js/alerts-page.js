// The page of alerts: what is wrong and what was stay true, and the switch for this browser.

import './plain.js';
import { onAlerts } from './alerts.js';
import { onStanding, switchOff, switchOn } from './notify.js';
import { setText, url } from './page.js';
import { refreshTimes } from './times.js';

const PAUSE = 400;
const PARTS = ['active', 'history'];

let first = true;
let waiting = 0;

onAlerts(({ available, trouble }) => {
  const words = trouble && `The alert service is not heard: ${trouble}. What you see is what was last known.`;
  const place = document.getElementById('unheard');
  setText(place, words);
  place.hidden = !words;
  // The page itself is as new as the first message.
  if (!first && available && !trouble) waiting ||= setTimeout(renew, PAUSE);
  first = false;
});

// The same page again, of which the parts that move take their places.
async function renew() {
  waiting = 0;
  const answer = await fetch(url('alerts'), { cache: 'no-store' }).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  for (const id of PARTS) {
    const [here, there] = [document.getElementById(id), page.getElementById(id)];
    if (!here || !there || here.contains(document.activeElement)) continue;
    here.replaceChildren(...there.childNodes);
    refreshTimes(here);
  }
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

onStanding((standing) => {
  const works = standing === 'on' || standing === 'off';
  button.setAttribute('aria-checked', String(standing === 'on'));
  button.disabled = !works;
  setText(said, WORDS[standing]);
});
button.addEventListener('click', () => (button.getAttribute('aria-checked') === 'true' ? switchOff() : switchOn()));
