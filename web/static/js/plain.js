// Pages without live values: times stay true, the keyboard works, the link says how it is.

import './keys.js';
import './times.js';
import { connect } from './live.js';

connect(() => ({}));

// The health page renews itself; numbers there are of minutes, not of seconds.
if (document.documentElement.dataset.page === 'health') {
  setInterval(() => {
    const panel = document.querySelector('.health');
    if (!document.hidden && panel && !panel.contains(document.activeElement)) htmx.trigger(panel, 'refresh');
  }, 5000);
}
