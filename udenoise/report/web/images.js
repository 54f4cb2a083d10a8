/* Movie player and anatomy: grey codes decoded to counts, shown through a colour table. */
const SVG = 'http://www.w3.org/2000/svg';
const TABLES = {
  grey: [[0, 0, 0], [255, 255, 255]],
  fire: [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]],
  diverging: [[5, 48, 97], [67, 147, 195], [247, 247, 247], [214, 96, 77], [103, 0, 31]],
};

function colours(name) {
  const anchors = TABLES[name], table = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i++) {
    const at = i / 255 * (anchors.length - 1), k = Math.min(Math.floor(at), anchors.length - 2), part = at - k;
    for (let c = 0; c < 3; c++) table[3 * i + c] = anchors[k][c] * (1 - part) + anchors[k + 1][c] * part;
  }
  return table;
}

async function decode(png) {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const canvas = element('canvas', { width: image.width, height: image.height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const rgba = context.getImageData(0, 0, image.width, image.height).data;
  const codes = new Uint8Array(image.width * image.height);
  for (let i = 0; i < codes.length; i++) codes[i] = rgba[4 * i];
  return { codes, width: image.width, height: image.height };
}

/* One picture with its colour bar; `limits` in counts. */
class Panel {
  constructor(title, table, unit) {
    this.table = colours(table);
    this.unit = unit;
    this.title = element('h3', { textContent: title });
    this.canvas = element('canvas', { className: 'image', role: 'img', 'aria-label': title });
    this.stage = element('div', { className: 'stage' }, this.canvas);
    this.strip = element('canvas', { width: 256, height: 1 });
    this.low = element('span');
    this.high = element('span');
    this.node = element('div', { className: 'panel' }, this.title, this.stage,
      element('div', { className: 'bar' }, this.low, this.strip, this.high));
    const context = this.strip.getContext('2d'), image = context.createImageData(256, 1);
    for (let i = 0; i < 256; i++) image.data.set([...this.table.subarray(3 * i, 3 * i + 3), 255], 4 * i);
    context.putImageData(image, 0, 0);
  }

  show(image, range, limits) {
    Object.assign(this, { image, range });
    Object.assign(this.canvas, { width: image.width, height: image.height });
    const context = this.canvas.getContext('2d'), pixels = context.createImageData(image.width, image.height);
    const lookup = new Uint8Array(256);
    for (let code = 0; code < 256; code++)
      lookup[code] = Math.max(0, Math.min(255, 255 * (this.counts(code) - limits[0]) / (limits[1] - limits[0])));
    for (let i = 0; i < image.codes.length; i++) {
      const colour = 3 * lookup[image.codes[i]];
      pixels.data[4 * i] = this.table[colour];
      pixels.data[4 * i + 1] = this.table[colour + 1];
      pixels.data[4 * i + 2] = this.table[colour + 2];
      pixels.data[4 * i + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
    this.low.textContent = format(limits[0]);
    this.high.textContent = `${format(limits[1])} ${this.unit}`;
  }

  counts(code) { return this.range.low + code / 255 * (this.range.high - this.range.low); }

  at(u, v) {
    if (!this.image) return null;
    const x = Math.min(Math.floor(u * this.image.width), this.image.width - 1);
    const y = Math.min(Math.floor(v * this.image.height), this.image.height - 1);
    return this.counts(this.image.codes[y * this.image.width + x]);
  }
}

function drawing(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/* ROI outlines over a picture; hovering names, clicking chooses. */
function overlay() {
  const svg = drawing('svg', { viewBox: `0 0 ${DATA.shape[2]} ${DATA.shape[1]}`, preserveAspectRatio: 'none', class: 'outlines' });
  (DATA.outlines || []).forEach((d, i) => {
    const path = drawing('path', { d, 'fill-rule': 'evenodd' });
    path.addEventListener('pointermove', event => tip(event, nameOf(i)));
    path.addEventListener('pointerleave', () => { byId('tip').hidden = true; });
    path.addEventListener('click', () => choose(i));
    svg.append(path);
  });
  const mark = roi => [...svg.children].forEach((path, i) => path.classList.toggle('chosen', i === roi));
  listeners.push(mark);
  mark(state.roi);
  return svg;
}

function tip(event, text) {
  const node = byId('tip');
  node.textContent = text;
  node.hidden = false;
  node.style.left = `${event.pageX + 14}px`;
  node.style.top = `${event.pageY + 14}px`;
}

function player() {
  const data = DATA.player, parent = byId('player'), panels = {};
  const names = { raw: ['Raw', 'grey'], denoised: ['Denoised', 'grey'], sd: ['Standard deviation', 'fire'] };
  const row = element('div', { className: 'panels' });
  for (const [name, [title, table]] of Object.entries(names)) {
    if (!data.stacks[name]) continue;
    panels[name] = new Panel(title, table, 'counts');
    row.append(panels[name].node);
  }
  const limits = { counts: [...data.limits], sd: data.stacks.sd ? [...data.stacks.sd.limits] : [0, 1] };
  const images = {}, overlays = [];
  let shown = 0, timer = null, drawing = false;

  async function show() {
    if (drawing) return;
    drawing = true;
    let index;
    do {
      index = shown;
      for (const name of Object.keys(panels)) {
        const stack = data.stacks[name], key = `${name} ${index}`;
        images[key] = images[key] || await decode(stack.png[index]);
        panels[name].show(images[key], stack, name === 'sd' ? limits.sd : limits.counts);
      }
    } while (index !== shown);
    drawing = false;
    const frame = data.frames[index], bad = ((REPORT.noise || {}).bad_frames || []).includes(frame);
    label.textContent = `frame ${frame}${RATE ? ` · ${format(seconds(frame))} s` : ''}${bad ? ' · bad frame' : ''}`;
    slider.value = index;
    slider.setAttribute('aria-valuetext', label.textContent);
  }
  const go = index => { shown = (index + data.frames.length) % data.frames.length; return show(); };
  const stop = () => { clearInterval(timer); timer = null; play.textContent = '▶ Play'; };
  const play = element('button', { type: 'button', textContent: '▶ Play', onclick: () => {
    if (timer) return stop();
    timer = setInterval(() => go(shown + 1), 120);
    play.textContent = '❚❚ Pause';
    return undefined;
  } });
  const slider = element('input', { type: 'range', min: 0, max: data.frames.length - 1, step: 1, value: 0, className: 'time',
    'aria-label': 'Time', oninput: () => { stop(); go(Number(slider.value)); } });
  const label = element('span', { className: 'readout', style: 'margin:0;min-width:11em' });
  const number = (text, kind, side) => element('label', {}, text, element('input', { type: 'number', step: 'any',
    value: Number(limits[kind][side].toPrecision(3)), style: 'width:6.2em', onchange: event => {
      const value = Number(event.target.value);
      if (Number.isFinite(value)) limits[kind][side] = value;
      if (limits[kind][1] <= limits[kind][0]) limits[kind][1] = limits[kind][0] + 1e-6;
      show();
    } }));
  const readout = element('p', { className: 'readout', textContent: 'Move over a picture to read its counts.' });
  const controls = element('div', { className: 'controls' }, play, slider, label);
  const contrast = element('div', { className: 'controls', style: 'margin-top:.8rem' },
    number('dark', 'counts', 0), number('bright', 'counts', 1));
  if (panels.sd) contrast.append(number('sd from', 'sd', 0), number('to', 'sd', 1));
  if (DATA.outlines) contrast.append(element('label', {}, element('input', { type: 'checkbox', onchange: event => {
    if (!overlays.length) Object.values(panels).forEach(panel => { overlays.push(overlay()); panel.stage.append(overlays.at(-1)); });
    overlays.forEach(svg => { svg.style.display = event.target.checked ? '' : 'none'; });
  } }), 'ROI outlines'));
  row.addEventListener('pointermove', event => {
    const stage = event.target.closest('.stage');
    if (!stage) return;
    const box = stage.getBoundingClientRect(), u = (event.clientX - box.left) / box.width, v = (event.clientY - box.top) / box.height;
    const value = name => (panels[name] ? panels[name].at(u, v) : null);
    const where = `row ${Math.floor(v * DATA.shape[1])}, column ${Math.floor(u * DATA.shape[2])}`;
    readout.textContent = `${where}: raw ${format(value('raw'))}` + (panels.denoised ? `, denoised ${format(value('denoised'))}` : '')
      + (panels.sd ? ` ± ${format(value('sd'))} counts` : ' counts');
  });
  parent.append(controls, row, contrast, readout);
  const averaged = data.pixels_per_pixel > 1 ? `each shown pixel averages ${format(data.pixels_per_pixel)} pixels, which by itself `
    + 'makes the raw picture look calmer; the standard deviation is that of one original pixel' : 'at full resolution';
  byId('movie-lead').textContent = `${data.frames.length} of ${DATA.shape[0].toLocaleString('en')} frames, evenly spaced, each a `
    + `single frame (not an average over time), ${averaged}.${panels.denoised ? ' Raw and denoised share their limits.' : ''}`;
  if (!panels.denoised || !panels.sd) absent(parent, 'The posterior of this run is missing or does not fit the movie, so only '
    + `${Object.keys(panels).join(' and ')} can be shown.`);
  return go(0);
}

/* The numbers of the chosen ROI, beside the picture. */
function chosenRoi() {
  const aside = element('aside', { 'aria-live': 'polite' });
  const rows = [['median', 'median F', 'counts'], ['median_sd', 'stated error', 'counts'], ['raw_noise_sd', 'raw noise', 'counts'],
    ['peak_dff', 'peak ΔF/F', ''], ['nu', 'ν of the raw trace', '%/√Hz']];
  const fill = roi => {
    const numbers = REPORT.per_roi[roi];
    if (!numbers) return;
    const body = element('tbody', {}, ...rows.filter(([key]) => Number.isFinite(numbers[key])).map(([key, title, unit]) => element('tr', {},
      element('th', { scope: 'row', textContent: title }), element('td', { textContent: `${format(numbers[key])} ${unit}` }))));
    aside.replaceChildren(element('h3', { textContent: numbers.name }), element('table', { className: 'settings' }, body),
      element('button', { type: 'button', textContent: 'Show its trace', onclick: () => byId('traces').scrollIntoView() }));
  };
  listeners.push(fill);
  fill(state.roi);
  return aside;
}

async function anatomy() {
  const parent = byId('anatomy-viewer'), names = Object.keys(DATA.anatomy);
  const titles = { mean: 'Mean', std: 'Standard deviation', excess: 'Variance above noise', correlation: 'Correlation with neighbours',
    maximum: 'Maximum' };
  const units = { mean: 'counts', std: 'counts', excess: 'counts²', correlation: '', maximum: 'counts' };
  if (!names.length) return absent(parent, 'This run left no summary images (anatomy.zarr).');
  const panel = new Panel('', 'grey', ''), decoded = {};
  async function show(name) {
    decoded[name] = decoded[name] || await decode(DATA.anatomy[name].png[0]);
    panel.unit = units[name];
    panel.title.textContent = titles[name];
    panel.show(decoded[name], DATA.anatomy[name], DATA.anatomy[name].limits);
  }
  const controls = element('div', { className: 'controls' }, segments('Image', names.map(n => [n, titles[n]]), names[0], show));
  const row = element('div', { className: 'anatomy' }, panel.node);
  if (REPORT.per_roi.length) row.append(chosenRoi());
  parent.append(controls, row);
  if (DATA.outlines) {
    const svg = overlay();
    panel.stage.append(svg);
    controls.append(element('label', {}, element('input', { type: 'checkbox', checked: true,
      onchange: event => { svg.style.display = event.target.checked ? '' : 'none'; } }), `${DATA.outlines.length} ROI outlines`));
    parent.append(element('p', { className: 'note-line', textContent: 'An outline follows the pixels that weigh at least a tenth of '
      + 'the ROI’s largest weight. Point at one for its name; click to see its trace.' }));
  } else absent(parent, 'No ROI outlines: the run had no ROIs, or rois.npz is missing.');
  return show(names[0]);
}

attempt('player', player);
attempt('anatomy-viewer', anatomy);
