/* Shared by all parts of the page. Words from outside reach the page only as text, never as markup. */
const DATA = JSON.parse(document.getElementById('data').textContent);
const REPORT = DATA.report;
const RATE = REPORT.movie.frame_rate_hz;
const TEAL = '#0b6e7f';
const GREY = '#b9c2cc';
const listeners = [];
const state = { roi: DATA.traces && DATA.traces.rois.length ? DATA.traces.rois[0] : null };

const byId = id => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== 'list') node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/* Plotly reads a little markup in texts: take its meaning away. */
const safe = text => String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

function format(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(digits - 1).replace(/-/g, '−');
  const whole = size >= 1 ? Math.ceil(Math.log10(size + 1)) : 1;
  const rounded = Number(value.toPrecision(Math.max(digits, whole)));
  return rounded.toLocaleString('en', { maximumFractionDigits: 6 }).replace(/-/g, '−');
}

const percent = fraction => `${format(100 * fraction)} %`;
const seconds = frame => (RATE ? frame / RATE : frame);
const timeTitle = RATE ? 'time (s)' : 'frame';

const nameOf = roi => DATA.names[roi] ?? `ROI ${roi}`;

function absent(parent, sentence) {
  parent.append(element('p', { className: 'absent', textContent: sentence }));
}

/* One part that fails must not take the others with it. */
async function attempt(id, part) {
  try {
    await part();
  } catch (error) {
    console.error(error);
    absent(byId(id), 'This part could not be drawn: a file of the run holds something unexpected.');
  }
}

function choose(roi) {
  if (roi === null || roi === state.roi) return;
  state.roi = roi;
  listeners.forEach(listener => listener(roi));
}

/* Buttons of which one is pressed. */
function segments(label, options, chosen, pick) {
  const group = element('div', { className: 'segments', role: 'group', 'aria-label': label });
  options.forEach(([value, text]) => {
    const button = element('button', { type: 'button', textContent: text, onclick: () => {
      group.querySelectorAll('button').forEach(other => other.setAttribute('aria-pressed', String(other === button)));
      pick(value);
    } });
    button.setAttribute('aria-pressed', String(value === chosen));
    group.append(button);
  });
  return group;
}

const axis = (title, more = {}) => ({ title: { text: title, standoff: 8 }, gridcolor: '#edf0f3', zerolinecolor: '#d5dbe2',
  linecolor: '#c6ced7', automargin: true, ...more });

const resized = new ResizeObserver(entries => entries.forEach(({ target }) => target.layout && Plotly.Plots.resize(target)));

function plot(parent, traces, layout, { wide = false, title = null, note = null, label = '' } = {}) {
  const box = element('figure', { className: wide ? 'wide' : '' });
  if (title) box.append(element('h3', { textContent: title }));
  const area = element('div', { className: 'plot', style: `height:${layout.height || 340}px`, role: 'img', 'aria-label': label || title || 'figure' });
  box.append(area);
  if (note) box.append(element('p', { className: 'note-line', textContent: note }));
  parent.append(box);
  draw(area, traces, layout);
  resized.observe(area);
  return area;
}

function draw(area, traces, layout) {
  const base = { margin: { l: 60, r: 16, t: 10, b: 46 }, paper_bgcolor: '#fff', plot_bgcolor: '#fff',
    hovermode: 'closest',
    font: { family: 'system-ui, sans-serif', size: 12.5, color: '#1c2733' }, showlegend: false,
    legend: { orientation: 'h', x: 0, y: 1.02, yanchor: 'bottom' }, autosize: true };
  return Plotly.react(area, traces, { ...base, ...layout }, { responsive: true, displaylogo: false,
    modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'] });
}

/* A table whose heads sort it: numbers from the largest, words from A. Columns: [key, title, text of a cell]; returns its rows. */
function sortable(parent, label, columns, items, pick = null) {
  const body = element('tbody'), wordy = key => items.some(item => typeof item[key] === 'string');
  const rows = items.map((item, i) => element('tr', pick ? { onclick: () => pick(i) } : {}, ...columns.map(([key, , text], c) => {
    const words = text ? text(item) : typeof item[key] === 'string' ? item[key] : format(item[key]);
    return c || !pick ? element('td', { textContent: words, title: words, className: wordy(key) ? 'words' : '' })
      : element('td', { title: words }, element('button', { type: 'button', textContent: words }));
  })));
  let sorted = null, down = false;
  const sort = (key, words) => {
    down = sorted === key ? !down : !words;
    sorted = key;
    const sign = down ? -1 : 1, value = i => items[i][key] ?? (words ? '' : -Infinity);
    const indices = items.map((_, i) => i).sort((a, b) => sign * (words
      ? String(value(a)).localeCompare(String(value(b)), 'en', { numeric: true }) : value(a) - value(b) || 0));
    body.append(...indices.map(i => rows[i]));
    heads.forEach(([head, name]) => head.setAttribute('aria-sort', name === key ? (down ? 'descending' : 'ascending') : 'none'));
  };
  const heads = columns.map(([key, title]) => [element('th', { scope: 'col', className: wordy(key) ? 'words' : '' },
    element('button', { type: 'button', textContent: title, onclick: () => sort(key, wordy(key)) })), key]);
  body.append(...rows);
  parent.append(element('div', { className: 'scroll', tabIndex: 0, role: 'region', 'aria-label': label },
    element('table', {}, element('thead', {}, element('tr', {}, ...heads.map(([head]) => head))), body)));
  return rows;
}

function tiles() {
  const error = REPORT.pixel_error || {}, traces = REPORT.traces || {}, noise = REPORT.noise || {};
  const calibration = REPORT.calibration || {};
  const shown = [
    [noise.photons, '', 'photons per pixel and frame'],
    [error.ratio, '×', 'less error in a pixel (stated)'],
    [traces.ratio_median, '×', 'less error in an ROI trace (stated)'],
    [calibration.roi_ratio, '', 'measured / predicted error variance'],
    [traces.nu_median, '', 'ν of raw traces, %/√Hz'],
  ];
  shown.filter(([value]) => Number.isFinite(value)).forEach(([value, unit, text]) => byId('tiles').append(
    element('div', { className: 'tile' }, element('b', { textContent: format(value) + unit }),
      element('span', { textContent: text }))));
}

attempt('tiles', tiles);
