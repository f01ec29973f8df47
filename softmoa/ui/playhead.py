"""A line that moves over the pictures while the sound plays.

The player draws a cursor of its own and tells nobody where it is, so its place is read from there;
the element lies in a shadow root, and a new sound brings a new one.
"""

PLAYHEAD = """
let cursor = null, last = '';
const find = () => {
  for (const one of document.querySelectorAll('#sound *')) {
    const found = one.shadowRoot && one.shadowRoot.querySelector('[part~=cursor]');
    if (found) return found;
  }
  return null;
};
const seconds = () => {
  const drawn = Number(element.querySelector('[data-seconds]')?.dataset.seconds || 0);
  const [minutes, rest] = (document.querySelector('#sound #duration')?.textContent || '0:0')
    .split(':').map(Number);
  const whole = 60 * minutes + rest;  // of the file, of which only a beginning may be drawn
  return whole > drawn + 1 ? whole : drawn;
};
const move = () => {
  if (!element.isConnected) return;
  requestAnimationFrame(move);
  if (!cursor || !cursor.isConnected) cursor = find();
  const place = cursor ? cursor.style.left : '';
  if (place === last) return;
  last = place;
  const at = parseFloat(place) / 100 * seconds();
  for (const area of document.querySelectorAll('.moa-follows .moa-area[data-seconds]')) {
    let head = area.querySelector('.moa-playhead');
    if (!head) {
      head = document.createElement('span');
      head.className = 'moa-playhead';
      area.append(head);
    }
    head.style.left = 100 * at / Number(area.dataset.seconds) + '%';
    head.hidden = !(at > 0);
  }
};
move();
"""
