// The page that waits for a new machine and becomes its page.

import './keys.js';
import { connect, on } from './live.js';
import { json, setText, url } from './page.js';

const page = document.getElementById('add');
const known = new Set(page.dataset.known.split(' '));

async function look() {
  const { machines } = await json(url('api/v1/machines'));
  const fresh = machines.find((machine) => !known.has(machine.id) && machine.status === 'online');
  if (!fresh) return;
  setText(document.getElementById('waiting'), `${fresh.host_name} is here.`);
  location.assign(url(`machines/${fresh.id}`));
}

// Machines that come are announced; one that comes before its first numbers is looked for again.
let looking = 0;
function lookAgain() {
  clearInterval(looking);
  looking = setInterval(() => look().catch(() => {}), 1000);
  setTimeout(() => clearInterval(looking), 15000);
}
on('fleet', (message) => message.changed && lookAgain());
on('open', () => look().catch(() => {}));
connect(() => ({ rows: [] }));

document.getElementById('copy').addEventListener('click', async (event) => {
  const line = document.getElementById('line');
  try {
    await navigator.clipboard.writeText(line.textContent);
    setText(event.target, 'Copied');
  } catch {
    // Only secure origins may write to the clipboard: selecting it is the next best thing.
    getSelection().selectAllChildren(line);
    setText(event.target, 'Press Ctrl+C');
  }
  setTimeout(() => setText(event.target, 'Copy'), 2500);
});
