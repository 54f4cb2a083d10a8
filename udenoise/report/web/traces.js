/* Traces with corridors: unpacked when first shown, drawn as the least and largest value of each bin of the visible window. */
const RAW = 0, MEAN = 1, INNER = [2, 3], OUTER = [4, 5], ROWS = 6, TOP = 4094, BINS = 1100, STACK = 8;
const unpacked = new Map();

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function series(position, kind) {
  const key = `${position} ${kind}`;
  if (!unpacked.has(key)) unpacked.set(key, await unpack(DATA.traces.data[position][kind]));
  return unpacked.get(key);
}

async function unpack({ low, high, z }) {
  const bytes = await inflate(z), count = bytes.length / 2, points = count / ROWS, rows = [];
  for (let r = 0; r < ROWS; r++) {
    const row = new Float32Array(points);
    for (let p = 0, code = 0; p < points; p++) {
      const stored = bytes[r * points + p] + 256 * bytes[count + r * points + p];
      code = r === RAW ? stored : (code + stored) & 65535;
      row[p] = code > TOP ? NaN : low + code / TOP * (high - low);
    }
    rows.push(row);
  }
  return rows;
}

/* Frame of each stored point. */
function pointFrames() {
  const { bins, points } = DATA.traces;
  if (!bins) return Float64Array.from({ length: points }, (_, i) => i);
  const frames = new Float64Array(2 * (bins.length - 1));
  for (let b = 0; b + 1 < bins.length; b++) {
    frames[2 * b] = bins[b];
    frames[2 * b + 1] = (bins[b] + bins[b + 1]) / 2;
  }
  return frames;
}

/* Points between two times, thinned to 2 · BINS; `corner(row, bin)` keeps extremes, so no event is lost. */
function visible(rows, frames, from, to, bins) {
  let first = 0, last = frames.length;
  while (first < last && seconds(frames[first]) < from) first++;
  while (last > first && seconds(frames[last - 1]) > to) last--;
  first = Math.max(first - 1, 0);
  last = Math.min(last + 1, frames.length);
  if (last - first <= 2 * bins)
    return { x: Array.from(frames.subarray(first, last), seconds), rows: rows.map(row => Array.from(row.subarray(first, last))) };
  const x = [], kept = rows.map(() => []);
  for (let b = 0; b < bins; b++) {
    const start = first + Math.floor(b * (last - first) / bins), stop = first + Math.floor((b + 1) * (last - first) / bins);
    x.push(seconds(frames[start]), seconds(frames[Math.floor((start + stop) / 2)]));
    rows.forEach((row, r) => {
      let low = Infinity, high = -Infinity;
      for (let p = start; p < stop; p++) {
        if (row[p] < low) low = row[p];
        if (row[p] > high) high = row[p];
      }
      if (low > high) low = high = NaN;
      if (r === INNER[0] || r === OUTER[0]) high = low;
      if (r === INNER[1] || r === OUTER[1]) low = high;
      kept[r].push(low, high);
    });
  }
  return { x, rows: kept };
}

const shorten = name => (name.length > 13 ? `${name.slice(0, 12)}…` : name);

function bands(window, { raw = true, yaxis = 'y', legend = true } = {}) {
  const { inner, outer } = DATA.traces, common = { x: window.x, yaxis, type: 'scatter', mode: 'lines' };
  const edge = { ...common, line: { width: 0 }, hoverinfo: 'skip', showlegend: false };
  const band = ([low, high], colour, level) => [
    { ...edge, y: window.rows[low] },
    { ...edge, y: window.rows[high], fill: 'tonexty', fillcolor: colour, name: `${percent(level)} corridor`, showlegend: legend },
  ];
  const lines = [...band(OUTER, 'rgba(11,110,127,.20)', outer), ...band(INNER, 'rgba(11,110,127,.42)', inner),
    { ...common, y: window.rows[MEAN], name: 'denoised', line: { color: '#063f49', width: 1.2 }, showlegend: legend,
      customdata: window.x.map((_, i) => OUTER.map(r => window.rows[r][i])),
      hovertemplate: `%{x:.6g}: %{y:.4g}<br>${percent(outer)}: %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>` }];
  if (!raw) return lines;
  return [{ ...common, y: window.rows[RAW], name: 'raw', line: { color: GREY, width: 1 }, showlegend: legend }, ...lines];
}

function traceViewer() {
  const parent = byId('trace-viewer'), data = DATA.traces;
  if (!data) return absent(parent, REPORT.rois ? 'The traces of this run (traces.zarr) are missing.'
    : 'This run had no ROIs, so there are no traces: give them with --rois, or to udenoise traces later.');
  if (!data.rois.length) return absent(parent, 'The run’s ROI list is empty.');
  if (typeof DecompressionStream === 'undefined')
    return absent(parent, 'This browser is too old to unpack the traces; '
      + 'a version from 2023 or later can.');
  const frames = pointFrames(), whole = [0, seconds(data.frames - 1)];
  let kind = data.kinds.includes('dff') ? 'dff' : 'counts', stacked = false, showRaw = true, range = [...whole], turn = 0;
  const picker = element('select', { 'aria-label': 'ROI', onchange: () => choose(Number(picker.value)) });
  data.rois.forEach(roi => picker.append(element('option', { value: roi, textContent: nameOf(roi) })));
  const move = step => {
    const by = stacked ? step * STACK : step, at = position() + by;
    choose(data.rois[Math.max(0, Math.min(data.rois.length - 1, at))]);
  };
  const position = () => Math.max(data.rois.indexOf(state.roi), 0);
  const numbers = element('p', { className: 'readout', 'aria-live': 'polite' });
  const area = element('div', { className: 'plot', role: 'img', 'aria-label': 'Trace with corridors' });
  const titles = { counts: 'F (counts)', dff: 'ΔF/F' };
  const button = (text, step) => element('button', { type: 'button', textContent: text, onclick: () => move(step) });
  parent.append(element('div', { className: 'controls' }, button('◀ Previous', -1), picker, button('Next ▶', 1),
    segments('Quantity', data.kinds.map(k => [k, titles[k]]), kind, value => { kind = value; show(); }),
    segments('View', [[false, 'One ROI'], [true, `Stack of ${STACK}`]], stacked, value => { stacked = value; show(); }),
    element('label', {}, element('input', { type: 'checkbox', checked: true,
      onchange: event => { showRaw = event.target.checked; show(); } }), 'raw behind'),
    element('button', { type: 'button', textContent: 'Whole time', onclick: () => { range = [...whole]; show(); } })), numbers, area);

  async function show() {
    const mine = ++turn, first = position();
    const group = stacked ? data.rois.slice(first - first % STACK, first - first % STACK + STACK) : [data.rois[first]];
    const all = await Promise.all(group.map(roi => series(data.rois.indexOf(roi), kind)));
    if (mine !== turn) return;
    const span = range[1] - range[0], bins = stacked ? BINS / 2 : BINS, count = group.length;
    const windows = all.map(rows => visible(rows, frames, range[0] - span / 2, range[1] + span / 2, bins));
    const layout = { xaxis: axis(timeTitle, { range: [...range], zeroline: false }), showlegend: true };
    if (stacked) {
      layout.xaxis.anchor = `y${count === 1 ? '' : count}`;
      layout.margin = { l: 150, r: 16, t: 10, b: 46 };
      group.forEach((roi, i) => { layout[`yaxis${i ? i + 1 : ''}`] = axis('', { domain: [1 - (i + .92) / count, 1 - i / count],
        nticks: 4, automargin: false }); });
      layout.annotations = group.map((roi, i) => ({ text: safe(shorten(nameOf(roi))), x: 0, xref: 'paper',
        xanchor: 'right', xshift: -44, y: 1 - (i + .5) / count, yref: 'paper', showarrow: false }));
      area.style.height = `${Math.max(420, 95 * count + 60)}px`;
    } else {
      layout.yaxis = axis(titles[kind], { uirevision: `${group[0]} ${kind}` });
      area.style.height = '440px';
    }
    const marked = group.map((roi, i) => flagMarks(roi, i ? `y${i + 1}` : 'y'));
    layout.shapes = marked.flatMap(([shapes]) => shapes);
    layout.annotations = [...(layout.annotations || []), ...marked.flatMap(([, annotations]) => annotations)];
    const lines = windows.flatMap((window, i) => bands(window, { raw: showRaw, yaxis: i ? `y${i + 1}` : 'y', legend: i === 0 }));
    await draw(area, lines, { ...layout, height: parseInt(area.style.height, 10) });
    area.dataset.shown = `${group.join(' ')} ${kind}`;
    words(group);
    if (!area.listening) {
      area.on('plotly_relayout', moved);
      area.listening = true;
    }
  }

  function moved(change) {
    if ('xaxis.range[0]' in change) range = [change['xaxis.range[0]'], change['xaxis.range[1]']];
    else if (change['xaxis.range']) range = [...change['xaxis.range']];
    else if (change['xaxis.autorange']) range = [...whole];
    else return;
    show();
  }

  function words(group) {
    picker.value = String(data.rois[position()]);
    if (stacked) {
      numbers.textContent = `ROIs ${data.rois.indexOf(group[0]) + 1} to ${data.rois.indexOf(group.at(-1)) + 1} of ${data.rois.length}; `
        + 'each with its own scale.';
      return;
    }
    const roi = REPORT.per_roi[group[0]];
    numbers.textContent = data.rois.includes(state.roi) ? `${roi.name}: median F ${format(roi.median)} counts, stated error `
      + `±${format(roi.median_sd)} (raw noise ±${format(roi.raw_noise_sd)}) counts, ν ${format(roi.nu)} %/√Hz${flagWords(group[0])}`
      : 'The trace of that ROI is not in this page; see below.';
  }

  const notes = ['Drag to zoom, double-click for the whole. Zoomed out, a drawn point spans several frames and shows their '
    + 'extremes and the outermost edges of the corridor.',
  `Corridors shown: ${percent(data.inner)} and ${percent(data.outer)}, at each frame by itself.`];
  const many = count => count.toLocaleString('en');
  if (data.bins) notes.push(`To keep this page small, ${many(data.frames)} frames are drawn as ${many(data.points)} points per `
    + 'trace: the least and largest value of each bin, and the outermost edge of the corridor.');
  if (data.rois.length < DATA.names.length)
    notes.push(`${data.rois.length} of ${DATA.names.length} ROIs, evenly picked, are in this page.`);
  if (data.bins || data.rois.length < DATA.names.length) notes.push('traces.zarr holds everything.');
  if (DATA.flagged.some(row => row.rois.length)) notes.push('Shaded: flags that touch the ROI; point at their ▼ for the reason.');
  if (!data.kinds.includes('dff')) notes.push('This run has no ΔF/F.');
  parent.append(element('p', { className: 'note-line', textContent: notes.join(' ') }));
  byId('inner-level').textContent = percent(data.inner);
  byId('outer-level').textContent = percent(data.outer);
  resized.observe(area);
  listeners.push(show);
  return show();
}

attempt('trace-viewer', traceViewer);
