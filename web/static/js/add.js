// The page that waits for a new machine and becomes its page.

import './keys.js';
import { connect, on } from './live.js';
import { setText, url } from './page.js';

const page = document.getElementById('add');
const known = new Set(page.dataset.known.split(' '));

on('fleet', (message) => {
  const fresh = message.rows.find((row) => !known.has(row.id) && row.status === 'online');
  if (!fresh) return;
  setText(document.getElementById('waiting'), `${fresh.name} is here.`);
  location.assign(url(`machines/${fresh.id}`));
});
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
