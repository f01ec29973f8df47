// The stage, see stage.py. Its clip is props.clip; what is chosen is props.value, which Gradio
// reads and may set. Everything but "pick", "explain", "judge", "brush" and "zip" happens here, without the server.
const $ = name => element.querySelector('.' + name);
const area = $('area'), pen = $('weights').getContext('2d'), scrubber = $('layer input');
const VIEWS = {
  experts: ['All experts', 'Each patch in the colour of the expert it listens to most'],
  dispatch: ['Dispatch', 'What the expert reads: its weights over all patches sum to 1'],
  combine: ['Combine', 'Who answers a patch: its weights over all experts sum to 1'],
  label: ['For the label', 'What the expert adds to the label (red) or takes from it (blue)'],
};
const ACTS = {play: 'Play it', erase: 'Erase it', keep: 'Keep only it', clear: '\u2715'};
const STEPS = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 0], ArrowDown: [-1, 0]};
const DRAG = 6;  // pixels; less is a press
const FOR = [178, 24, 43], AGAINST = [33, 102, 172];
let clip = null, bytes = null, scales = [], tops = [];  // a clip and its weights, unpacked
let signed = null, asked = null;  // contributions to a label; the class they were asked for
let over = 0, spot = null, audio = null, loads = 0;  // expert and patch that are pointed at
let truths = {}, judged = null;  // what was said of each map; the one that was asked for last
let box = null, began = null, dragged = false;  // columns and bands of a selection, both included
const own = $('own'), main = () => props.player ? document.querySelector(props.player + ' audio') : own;

const colours = props.colours.map(hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)));
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const tell = x => x >= 99.5 ? x.toFixed(0) : x >= 0.01 ? x.toPrecision(2) : '< 0.01';
const percent = x => (100 * x).toFixed(x < 0.0995 ? 1 : 0) + '%';
const within = (from, to, low, high) =>
  from.toFixed(2) + '\u2013' + to.toFixed(2) + ' s, ' + low + '\u2013' + high + ' Hz';
const place = (node, style) => Object.assign(node.style, style);
const pressed = (node, on) => node.setAttribute('aria-pressed', String(on));
const make = (tag, set) => Object.assign(document.createElement(tag), set);
const each = (count, of) => Array.from({length: count}, (_, k) => of(k));
const button = (text, press, {data, ...set} = {}) => {
  const made = make('button', {type: 'button', textContent: text, onclick: press, ...set});
  Object.assign(made.dataset, data);
  return made;
};
const inflate = async text => {
  const packed = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

// --- what is chosen, made to fit the clip
const chosen = () => {
  const {layer = 0, site = '', view = 'experts', expert = 0, slot = 1} = props.value || {};
  const found = clip.layers.findIndex(l => l.layer === layer && (!site || l.site === site));
  const row = found < 0 ? clip.layers.findIndex(l => l.best) : found;
  const gates = clip.layers[row].gates;  // a token router has one weight for both views
  return {
    row, gates, view: gates && view === 'dispatch' ? 'combine' : view,
    expert: over || clamp(expert, 0, clip.shape[0]), slot: clamp(slot, 1, clip.shape[1]) - 1,
  };
};
const choose = change => {
  props.value = {...props.value, ...change};
  draw();
};
const explain = index => {
  if (asked === clip.classes[index]) return;
  asked = clip.classes[index];
  signed = null;
  trigger('explain', {label: asked});
};

// --- numbers of a patch; tokens count from 0, the two special ones first
const token = ({band, column}) => 2 + band * clip.grid.columns + column;
const multiple = (row, kind, expert, slot, t) => {  // of an even share
  const [n, p, m] = clip.shape;
  return scales[row][kind][bytes[(((row * 2 + kind) * n + expert) * p + slot) * m + t]];
};
const share = (row, expert, t) => {  // of what a patch takes, from 0 to 1
  let sum = 0;
  for (let k = 0; k < clip.shape[1]; k++) sum += multiple(row, 1, expert, k, t);
  return sum / (clip.shape[0] * clip.shape[1]);
};
const contribution = (row, expert, t) => {  // of expert `expert` - 1, or of all for 0
  const [n, , m] = clip.shape;
  let sum = 0;
  for (let j = 0; j < n; j++)
    if (!expert || j === expert - 1) sum += signed.values[(row * n + j) * m + t];
  return sum * signed.top / 127;
};
const strongest = (row, t) => {
  let best = 0, most = -1;
  for (let j = 0; j < clip.shape[0]; j++) {
    const part = share(row, j, t);
    if (part > most) [best, most] = [j, part];
  }
  return [best, most];
};

// --- drawing
const tint = ({row, view, expert, slot}, t) => {  // red, green, blue, opacity
  if (view === 'label') {
    const part = signed ? contribution(row, expert, t) / signed.top : 0;
    return [...(part > 0 ? FOR : AGAINST), Math.min(1, Math.abs(part) ** 0.7)];
  }
  if (view === 'experts') {
    const n = clip.shape[0], [best, most] = strongest(row, t);
    const decisive = Math.max(0, (most - 1 / n) / (1 - 1 / n)) ** 0.6;
    return [...colours[best % colours.length], expert && best !== expert - 1 ? 0 : decisive];
  }
  const kind = view === 'dispatch' ? 0 : 1, j = Math.max(expert, 1) - 1;
  const part = multiple(row, kind, j, slot, t) / tops[row][kind];
  return [...colours[j % colours.length], Math.min(1, part)];
};
const paint = now => {
  const {bands, columns} = clip.grid, image = pen.createImageData(columns, bands);
  for (let band = 0; band < bands; band++)
    for (let column = 0; column < columns; column++) {
      const [r, g, b, a] = tint(now, token({band, column}));
      image.data.set([r, g, b, 255 * a], 4 * ((bands - 1 - band) * columns + column));
    }
  pen.putImageData(image, 0, 0);
};
const bars = ({row, expert}) => {  // at the patch or the moment looked at; else of the whole clip
  const {bands, columns} = clip.grid, playing = audio && !audio.ended && audio.currentTime > 0;
  const column = playing ? columnAt(audio.currentTime) : -1;
  const tokens = spot ? [token(spot)]
    : playing ? each(bands, band => token({band, column}))
    : [...Array(clip.shape[2]).keys()];
  [...$('experts').children].forEach((one, j) => {
    const part = tokens.reduce((sum, t) => sum + share(row, j, t), 0) / tokens.length;
    one.querySelector('.bar').style.width = 100 * part + '%';
    one.querySelector('span').textContent = percent(part);
    one.classList.toggle('dim', expert > 0 && expert !== j + 1);
    pressed(one, props.value?.expert === j + 1);
  });
};
const said = now => {
  const {row, view, expert, slot, gates} = now, [n, p, m] = clip.shape;
  const j = Math.max(expert, 1) - 1, kind = view === 'dispatch' ? 0 : 1;
  const name = 'E' + (j + 1) + (p > 1 ? ' slot ' + (slot + 1) : '');
  if (view === 'label' && !signed) return 'Computing the contributions \u2026';
  if (!spot) {
    if (clip.said) return clip.said;
    if (box) {
      const {columns: [a, b], bands: [c, d]} = box;
      return within(clip.times[a][0], clip.times[b][1], clip.hertz[c][0], clip.hertz[d][1]);
    }
    if (view === 'experts') return VIEWS.experts[1] + '; the stronger, the more decided.' +
      (props.player ? ' Drag a box to hear or change a part.' : '');
    if (view === 'label') return (expert ? 'E' + expert : 'All experts') + ': red speaks for ' +
      signed.label + ', blue against.';
    return name + (gates ? ' gates' : view === 'dispatch' ? ' reads' : ' answers') +
      '; of the two tokens of the whole clip: class token ' + tell(multiple(row, kind, j, slot, 0)) +
      ', distillation token ' + tell(multiple(row, kind, j, slot, 1)) + ' \u00d7 even.';
  }
  const t = token(spot), [from, to] = clip.times[spot.column], [low, high] = clip.hertz[spot.band];
  const where = within(from, to, low, high) + ': ';
  if (view === 'label') {
    const part = contribution(row, expert, t);
    return where + (expert ? 'E' + expert : 'all experts') + ' ' + (part < 0 ? '\u2212' : '+') +
      Math.abs(part).toPrecision(2) + ' on the logit of ' + signed.label;
  }
  if (view === 'experts') {
    const [best, most] = expert ? [j, share(row, j, t)] : strongest(row, t);
    return where + 'E' + (best + 1) + ' ' + percent(most) + ', ' + tell(most * n) + ' \u00d7 even';
  }
  const even = multiple(row, kind, j, slot, t), weight = even / (kind ? n * p : m);
  return where + name + ' weight ' + weight.toPrecision(2) + ', ' + tell(even) + ' \u00d7 even';
};
const lie = ({columns: [a, b], bands: [c, d]}) => {  // where a box of patches is drawn
  const {seconds, grid: {mels}, cell} = clip;
  return {
    left: 100 * (cell.left + a * cell.width) / seconds + '%', width: 100 * (b - a + 1) * cell.width / seconds + '%',
    bottom: 100 * (cell.low + c * cell.height) / mels + '%', height: 100 * (d - c + 1) * cell.height / mels + '%',
  };
};
const point = now => {
  for (const name of ['patch', 'across', 'down']) $(name).hidden = !spot;
  if (spot) {
    const at = lie({columns: [spot.column, spot.column], bands: [spot.band, spot.band]});
    place($('patch'), at);
    place($('across'), {bottom: at.bottom, height: at.height});
    place($('down'), {left: at.left, width: at.width});
  }
  $('box').hidden = !(box || clip.box);
  if (box || clip.box) place($('box'), lie(box || clip.box));
  $('brush').hidden = !box;
  $('readout').textContent = said(now);
};
const judge = (label, key) => { judged = key; trigger('judge', {label, key}); };
const weigh = ({row, view, slot}) => {  // whether the map is true: at once for a label, else when asked
  if (!props.player) return;
  const expert = clamp(props.value?.expert || 0, 0, clip.shape[0]);
  const label = view === 'label' ? asked : clip.classes[0];
  const key = [loads, row, view, expert, slot, label].join();
  if (truths[key] || judged === key) $('truth').textContent = truths[key] || 'Computing whether it is true \u2026';
  else if (view !== 'label') $('truth').replaceChildren(button('Is it true?', () => { judge(label, key); draw(); }));
  else if (signed) judge(label, key);
};
const draw = () => {
  if (!bytes) return;
  const now = chosen(), {layer, site} = clip.layers[now.row], [, p] = clip.shape;
  const sites = new Set(clip.layers.map(l => l.site)).size;
  if (now.view === 'label' && asked === null) explain(0);
  scrubber.value = now.row + 1;
  $('layer output').textContent = 'Layer ' + layer + (sites > 1 ? ' ' + site.toUpperCase() : '');
  for (const one of $('views').children) {
    pressed(one, one.dataset.view === now.view);
    one.hidden = now.gates && one.dataset.view === 'dispatch';
    if (one.dataset.view === 'combine') one.textContent = now.gates ? 'Gates' : 'Combine';
  }
  [...$('slots').children].forEach((one, k) => pressed(one, k === now.slot));
  $('slots').hidden = p < 2 || !['dispatch', 'combine'].includes(now.view);
  for (const one of element.querySelectorAll('.headline button'))
    pressed(one, now.view === 'label' && +one.dataset.class === asked);
  area.dataset.shown = now.view;
  paint(now);
  bars(now);
  point(now);
  weigh(now);
};

// --- a new clip
const lay = () => {
  const {grid, seconds, layers, labels, headline: [before, count], shape: [n, p]} = clip;
  const names = labels.map(([label, part], k) => {
    // A tag may list what else it is called: a chip has room for its first name.
    const said = k < count ? label : label.split(',')[0];
    const made = button(said + ' ', () => { explain(k); choose({view: 'label'}); },
      {title: label, disabled: !layers.length, data: {class: clip.classes[k]}});
    made.append(make('small', {textContent: percent(part)}));
    return made;
  });
  const told = names.slice(0, count).flatMap((one, k) => k ? [' or ', one] : [one]);
  $('headline h2').replaceChildren(before, ...told);
  $('chips').replaceChildren(...names.slice(count));
  $('sound').src = clip.mel;
  [pen.canvas.width, pen.canvas.height] = [grid.columns, grid.bands];
  place(pen.canvas, lie({columns: [0, grid.columns - 1], bands: [0, grid.bands - 1]}));
  place($('padding'), {left: 100 * clip.real / seconds + '%'});
  $('padding').hidden = clip.real >= seconds;
  const mark = (text, style) => make('span', {textContent: text, style});
  $('hertz').replaceChildren(
    ...clip.ticks.map(([at, text]) => mark(text, 'bottom:' + 100 * at / grid.mels + '%')));
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10].find(s => seconds / s <= 8) || 20;
  $('seconds').replaceChildren(...each(Math.floor(seconds / step) + 1, k =>
    mark(+(k * step).toFixed(1) + ' s', 'left:' + 100 * k * step / seconds + '%')));
  scrubber.max = layers.length;
  const title = 'A slot is one weighted mean of all patches; an expert answers each of its slots';
  $('slots').replaceChildren(...each(p, k =>
    button('Slot ' + (k + 1), () => choose({slot: k + 1}), {title})));
  $('experts').replaceChildren(...each(n, j => {
    const made = button('E' + (j + 1), () =>
      choose({expert: props.value?.expert === j + 1 ? 0 : j + 1}));
    made.insertAdjacentHTML('beforeend', '<i><b class="bar"></b></i><span></span>');
    made.style.setProperty('--c', props.colours[j % props.colours.length]);
    const hover = to => event => { if (event.pointerType === 'mouse') { over = to; draw(); } };
    Object.assign(made, {onpointerenter: hover(j + 1), onpointerleave: hover(0)});
    return made;
  }));
};
const open = async () => {
  const mine = ++loads, next = props.clip;
  const unpacked = next?.layers.length ? await inflate(next.weights) : null;
  if (mine !== loads) return;  // another clip has come meanwhile
  [clip, bytes, spot, over, asked, signed, audio, box] = [next, unpacked, null, 0, null, null, null, null];
  truths = {};
  own.pause();
  own.src = clip?.sound || '';
  $('playhead').hidden = true;
  Object.assign($('stage').dataset, {empty: !clip, opened: mine});
  if (!clip) return;
  $('stage').dataset.mixture = String(clip.layers.length > 0);
  const [n, p, m] = clip.shape, {floor} = clip;
  scales = clip.layers.map(({tops}) => tops.map(top => Float32Array.from({length: 256}, (_, q) =>
    q && floor * (top / floor) ** ((q - 1) / 254))));
  tops = clip.layers.map((_, row) => [0, 1].map(kind => {  // all but the highest 0.5 % fit
    const size = n * p * m, start = (row * 2 + kind) * size;
    const sorted = bytes.slice(start, start + size).sort();
    return Math.max(scales[row][kind][sorted[Math.floor(0.995 * (size - 1))]], 1);
  }));
  lay();
  draw();
};
const unpackSigned = async () => {
  const next = props.signed;
  if (!next) return;
  const values = new Int8Array((await inflate(next.values)).buffer);
  if (next.class === asked) signed = {...next, values};
  draw();
};

// --- pointer, keyboard, sound
const columnAt = s => clamp(Math.floor((s - clip.cell.left) / clip.cell.width), 0, clip.grid.columns - 1);
const look = next => {
  spot = next;
  const now = chosen();
  bars(now);
  point(now);
};
const press = () => {
  if (!spot) return;
  trigger('pick', {token: token(spot)});
  if (audio && audio.paused) audio.currentTime = clip.times[spot.column][0];
};
const patchAt = event => {
  const at = area.getBoundingClientRect(), {grid, seconds, cell} = clip;
  const bin = (at.bottom - event.clientY) / at.height * grid.mels;
  const band = clamp(Math.floor((bin - cell.low) / cell.height), 0, grid.bands - 1);
  return {band, column: columnAt((event.clientX - at.left) / at.width * seconds)};
};
const select = (a, b) => {  // all patches between two
  const span = name => [Math.min(a[name], b[name]), Math.max(a[name], b[name])];
  box = {columns: span('column'), bands: span('band')};
};
const act = name => {
  own.pause();
  trigger('brush', {act: name, ...box});
  if (name === 'clear') box = null;
  look(null);
};
const under = event => {
  if (!bytes) return;
  const at = patchAt(event);
  if (event.type === 'pointerdown') {
    dragged = false;
    began = props.player ? {...at, x: event.clientX, y: event.clientY} : null;
  }
  if (began && Math.hypot(event.clientX - began.x, event.clientY - began.y) > DRAG) {
    area.setPointerCapture(event.pointerId);
    dragged = true;
    select(began, at);
  }
  look(at);
};
area.addEventListener('pointermove', under);
area.addEventListener('pointerdown', under);
for (const type of ['pointerup', 'pointercancel'])
  area.addEventListener(type, () => { began = null; if (dragged) look(null); });
area.addEventListener('pointerleave', e => { if (bytes && e.pointerType === 'mouse' && !began) look(null); });
area.addEventListener('click', () => { dragged ? dragged = false : press(); });
area.addEventListener('keydown', event => {
  if (!bytes) return;
  const {bands, columns} = clip.grid, at = spot || {band: Math.floor(bands / 2), column: -1};
  const step = STEPS[event.key];
  if (step) {
    const next = {
      band: clamp(at.band + step[0], 0, bands - 1), column: clamp(at.column + step[1], 0, columns - 1),
    };
    if (event.shiftKey && props.player) select(began ??= spot || next, next);
    else began = null;
    look(next);
  } else if (event.key === 'Enter') press();
  else if (event.key === 'Escape') box ? act('clear') : look(null);
  else return;
  event.preventDefault();
});
document.addEventListener('keydown', event => {  // on a projector: layer and expert
  const step = STEPS[event.key], {target} = event;
  if (!step || !bytes || !props.player || !element.offsetParent || !document.querySelector('.present') ||
      target.closest('.area, input, textarea, select, audio, [role=tab], [role=option]')) return;
  const {row, expert} = chosen(), next = clip.layers[clamp(row + step[1], 0, clip.layers.length - 1)];
  choose({layer: next.layer, site: next.site, expert: clamp(expert + step[0], 0, clip.shape[0])});
  event.preventDefault();
});
$('brush').replaceChildren(...Object.entries(ACTS).map(([name, text]) =>
  button(text, () => act(name), {title: name === 'clear' ? 'Clear the selection' : '', data: {act: name}})));
scrubber.addEventListener('input', () => {
  const {layer, site} = clip.layers[scrubber.value - 1];
  choose({layer, site});
});
$('views').replaceChildren(...Object.entries(VIEWS).map(([view, [text, title]]) =>
  button(text, () => choose({view}), {title, data: {view}})));
const moved = () => {
  if (!clip) return;
  const at = audio.currentTime;
  $('playhead').hidden = !(at > 0 && at <= clip.seconds);
  place($('playhead'), {left: 100 * at / clip.seconds + '%'});
  $('play').textContent = audio.paused ? '\u25b6\ufe0e Play' : '\u23f8\ufe0e Pause';
  $('play').setAttribute('aria-label', audio.paused ? 'Play' : 'Pause');
  if (bytes) bars(chosen());
};
const run = () => {
  if (audio === own && props.heard && own.currentTime >= props.heard.to) {
    own.pause();
    own.currentTime = 0;  // so that the bars are of the whole clip again
  }
  moved();
  if (!audio.paused) requestAnimationFrame(run);
};
for (const type of ['play', 'pause', 'seeked', 'timeupdate', 'ended'])
  document.addEventListener(type, event => {  // media events do not bubble: they are caught going down
    const {target} = event;
    if (type === 'play' && target !== audio) audio?.pause();
    if (target !== own && !(props.player && target.closest?.(props.player))) return;
    audio = target;
    type === 'play' ? run() : moved();
  }, true);
$('play').addEventListener('click', () => {
  const found = main();
  if (found) found.paused ? found.play() : found.pause();
});
for (const type of ['drop', 'change'])  // gradio would answer a zip with a list of MIME types
  document.addEventListener(type, event => {
    const {target, dataTransfer} = event, files = [...(dataTransfer || target).files || []];
    if (!props.player || !target.closest?.(props.player) || !files.some(({name}) => /\.zip$/i.test(name))) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    trigger('zip');
  }, true);
watch('heard', () => {
  if (!props.heard) return;
  Object.assign(own, {src: props.heard.sound, currentTime: props.heard.from});
  own.play().catch(() => {});  // paused again before it began
});
watch('truth', () => {
  if (!props.truth) return;
  truths[props.truth.key] = props.truth.text;
  draw();
});
watch('clip', open);
watch('signed', unpackSigned);
watch('value', draw);
open();
