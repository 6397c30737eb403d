// The keyboard: single keys, never while somebody writes.

const actions = new Map();

export function key(name, action) {
  actions.set(name, action);
}

const help = document.getElementById('help');

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help?.open) return;
  const writing = event.target.closest?.('input, textarea, select, [contenteditable]');
  const inText = writing && !['radio', 'checkbox', 'button'].includes(writing.type);
  if (inText && event.key !== 'Escape') return;
  const action = actions.get(event.key);
  if (action && action(event) !== false) event.preventDefault();
});

const openHelp = () => help.showModal();
key('?', openHelp);
document.getElementById('help-open')?.addEventListener('click', openHelp);
key('g', () => document.querySelector('.bar .mark').click());
