// One step of the view in the address: a function of the components of all tabs, in the order of
// `tabs`. tabs: name -> keys of its components. tab: the one that was
// selected. opened: the page has done what the link asks. copy and copied: words
// on the button, before and after.
({tabs, tab, opened, copy, copied}) => async (...values) => {
  const asked = new URLSearchParams(location.search);
  if (opened) window.softmoaLinkOpened = true;
  if (opened && asked.get('present') === '1') document.documentElement.classList.add('present');
  if (opened || !window.softmoaLinkOpened) return;  // the page's start would overwrite the link
  const names = Object.keys(tabs), shown = tab || asked.get('tab') || names[0];
  const query = new URLSearchParams();
  for (const [key, value] of asked)
    if (key.startsWith('__') || key === 'present') query.set(key, value);
  query.set('tab', shown);
  for (const name of names) {
    const keys = tabs[name], own = values.splice(0, keys.length);
    if (name !== shown) continue;
    keys.forEach((key, k) => {
      const value = own[k] ?? '';
      if (typeof value === 'object')  // what the stage shows; 0 and "" are its defaults
        for (const [name, part] of Object.entries(value)) part && query.set(name, part);
      // A visitor's own bundle: its key would open the comparison that it came from.
      else if (value !== '' && !(key === 'bundle' && value.includes('/'))) query.set(key, value);
    });
  }
  history.replaceState(history.state, '', location.pathname + '?' + query + location.hash);
  if (!copied) return;
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(location.href);
  } else {  // without https a page has no clipboard of its own
    const box = document.body.appendChild(document.createElement('textarea'));
    box.value = location.href;
    box.select();
    document.execCommand('copy');
    box.remove();
  }
  const button = document.querySelector('#copy-link');
  button.textContent = copied;
  setTimeout(() => { button.textContent = copy; }, 1500);
}
