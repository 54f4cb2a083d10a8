/* Noise, calibration, training, and the numbers of each ROI. */
function noisePlots() {
  const parent = byId('noise-plots'), noise = DATA.noise;
  if (!noise) return absent(parent, 'This run left no noise.json.');
  transfer(parent, noise);
  kernel(parent, noise);
  return frameMean(parent, noise);
}

function transfer(parent, noise) {
  if (!noise.bin_mean || !noise.bin_mean.length) return absent(parent, 'noise.json holds no photon-transfer points.');
  const low = Math.min(...noise.bin_mean), high = Math.max(...noise.bin_mean);
  const line = [low, high].map(mean => noise.gain * mean + noise.intercept);
  return plot(parent, [
    { x: noise.bin_mean, y: noise.bin_variance, mode: 'markers', type: 'scatter', name: 'groups of pixels',
      marker: { color: TEAL, size: 7, opacity: .75 } },
    { x: [low, high], y: line, mode: 'lines', type: 'scatter', name: 'model', line: { color: '#d9480f', width: 2 } },
  ], { xaxis: axis('mean (counts)'), yaxis: axis('noise variance (counts²)'), showlegend: true }, { title: 'Photon transfer',
    note: `variance = ${format(noise.gain)} · mean ${noise.intercept < 0 ? '−' : '+'} ${format(Math.abs(noise.intercept))}; the slope is the `
      + 'gain: counts per photon, excess noise included.' });
}

function kernel(parent, noise) {
  if (!noise.kernel || !noise.kernel.length) return absent(parent, 'noise.json holds no spatial kernel.');
  const K = noise.kernel.length, half = (K - 1) / 2, offsets = Array.from({ length: K }, (_, i) => i - half);
  const text = noise.kernel.map(row => row.map(value => (K <= 9 ? value.toFixed(2) : '')));
  const lag = noise.difference_lag1;
  const white = Number.isFinite(lag) ? `In time: successive frame differences correlate by ${format(lag)}; −0.5 is noise that `
    + `is independent from frame to frame${Math.abs(lag + .5) < .02 ? ', as here' : ''}.` : '';
  return plot(parent, [{ z: noise.kernel, x: offsets, y: offsets, type: 'heatmap', text, texttemplate: '%{text}', zmin: -1, zmax: 1,
    colorscale: [[0, '#b35806'], [.5, '#ffffff'], [1, TEAL]], hovertemplate: 'dy %{y}, dx %{x}: %{z:.3f}<extra></extra>',
    xgap: 1, ygap: 1 }], { xaxis: axis('columns apart (fast axis)', { dtick: 1, showgrid: false, zeroline: false }),
    yaxis: axis('rows apart', { dtick: 1, autorange: 'reversed', showgrid: false, zeroline: false }) },
  { title: 'Correlation of the noise of neighbouring pixels', note: white });
}

function frameMean(parent, noise) {
  const { frame, value } = noise.frame_mean, x = frame.map(seconds);
  if (!x.length) return absent(parent, 'noise.json holds no mean of each frame.');
  const bad = noise.bad_frames || [], breaks = noise.breaks || [], at = new Map(frame.map((f, i) => [f, value[i]]));
  const mark = frames => ({ x: frames.map(seconds), y: frames.map(f => at.get(f) ?? nearest(frame, value, f)) });
  const edges = [Math.min(...value), Math.max(...value)];
  const traces = [{ x, y: value, type: 'scatter', mode: 'lines', name: 'mean of the frame', line: { color: TEAL, width: 1.2 } }];
  if (bad.length) traces.push({ ...mark(bad), type: 'scatter', mode: 'markers', name: 'bad frame',
    marker: { color: '#d9480f', symbol: 'x', size: 8 } });
  if (breaks.length) traces.push({ x: breaks.flatMap(f => [seconds(f), seconds(f), null]), y: breaks.flatMap(() => [...edges, null]),
    type: 'scatter', mode: 'lines', name: 'new trial', line: { color: '#7048e8', dash: 'dash', width: 1.4 } });
  return plot(parent, traces, { xaxis: axis(timeTitle, { zeroline: false, range: [x[0], x.at(-1)] }), yaxis: axis('counts'), showlegend: true, height: 260 },
    { title: 'Brightness over time', wide: true, note: `${bad.length} bad frame${bad.length === 1 ? '' : 's'}, `
      + `${breaks.length} break${breaks.length === 1 ? '' : 's'} between trials, ${REPORT.noise.bad_rows_count} bad rows.` });
}

function nearest(frames, values, frame) {
  let best = 0;
  frames.forEach((f, i) => { if (Math.abs(f - frame) < Math.abs(frames[best] - frame)) best = i; });
  return values[best];
}

function calibrationPlots() {
  const parent = byId('calibration-plots'), calibration = DATA.calibration;
  if (!calibration) return absent(parent, 'This run left no calibration.json.');
  const roi = calibration.roi;
  if (roi && (roi.predicted || []).length) roiCalibration(parent, roi);
  else absent(parent, 'No calibration per ROI: the run had no ROIs.');
  if (roi && roi.groups) groupCalibration(parent, roi);
  return scaleCalibration(parent, calibration);
}

function roiCalibration(parent, roi) {
  const positive = roi.predicted.concat(roi.measured).filter(value => value > 0);
  const negative = roi.measured.filter(value => !(value > 0)).length;
  const low = Math.min(...positive), high = Math.max(...positive);
  const host = element('div');
  parent.append(host);
  const summary = REPORT.calibration;
  const draws = type => {
    const log = type === 'log', from = log ? low / 1.5 : 0;
    return [[{ x: [from, high * 1.1], y: [from, high * 1.1], mode: 'lines', type: 'scatter', name: 'measured = predicted', hoverinfo: 'skip',
      line: { color: '#d9480f', dash: 'dash', width: 1.6 } },
    { x: roi.predicted, y: roi.measured.map(value => (log && !(value > 0) ? null : value)), type: 'scatter', mode: 'markers', name: 'ROI',
      error_y: { type: 'data', array: roi.measured_se || [], color: 'rgba(11,110,127,.35)', thickness: 1, width: 0 },
      marker: { color: TEAL, size: 6, opacity: .8 }, text: roi.predicted.map((_, i) => safe(nameOf(i))),
      hovertemplate: '%{text}<br>predicted %{x:.4g}<br>measured %{y:.4g}<extra></extra>' }],
    { xaxis: axis('predicted error variance (counts²)', { type }), yaxis: axis('measured (counts²)', { type }),
      showlegend: true, height: 380 }];
  };
  host.append(element('div', { className: 'controls', style: 'margin:0 0 .3rem' }, element('h3', { textContent: 'Each ROI' }),
    segments('Axes', [['linear', 'linear'], ['log', 'log']], 'linear', type => draw(area, ...draws(type)))));
  const within = Number.isFinite(summary.roi_within_2_se)
    ? `${percent(summary.roi_within_2_se)} of ROIs lie within two standard errors of the line. ` : '';
  const area = plot(host, ...draws('linear'), { label: 'Measured against predicted error variance of each ROI',
    note: `Bars: one standard error. ${within}Over all ROIs measured / predicted = ${format(summary.roi_ratio)}. `
      + (Number.isFinite(summary.roi_factor_median) ? 'The corridors use the predicted variance times a factor of each ROI '
      + `(median ${format(summary.roi_factor_median)}), fitted to these points and drawn towards their common value. ` : '')
      + (negative ? `${negative} measured variance${negative === 1 ? ' is' : 's are'} not positive and cannot be shown on log axes.` : '') });
  area.id = 'roi-calibration';
  area.on('plotly_click', event => { if (event.points[0].curveNumber === 1) choose(event.points[0].pointNumber); });
}

function groupCalibration(parent, roi) {
  const { predicted, measured, measured_se: se } = roi.groups, top = Math.max(...predicted, ...measured) * 1.1;
  const names = { always: 'always there', stated: 'stated by the network', change: 'change of the trace', rise: 'rise of the trace',
    activity: 'height above rest' };
  const total = Object.values(roi.causes).reduce((sum, share) => sum + share, 0);
  const shares = Object.entries(roi.causes).filter(([, share]) => share / total > .005)
    .map(([name, share]) => `${names[name] || name} ${percent(share / total)}`);
  return plot(parent, [{ x: [0, top], y: [0, top], mode: 'lines', type: 'scatter', name: 'measured = predicted', hoverinfo: 'skip',
    line: { color: '#d9480f', dash: 'dash', width: 1.6 } },
  { x: predicted, y: measured, type: 'scatter', mode: 'markers', name: 'group of frames', marker: { color: TEAL, size: 8 },
    error_y: { type: 'data', array: se, color: 'rgba(11,110,127,.5)', thickness: 1.2, width: 3 },
    text: ['quietest half', '50 to 80 %', '80 to 90 %', '90 to 97 %', '97 to 99 %', 'last 1 %'],
    hovertemplate: '%{text}<br>predicted %{x:.3g}<br>measured %{y:.3g}<extra></extra>' }],
  { xaxis: axis('predicted error variance / noise variance'), yaxis: axis('measured / noise variance'), showlegend: true, height: 380 },
  { title: 'Frames at rest and in action', note: 'Frames of all ROIs, from the half where the smallest error is expected to the last '
    + 'hundredth, where cells change fastest. Predicted by a fit to the other half of the recording. '
    + `Where the error comes from: ${shares.join(', ')}.`
    + (Number.isFinite(roi.noise_factor) ? ` Noise of the raw traces: ${roi.noise_factor.toFixed(3)} times what the noise model says.`
    + (roi.noise_factor > 1.1 ? ' Motion or flicker from frame to frame counts as noise there.' : '') : '') });
}

function scaleCalibration(parent, calibration) {
  const scales = calibration.scales || [];
  if (!scales.length) return absent(parent, 'calibration.json holds no box scales.');
  const line = (name, label, colour, dash) => ({ x: scales, y: (calibration[name] || []).map(v => (v > 0 ? v : null)),
    type: 'scatter', mode: 'lines+markers', name: label, line: { color: colour, dash, width: 2 }, marker: { size: 7 } });
  const hidden = (calibration.measured || []).filter(v => !(v > 0)).length;
  const factors = [['factor_shared', 'the shared part'], ['factor_pixel', 'the part of each pixel by itself']]
    .filter(([name]) => Number.isFinite(calibration[name])).map(([name, text]) => `${text} × ${format(calibration[name])}`);
  return plot(parent, [line('predicted', 'predicted error', '#d9480f', 'dash'), line('measured', 'measured error', TEAL, 'solid'),
    line('stated', 'predicted, not recalibrated', '#f4a37a', 'dot'),
    line('noise', 'noise of the movie', GREY, 'dot')].filter(trace => trace.y.length),
  { xaxis: axis('side of the square (pixels)', { type: 'log', tickvals: scales }),
    yaxis: axis('variance (counts²)', { type: 'log' }), showlegend: true, height: 380 }, { title: 'Averages over squares',
    note: (factors.length ? `Recalibration without ground truth multiplied the variances: ${factors.join(', ')}. ` : '')
      + (hidden ? `${hidden} measured variance${hidden === 1 ? ' is' : 's are'} not positive and cannot be shown.` : '') });
}

function trainingPlot() {
  const parent = byId('training-plot'), training = DATA.training;
  if (!training || !(training.steps || []).length) return absent(parent, 'This run left no training curve (denoiser/training.json).');
  const validation = training.validation_steps || [], best = validation.indexOf(training.best_step);
  const traces = [{ x: training.steps, y: training.loss, type: 'scatter', mode: 'lines', name: 'training', line: { color: GREY, width: 1.2 } }];
  if (validation.length) traces.push({ x: validation, y: training.validation_loss, type: 'scatter', mode: 'lines+markers',
    name: 'validation (held-out blocks of time)', line: { color: TEAL, width: 2 }, marker: { size: 6 } });
  if (best >= 0) traces.push({ x: [training.best_step], y: [training.validation_loss[best]], type: 'scatter',
    mode: 'markers', name: 'kept', marker: { color: '#d9480f', size: 12, symbol: 'star' } });
  const finite = (training.loss || []).filter(Number.isFinite).sort((a, b) => a - b);
  const later = training.loss.slice(Math.floor(training.loss.length / 20)).concat(training.validation_loss || []).filter(Number.isFinite);
  const low = Math.min(...later), high = Math.max(...later), pad = .05 * (high - low || 1);
  const cut = finite.at(-1) > high + pad;
  return plot(parent, traces, { xaxis: axis('step'), yaxis: axis('loss', { range: [low - pad, high + pad] }), showlegend: true },
    { label: 'Training curve', note: `Composite Gaussian likelihood, lower is better. Kept: step ${format(training.best_step, 9)}`
      + `${Number.isFinite(training.seconds) ? `; training took ${format(training.seconds / 60)} min` : ''}.`
      + (cut ? ' The first steps lie above the figure.' : '') });
}

const COLUMNS = [['name', 'ROI'], ['nu', 'ν raw (%/√Hz)'], ['median', 'median F (counts)'], ['raw_noise_sd', 'raw noise sd (counts)'],
  ['median_sd', 'stated sd (counts)'], ['peak_dff', 'peak ΔF/F'], ['predicted', 'predicted var.'], ['measured', 'measured var.'],
  ['factor', 'factor']];

function roiNumbers() {
  const parent = byId('roi-numbers'), rois = REPORT.per_roi;
  if (!rois.length) return absent(parent, 'No ROIs, no noise level per ROI.');
  const order = rois.map((_, i) => i).filter(i => Number.isFinite(rois[i].nu)).sort((a, b) => rois[a].nu - rois[b].nu);
  if (order.length) {
    const area = plot(parent, [{ x: order.map((_, i) => i + 1), y: order.map(i => rois[i].nu), type: 'bar', marker: { color: TEAL },
      text: order.map(i => safe(nameOf(i))), textposition: 'none', hovertemplate: '%{text}: %{y:.3g} %/√Hz<extra></extra>' }],
    { xaxis: axis('ROI, in order of ν'), yaxis: axis('ν (%/√Hz)'), height: 260, bargap: order.length > 60 ? 0 : .2 }, { label: 'Noise level of each ROI',
      note: 'ν = median |change of ΔF/F from frame to frame| / √frame rate, of the raw traces without neuropil subtraction; on denoised '
        + 'traces it means nothing. About 1 is a quiet recording, 8 a noisy one.' });
    area.on('plotly_click', event => choose(order[event.points[0].pointNumber]));
  } else absent(parent, RATE ? 'This run left no ν.' : 'ν needs a frame rate; give it with --frame-rate-hz.');
  return table(parent, rois);
}

function table(parent, rois) {
  const columns = COLUMNS.filter(([key]) => rois.some(roi => roi[key] !== null && roi[key] !== undefined));
  const rows = sortable(parent, 'Numbers of each ROI', columns, rois, choose);
  const mark = chosen => rows.forEach((row, i) => row.classList.toggle('chosen', i === chosen));
  listeners.push(mark);
  mark(state.roi);
}

attempt('noise-plots', noisePlots);
attempt('calibration-plots', calibrationPlots);
attempt('training-plot', trainingPlot);
attempt('roi-numbers', roiNumbers);
document.body.dataset.ready = 'true';
