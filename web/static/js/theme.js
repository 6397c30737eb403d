// The theme that this viewer chose: as the system, dark or light. Runs before anything is drawn, so that a
// page does not flash, and is no module for that reason.

(() => {
  const KEY = 'muster-theme';
  const THEMES = ['system', 'dark', 'light'];
  const html = document.documentElement;
  const read = () => {
    try {
      const kept = localStorage.getItem(KEY);
      return THEMES.includes(kept) ? kept : 'system';
    } catch {
      // Without a store, the choice lasts as long as the page.
      return html.dataset.theme ?? 'system';
    }
  };
  const show = (theme) => {
    if (theme === 'system') delete html.dataset.theme;
    else html.dataset.theme = theme;
    const button = document.getElementById('theme');
    if (button) {
      button.textContent = { system: '◐', dark: '●', light: '○' }[theme];
      button.title = `Theme: ${theme === 'system' ? 'as the system' : theme}`;
      button.setAttribute('aria-label', button.title);
    }
    document.dispatchEvent(new Event('muster:theme'));
  };
  show(read());
  addEventListener('storage', (event) => event.key === KEY && show(read()));
  document.addEventListener('DOMContentLoaded', () => {
    show(read());
    document.getElementById('theme')?.addEventListener('click', () => {
      const next = THEMES[(THEMES.indexOf(read()) + 1) % THEMES.length];
      show(next);
      try {
        localStorage.setItem(KEY, next);
      } catch {
        // See above.
      }
    });
  });
})();
