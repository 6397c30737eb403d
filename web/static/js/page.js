// Where this page is. Every address is resolved against the root of the dashboard, wherever a proxy
// has put it.

const html = document.documentElement;
const base = new URL(html.dataset.base, location.href);

export const version = html.dataset.version;

export function url(path, params) {
  const address = new URL(path, base);
  for (const [name, value] of Object.entries(params ?? {})) address.searchParams.append(name, value);
  return address;
}

// JSON from the server, or an error that says what the server said.
export async function json(address, signal) {
  const answer = await fetch(address, { signal, headers: { accept: 'application/json' } });
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(body?.error?.message ?? `the server answered ${answer.status}`);
  return body;
}

// Text is only written when it differs: nothing is laid out again for nothing.
export function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

// Marks, once, that the page has come so far: a person sees something live.
export function reached(what) {
  if (performance.getEntriesByName(what).length === 0) performance.mark(what);
}
