/* Where not to believe it: events on the map and along time, each close up, by ROI, and all in a table. */
const FLAGGED = DATA.flagged, FLAGS = REPORT.flags, FIRST = 8;
const COLOURS = new Map([['swallowed', '#d6322f'], ['invented', '#1f78d1'], ['displaced', '#12875a'], ['unconstrained', '#d98a00'], ['unfamiliar', '#8a4fd3'],
  ['assumption broken', '#5b6672']]);
const colourOf = side => COLOURS.get(side) || TEAL;
const ORDER = [...new Set([...COLOURS.keys(), ...FLAGGED.map(row => row.side)])].filter(side => FLAGGED.some(row => row.side === side));
const strength = row => Math.abs(row.score || 0);
const hiddenSides = new Set(), legendChanges = [];

const framesOf = row => (row.frame_stop - row.frame_start === 1 ? `frame ${row.frame_start}`
  : `frames ${row.frame_start} to ${row.frame_stop - 1}`);
function secondsOf(row) {
  if (!RATE) return '';
  const [from, to] = [row.frame_start / RATE, row.frame_stop / RATE];
  return `${from.toFixed(2)} to ${to.toFixed(2)} s`;
}
const middleOf = row => seconds((row.frame_start + row.frame_stop - 1) / 2);
const placeOf = row => (row.y === null || row.x === null ? 'the whole field' : `row ${format(row.y)}, column ${format(row.x)}`);
const chance = (name, value) => (value === 0 ? `${name} < 1e−300` : `${name} ${format(value, 2)}`);
const known = value => value !== null && value !== undefined;
const titleOf = row => (row.kind === 'contradicted' && row.side !== row.kind ? `contradicted: ${row.side}` : row.kind);
const inShort = row => `${titleOf(row)}, ${framesOf(row)}${RATE ? ` (${secondsOf(row)})` : ''}, z ${format(row.score)}`
  + `${row.roi ? `, ROI ${row.roi}` : ''}: ${row.reason}`;

/* Shading and arrow heads for the trace of an ROI. */
function flagMarks(roi, yref) {
  const rows = FLAGGED.filter(row => row.rois.includes(roi));
  const shapes = rows.map(row => ({ type: 'rect', layer: 'below', xref: 'x', yref: `${yref} domain`, y0: 0, y1: 1, opacity: .22,
    x0: seconds(row.frame_start - .5), x1: seconds(row.frame_stop - .5), fillcolor: colourOf(row.side),
    line: { width: 1, color: colourOf(row.side) } }));
  return [shapes, rows.map(row => ({ text: '▼', xref: 'x', x: middleOf(row), yref: `${yref} domain`, y: 1, yanchor: 'top', showarrow: false,
    font: { size: 13, color: colourOf(row.side) }, hovertext: broken(inShort(row)), hoverlabel: { bgcolor: '#fff', font: { size: 12 } } }))];
}

function flagWords(roi) {
  const found = ((FLAGS || {}).rois || []).find(row => row.name === nameOf(roi));
  return found && found.verdict ? `; flags: ${found.verdict}` : '';
}

/* Buttons that hide and show one kind everywhere. */
function flagLegend(parent, changed) {
  const row = element('div', { className: 'controls legend' });
  ORDER.forEach(side => {
    const count = FLAGGED.filter(flag => flag.side === side).length;
    const box = element('input', { type: 'checkbox', checked: true, onchange: () => {
      hiddenSides[box.checked ? 'delete' : 'add'](side);
      changed();
    } });
    row.append(element('label', {}, box, element('i', { style: `background:${colourOf(side)}` }), `${side} (${count.toLocaleString('en')})`));
  });
  parent.append(row);
}

async function flagOverview() {
  const parent = byId('flag-overview');
  if (!FLAGGED.length) return;
  flagLegend(parent, () => legendChanges.forEach(change => change()));
  const row = element('div', { className: 'overview' });
  parent.append(row);
  legendChanges.push(await flagMap(row), flagTimeline(row));
}

async function flagMap(parent) {
  const placed = FLAGGED.filter(row => known(row.y) && known(row.x)), summary = DATA.anatomy.mean, host = element('div', { className: 'map' });
  if (!placed.length) return () => {};
  parent.append(host);
  const [, Y, X] = DATA.shape, panel = new Panel('Over the mean image', 'grey', 'counts');
  host.append(panel.node);
  if (summary) panel.show(await decode(summary.png[0]), summary, summary.limits);
  else {
    panel.canvas.width = X;
    panel.canvas.height = Y;
  }
  const rois = DATA.outlines ? overlay() : null;
  if (rois) {
    rois.classList.add('faint');
    panel.stage.append(rois);
  }
  const most = Math.max(...placed.map(strength), 1e-9), unit = Math.max(Y, X) / 100;
  const ordered = [...placed].sort((a, b) => strength(b) - strength(a));
  const circles = ordered.map(row => {
    const circle = drawing('circle', { cx: row.x + .5, cy: row.y + .5, r: unit * (1.6 + 3.4 * Math.sqrt(strength(row) / most)),
      stroke: colourOf(row.side) });
    circle.addEventListener('pointermove', event => tip(event, inShort(row)));
    circle.addEventListener('pointerleave', () => { byId('tip').hidden = true; });
    circle.addEventListener('click', () => showFlag(row));
    return circle;
  });
  panel.stage.append(drawing('svg', { viewBox: `0 0 ${X} ${Y}`, preserveAspectRatio: 'none', class: 'flags' }, ...circles));
  const rest = FLAGGED.length - placed.length;
  host.append(element('p', { className: 'note-line', textContent: 'The larger the circle, the stronger the flag. Point at one for its reason; '
    + `click to see it close up.${rois ? ' Thin lines: ROIs.' : ''}${rest ? ` ${rest} of the whole field ${rest === 1 ? 'is' : 'are'} not on the map.` : ''}` }));
  return () => circles.forEach((circle, i) => { circle.style.display = hiddenSides.has(ordered[i].side) ? 'none' : ''; });
}

function flagTimeline(parent) {
  const kinds = [...new Set(ORDER.map(side => FLAGGED.find(row => row.side === side).kind))], T = DATA.shape[0];
  const lift = { swallowed: .17, invented: -.17 }, most = Math.max(...FLAGGED.map(strength), 1e-9);
  const shown = () => ORDER.filter(side => !hiddenSides.has(side)).flatMap(side => {
    const rows = FLAGGED.filter(row => row.side === side), y = row => -kinds.indexOf(row.kind) + (lift[side] || 0), color = colourOf(side);
    const line = { type: 'scatter', x: rows.flatMap(row => [seconds(row.frame_start - .5), seconds(row.frame_stop - .5), null]),
      y: rows.flatMap(row => [y(row), y(row), null]), mode: 'lines', line: { color, width: 4 }, hoverinfo: 'skip', opacity: .45 };
    return [line, { type: 'scatter', mode: 'markers', name: side, x: rows.map(middleOf), y: rows.map(y),
      customdata: rows.map(row => FLAGGED.indexOf(row)), text: rows.map(row => broken(inShort(row))),
      hovertemplate: '%{text}<extra></extra>', marker: { color, opacity: .85, line: { color: '#fff', width: 1 },
        size: rows.map(row => 6 + 8 * Math.sqrt(strength(row) / most)) } }];
  });
  const layout = { xaxis: axis(timeTitle, { range: [seconds(-.5), seconds(T - .5)], zeroline: false }), height: 110 + 62 * kinds.length,
    yaxis: axis('', { range: [-kinds.length + .45, .55], tickvals: kinds.map((_, i) => -i), ticktext: kinds.map(kind => safe(kind.replace(' ', '\n'))
      .replace(/\n/g, '<br>')), zeroline: false, fixedrange: true }) };
  const area = plot(parent, shown(), layout, { title: 'Along time', label: 'Flags along time', note: ORDER.some(side => lift[side])
    ? 'In the upper row swallowed events lie above, invented ones below. The larger the dot, the stronger the flag; click one to see it close up.'
    : 'The larger the dot, the stronger the flag; click one to see it close up.' });
  area.on('plotly_click', event => showFlag(FLAGGED[event.points[0].customdata]));
  return () => draw(area, shown(), layout);
}

/* In lines, as Plotly writes them. */
function broken(text) {
  return safe(text.replace(/(.{50,70}?) /g, '$1\n')).replace(/\n/g, '<br>');
}

/* The gallery. */
const articles = [];
let revealAll = () => {};

function showFlag(row) {
  const found = articles.findIndex(article => article.row === row);
  if (found < 0) return byId('flag-table').scrollIntoView();
  if (found >= FIRST) revealAll();
  articles.forEach(({ node }, i) => node.classList.toggle('chosen', i === found));
  return articles[found].node.scrollIntoView({ block: 'center' });
}

async function flagGallery() {
  const parent = byId('flag-gallery'), items = DATA.gallery;
  if (!items.length) return;
  const grid = element('div', { className: 'gallery' });
  const left = FLAGGED.length - items.length;
  parent.append(element('h3', { textContent: left > 0 ? `The ${items.length} strongest close up` : 'Close up' }),
    element('p', { className: 'note-line lead', textContent: items[0].images.residual
      ? 'Pictures are means over the frames of the event; raw and denoised share their limits. The residual, raw less denoised, is '
      + 'smoothed to the event’s size and in standard deviations of what it is in other frames: red where the raw frames are brighter, '
      + 'blue where the denoised ones are. The trace, in counts, is the mean over the outlined region: raw in grey, denoised dark; '
      + 'its 95 % corridor takes the errors of all its pixels to be alike, so it is rather too wide.'
      : 'Pictures are means over the frames of the event, traces over the outlined region. The denoised movie is not in this run.' }), grid);
  items.forEach(item => articles.push({ row: FLAGGED[item.row], item, node: element('article', { className: 'flag' }), drawn: false }));
  grid.append(...articles.map(({ node }) => node));
  articles.slice(FIRST).forEach(({ node }) => { node.hidden = true; });
  if (items.length > FIRST) {
    const more = element('button', { type: 'button', textContent: `Show the other ${items.length - FIRST}`, onclick: () => revealAll() });
    parent.append(more);
    revealAll = () => {
      more.remove();
      articles.forEach(article => { article.node.hidden = false; });
      articles.filter(({ drawn }) => !drawn).forEach(fillFlag);
    };
  }
  await Promise.all(articles.slice(0, FIRST).map(fillFlag));
}

async function fillFlag(article) {
  article.drawn = true;
  const { row, item, node } = article, [y0, y1, x0, x1] = item.box;
  node.style.setProperty('--flag', colourOf(row.side));
  const titles = { raw: ['Raw', 'grey', 'counts'], denoised: ['Denoised', 'grey', 'counts'], sd: ['Error (sd)', 'fire', 'counts'],
    residual: ['Residual', 'diverging', 'sd'] };
  const pictures = element('div', { className: 'pictures' });
  node.append(element('h4', {}, element('i'), titleOf(row)), element('p', { className: 'reason', textContent: row.reason }), pictures);
  for (const [name, [title, table, unit]] of Object.entries(titles)) {
    const image = item.images[name];
    if (!image) continue;
    const panel = new Panel(title, table, unit);
    pictures.append(panel.node);
    panel.show(await decode(image.png[0]), image, image.limits);
    if (item.outline) panel.stage.append(drawing('svg', { viewBox: `0 0 ${x1 - x0} ${y1 - y0}`, preserveAspectRatio: 'none', class: 'footprint' },
      drawing('path', { d: item.outline, class: 'under' }), drawing('path', { d: item.outline })));
  }
  node.append(flagTrace(row, item), facts(row, item));
}

function facts(row, item) {
  const count = row.frame_stop - row.frame_start, parts = [
    framesOf(row) + (item.averaged < count ? ` (${item.averaged} of ${count.toLocaleString('en')} averaged)` : count > 1 ? ` (${count})` : ''),
    secondsOf(row), placeOf(row), row.roi ? `ROI ${row.roi}` : '', `${item.pixels.toLocaleString('en')} pixels`,
    known(row.size) ? `size ${format(row.size)} counts` : '', known(row.dff) ? `ΔF/F ${format(row.dff)}` : '',
    known(row.score) ? `z ${format(row.score)}` : '', known(row.p) ? chance('p', row.p) : '', known(row.q) ? chance('q', row.q) : ''];
  return element('p', { className: 'facts', textContent: parts.filter(Boolean).map(part => part.replace(/ /g, '\u00a0')).join('\u00a0· ') });
}

/* Raw in grey, denoised with its corridor, the event shaded. */
function flagTrace(row, { trace }) {
  const W = 520, H = 150, L = 58, R = 16, B = 24, { frames, raw, denoised, sd, z } = trace;
  const lower = sd ? denoised.map((v, i) => v - z * sd[i]) : [], upper = sd ? denoised.map((v, i) => v + z * sd[i]) : [];
  const all = [...raw, ...(denoised || []), ...lower, ...upper], low = Math.min(...all), high = Math.max(...all), reach = high - low || 1;
  const from = frames[0] - .5, to = frames.at(-1) + .5;
  const x = frame => L + (frame - from) / (to - from) * (W - L - R), y = value => 6 + (high - value) / reach * (H - B - 12);
  const line = values => values.map((value, i) => `${i ? 'L' : 'M'}${x(frames[i]).toFixed(1)} ${y(value).toFixed(1)}`).join('');
  const words = (text, left, top, anchor) => drawing('text', { x: left, y: top, 'text-anchor': anchor }, text);
  const start = x(Math.max(row.frame_start - .5, from)), stop = x(Math.min(row.frame_stop - .5, to));
  const svg = drawing('svg', { viewBox: `0 0 ${W} ${H}`, class: 'trace', role: 'img', 'aria-label': 'Trace around the event' },
    drawing('rect', { x: start, y: 4, width: Math.max(stop - start, 1.5), height: H - B - 6, class: 'span' }),
    drawing('path', { d: `M${L} 4V${H - B}H${W - R}`, class: 'axes' }));
  if (sd) svg.append(drawing('path', { d: `${line(upper)}L${line(lower).slice(1).split('L').reverse().join('L')}Z`, class: 'corridor' }));
  svg.append(drawing('path', { d: line(raw), class: 'raw' }));
  if (denoised) svg.append(drawing('path', { d: line(denoised), class: 'denoised' }));
  niceTicks(low, high, 4).forEach(value => svg.append(words(format(value, 6), L - 6, y(value) + 4, 'end'),
    drawing('path', { d: `M${L - 3} ${y(value)}h3`, class: 'axes' })));
  niceTicks(seconds(from), seconds(to), 6).forEach(value => {
    const at = x(RATE ? value * RATE : value);
    svg.append(words(format(value, 6) + (RATE ? ' s' : ''), at, H - 7, 'middle'), drawing('path', { d: `M${at} ${H - B}v3`, class: 'axes' }));
  });
  return svg;
}

function niceTicks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= rough) || 1, ticks = [];
  for (let tick = Math.ceil(low / step); tick * step <= high; tick++) ticks.push(Number((tick * step).toPrecision(10)));
  return ticks;
}

function flagRois() {
  const parent = byId('flag-rois'), rois = (FLAGS || {}).rois || [];
  if (!rois.length || !FLAGGED.length) return;
  parent.append(element('h3', { textContent: 'By ROI' }));
  const columns = [['name', 'ROI'], ['verdict', 'what to do'], ['flags', 'flags'], ['swallowed', 'swallowed'], ['invented', 'invented'],
    ['unconstrained', 'unconstrained'], ['unfamiliar', 'unfamiliar'],
    ['frames_flagged', 'frames flagged', roi => (known(roi.frames_flagged) ? percent(roi.frames_flagged) : '–')]];
  const rows = sortable(parent, 'Flags of each ROI', columns.filter(([key]) => rois.some(roi => known(roi[key]))), rois, i => {
    const roi = DATA.names.indexOf(rois[i].name);
    if (roi >= 0) choose(roi);
  });
  const mark = chosen => rows.forEach((row, i) => row.classList.toggle('chosen', rois[i].name === nameOf(chosen)));
  listeners.push(mark);
  if (state.roi !== null) mark(state.roi);
}

function flagTable() {
  const parent = byId('flag-table');
  if (!FLAGGED.length) return;
  parent.append(element('h3', { textContent: 'All events' }));
  const columns = [['side', 'kind', titleOf], ['frame_start', 'frames', row => (row.frame_stop - row.frame_start === 1 ? String(row.frame_start)
    : `${row.frame_start}–${row.frame_stop - 1}`)], ['start_s', 'from (s)'], ['y', 'row'], ['x', 'column'], ['roi', 'ROI'], ['size', 'size (counts)'],
  ['dff', 'ΔF/F'], ['score', 'z'], ['q', 'q', row => format(row.q, 2)], ['reason', 'why']];
  const rows = sortable(parent, 'All flags', columns.filter(([key]) => FLAGGED.some(row => known(row[key]) && row[key] !== '')), FLAGGED,
    i => showFlag(FLAGGED[i]));
  rows.forEach((row, i) => row.firstChild.style.setProperty('--flag', colourOf(FLAGGED[i].side)));
  legendChanges.push(() => rows.forEach((row, i) => { row.hidden = hiddenSides.has(FLAGGED[i].side); }));
  const total = FLAGS.events;
  parent.append(element('p', { className: 'note-line', textContent: `${total > FLAGGED.length ? `The ${FLAGGED.length} strongest of `
    + `${total.toLocaleString('en')} events are in this page. ` : ''}All events stand in flags.csv beside this page, and their outlines as labels in `
    + 'flags.zarr (labels/flags): open it in napari over posterior.zarr. Numbers of frames count from 0.' }));
}

attempt('flag-overview', flagOverview);
attempt('flag-gallery', flagGallery);
attempt('flag-rois', flagRois);
attempt('flag-table', flagTable);
