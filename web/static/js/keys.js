// The keyboard: single keys, never while somebody writes.

const actions = new Map();

// Who came last is asked first; an action that returns false leaves the key to those before it.
export function key(name, action) {
  actions.set(name, [action, ...(actions.get(name) ?? [])]);
}

const help = document.getElementById('help');

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help?.open) return;
  const writing = event.target.closest?.('input, textarea, select, [contenteditable]');
  const inText = writing && !['radio', 'checkbox', 'button'].includes(writing.type);
  if (inText && event.key !== 'Escape') return;
  if ((actions.get(event.key) ?? []).some((action) => action(event) !== false)) event.preventDefault();
});

const openHelp = () => help.showModal();
key('?', openHelp);
document.getElementById('help-open')?.addEventListener('click', openHelp);
key('g', () => document.querySelector('.bar .mark').click());
