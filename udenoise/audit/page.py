"""The audit as one HTML page: words, tables and drawings; no script, nothing is fetched."""

import html
import math
import re
from collections.abc import Iterable
from importlib.resources import files
from typing import NamedTuple

from udenoise.arrays import Json
from udenoise.report.verdict import number

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 12, 46
COLOURS = ("#0b6e7f", "#c2571a", "#5d6b7a", "#7a3b8f")
STYLE = """table.figures { width: auto; margin: .4rem 0 1rem; } table.figures caption { text-align: left; font-weight: 600; }
.figures th, .figures td { padding: .25rem .9rem .25rem 0; text-align: right; font-variant-numeric: tabular-nums; }
.figures th:first-child, .figures td:first-child { text-align: left; } .figures tbody tr { border-top: 1px solid var(--line); }
.figures thead th { color: var(--soft); font-weight: 400; } svg.plot { width: 100%; max-width: 560px; height: auto; }
.legend { font-size: .87rem; color: var(--soft); }
.sides { display: flex; flex-wrap: wrap; gap: 1.6rem; align-items: flex-start; }
.sides figure { flex: 1 1 420px; }"""
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title} · udenoise audit</title>
<style>{style}</style></head><body>
<header class="top"><p class="brand">udenoise audit</p><h1>{title}</h1></header><main>"""


class Line(NamedTuple):
    """Points with standard errors; a point that is None is left out."""

    name: str
    x: list[float]
    y: list[float | None]
    se: list[float]


def render(numbers: Json) -> str:
    """The page of `score.json`."""
    style = (files("udenoise.report") / "web" / "page.css").read_text("utf-8") + STYLE
    title = re.split(r"[\\/]", str(numbers["denoised"]["source"]).rstrip("/\\"))[-1]
    words = " ".join(map(html.escape, numbers["verdict"]))
    parts = [
        HEAD.format(title=html.escape(title), style=style),
        f'<section class="box verdict" aria-label="Verdict"><p>{words}</p></section>',
        _warnings(numbers["warnings"]),
        _section(numbers, "Errors", "pixel roi", _errors),
        _section(numbers, "Did it see the frame?", "blindness", _blindness),
        _section(numbers, "Brightness", "brightness", _brightness),
        _section(numbers, "Amplitudes", "amplitude", _amplitude),
        _section(numbers, "Pattern inside cells", "steadiness", _steadiness),
        _section(numbers, "Frequencies", "spectrum", _spectrum),
        _section(numbers, "Stated standard deviation", "coverage", _coverage),
        _section(numbers, "Swallowed and invented events", "events", _events),
        f'<section class="card"><h2>What was compared</h2>{_about(numbers)}</section></main></body></html>',
    ]
    return "\n".join(part for part in parts if part)


def _warnings(sentences: list[str]) -> str:
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f'<section class="box warning"><h2>Before you believe it</h2><ul>{items}</ul></section>' if sentences else ""


def _section(numbers: Json, title: str, names: str, draw) -> str:
    """A card; one sentence where its numbers are withheld, nothing where there are none."""
    keys = names.split()
    reasons = list(dict.fromkeys(numbers["withheld"][name] for name in keys if name in numbers["withheld"]))
    absent = any(numbers[name] is None for name in keys)
    if absent and not reasons:
        return ""
    needs = list(dict.fromkeys(numbers["needs"][name] for name in keys if name in numbers["needs"]))
    words = [f"Not given: it {reason}." for reason in reasons] or [f"This is {need}." for need in needs]
    lead = "".join(f'<p class="lead">{html.escape(word)}</p>' for word in words)
    return f'<section class="card"><h2>{title}</h2>{lead}{"" if absent else draw(numbers)}</section>'


def _lead(text: str) -> str:
    return f'<p class="lead">{text}</p>'


def table(titles: Iterable[str], rows: Iterable[Iterable[str]], caption: str = "") -> str:
    """Cells are text; nothing in them becomes markup."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    named = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f'<table class="figures">{named}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _pm(value: float | None, se: float | None, digits: int = 3) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return number(value, digits) + (f" ± {number(se, 2)}" if se is not None and math.isfinite(se) else "")


def _errors(numbers: Json) -> str:
    roi = "ROIs" if numbers["roi"]["given"] else "tiles of 12 pixels"
    rows = [_error_row(name, numbers[key]) for name, key in (("single pixels", "pixel"), (roi, "roi"))]
    lead = (
        "Mean squared error against the noiseless movie, measured with noise that the program has not seen, in counts². The gain "
        "is the ratio of the input’s noise to the error left, as standard deviations."
    )
    titles = ("", "noise of the recording", "noise of its input", "error left", "gain")
    end = ""
    if numbers["successive"]:
        part = numbers["successive"]
        end = _lead(
            f"Of the error of {roi}, {_pm(part['error']['value'], part['error']['se'])} counts² last from frame to frame (measured "
            f"without a noise model); lag-1 correlation of the residual {_pm(part['correlation'], part['correlation_se'])}, 0 if "
            "only noise is left."
        )
    constant = f"{number(numbers['roi']['constant'])} counts² of the error of {roi} are a mean brightness that is off."
    return _lead(lead) + table(titles, rows) + _lead(constant) + end


def _error_row(name: str, part: Json) -> tuple[str, ...]:
    known = part["gain"] > 0 and part["error"] > 2 * part["error_se"]
    gain = _pm(part["gain"], part["gain_se"]) if known else f"more than {number(part['least_gain'], 2)}"
    return name, number(part["noise"]), number(part["given_noise"]), _pm(part["error"], part["error_se"]), gain


def _blindness(numbers: Json) -> str:
    seen = numbers["blindness"]
    rows = [
        ("residual variance over noise, pixels", _pm(*seen["pixel_residual"].values()), "at least 1"),
        ("residual variance over noise, ROIs at rest", _pm(*seen["roi_residual"].values()), "at least 1"),
        ("leak: share of a pixel’s noise that came through, at least", _pm(*seen["least_leak"].values()), "at most 0"),
        ("… at most", _pm(*seen["largest_leak"].values()), "small"),
    ]
    return table(("", "measured", "if it did not see the frame"), rows)


def _brightness(numbers: Json) -> str:
    rows = numbers["brightness"]
    line = Line("y − D", *([row[name] for row in rows] for name in ("mean", "residual", "se")))
    lead = "Mean of what judges less the denoised movie, by the mean of a pixel: above 0 the denoised movie is too dark there."
    return _lead(lead) + plot([line], "mean of the pixel (counts)", "bias (counts)", zero=0.0)


def _amplitude(numbers: Json) -> str:
    rows = numbers["amplitude"]
    lead = (
        "Slope of the measured change of an ROI on the shown one, by the size of the shown change. 1: true size; above 1: shown "
        "too small; below 1: part of what is shown is not there."
    )
    cells = [
        (row["frames"], f"{row['count']:,}", number(row["shown"]), _pm(row["slope"], row["se"]),
         _pm(row["missing"], row["missing_se"]))
        for row in rows
    ]  # fmt: skip
    titles = ("shown changes", "frames", "size (noise sd)", "slope", "missing in its direction (counts)")
    shown = rows[:-1]
    line = Line(
        "", [row["shown"] for row in shown], [row["slope"] for row in shown], [row["se"] or 0.0 for row in shown]
    )
    drawn = plot([line], "shown change (standard deviations of the noise)", "slope", zero=1.0)
    return _lead(lead) + f'<div class="sides">{table(titles, cells)}{drawn}</div>'


def _steadiness(numbers: Json) -> str:
    part = numbers["steadiness"]
    what = "cells" if numbers["roi"] and numbers["roi"]["given"] else "tiles"
    lead = (
        f"Inside {what}, what changes besides their brightness: is it in the recording as well? What is not real is invented, such "
        "as borders that are drawn anew in every frame."
    )
    rows = [
        ("shown change, relative to the brightness", _pm(part["shown"], None)),
        ("share of it that is real", _pm(part["real_share"], part["real_share_se"])),
        ("error of the pattern (variance, same unit)", _pm(part["error"], part["error_se"])),
    ]
    if part["stated"] is not None and math.isfinite(part["stated"]):
        rows.append(("… as the stated sd of independent pixels allows", _pm(part["stated"], None)))
    return _lead(lead) + table(("", "measured"), rows)


def _spectrum(numbers: Json) -> str:
    rows, hz = numbers["spectrum"], numbers["movie"]["frame_rate_hz"]
    unit = "Hz" if hz else "cycles per frame"
    centre = [math.log10(math.sqrt(row["from_hz"] * row["to_hz"])) for row in rows]
    lines = [
        Line(name, centre, [row[key] for row in rows], [row[f"{key}_se"] for row in rows])
        for name, key in (("error", "error"), ("lost", "lost"), ("invented", "invented"))
    ]
    lead = (
        "Power density of the error of ROI traces by frequency, the known noise taken off. Lost: in the recording, not shown. "
        "Invented: shown, not in the recording. Their sum is the error’s."
    )
    titles = (f"band ({unit})", "shown", "error", "lost", "invented")
    cells = [
        (f"{number(row['from_hz'], 2)} – {number(row['to_hz'], 2)}", number(row["shown"]),
         *(_pm(row[k], row[f"{k}_se"]) for k in ("error", "lost", "invented")))
        for row in rows
    ]  # fmt: skip
    drawn = plot(lines, f"frequency ({unit})", f"counts² per {'Hz' if hz else 'cycle/frame'}", zero=0.0, powers=True)
    return _lead(lead) + f'<div class="sides">{table(titles, cells)}{drawn}</div>'


def _coverage(numbers: Json) -> str:
    part = numbers["coverage"]
    rows = [row for row in part["pixel"] if "ratio" in row]
    levels = list(rows[0]["inside"]) if rows else []
    cells = [
        (row["sd"], number(row["stated_counts"]), number(row["noise_counts"]), _pm(*row["ratio"].values()),
         _pm(*row["z2"].values()), *(f"{100 * row['inside'][level]['value']:.1f} %" for level in levels))
        for row in rows
    ]  # fmt: skip
    titles = (
        "stated sd",
        "stated (counts)",
        "noise (counts)",
        "measured / stated variance",
        "mean z²",
        *(f"in {p} %" for p in levels),
    )
    roi = [
        (name, _pm(*part["roi"][key].values())) for name, key in (("independent", "independent"), ("alike", "alike"))
    ]
    lead = (
        "Measured error variance over the stated one, by stated standard deviation, least first; 1 is true. The intervals are "
        "those that sd and noise predict for what judges: where noise is much larger than sd they say little of sd."
    )
    under = table(("errors of pixels taken as", "measured / stated variance of ROIs"), roi)
    return _lead(lead) + table(titles, cells) + under


def _events(numbers: Json) -> str:
    part = numbers["events"]
    counts = [(kind, f"{part[kind]:,}") for kind in ("swallowed", "invented", "moved")]
    lead = (
        "Places and times at which what judges differs from the denoised movie by more than noise, from one pixel in one frame to "
        f"a soma for 27 frames; at most {100 * part['fdr']:.0f} % of them are chance. All are in events.csv; the strongest:"
    )
    titles = ("kind", "frame", "y", "x", "size (px sd)", "frames", "z", "height", "q")
    rows = [
        (row["kind"], str(row["frame"]), str(row["y"]), str(row["x"]), f"{row['sigma_px']:g}", str(row["frames"]),
         number(row["z"]), number(row["height"]), number(row["q"], 2))
        for row in part["strongest"]
    ]  # fmt: skip
    return _lead(lead) + table(("", "events"), counts) + (table(titles, rows) if rows else "")


def _about(numbers: Json) -> str:
    movie, denoised, noise = numbers["movie"], numbers["denoised"], numbers["noise"]
    rows = [
        ("recording", str(movie["source"])),
        ("frames × rows × columns", f"{movie['frames']} × {movie['rows']} × {movie['columns']}"),
        ("denoised movie", str(denoised["source"])),
        ("frames missing at its ends", ", ".join(map(str, denoised["missing_ends"]))),
        ("its unit", f"{number(denoised['slope'])} · counts + {number(denoised['intercept'])}"),
        ("judged by", "a half with independent noise" if numbers["halved"] else "the raw movie"),
        ("noise over the noise model’s", _pm(noise["level"], noise["level_se"])),
        ("… of ROIs at rest", _pm(noise["roi_check"], noise["roi_check_se"])),
    ]
    return table(("", ""), rows)


def plot(lines: list[Line], x_title: str, y_title: str, zero: float, powers: bool = False) -> str:
    """Points with bars of one standard error on either side, and a line at the value that is right; x may be powers of ten."""
    known = [
        (x, y, s) for line in lines for x, y, s in zip(*line[1:], strict=True) if y is not None and math.isfinite(y)
    ]
    if not known:
        return ""
    xs, lows, highs = [p[0] for p in known], [p[1] - p[2] for p in known], [p[1] + p[2] for p in known]
    x_range, y_range = _padded(min(xs), max(xs)), _padded(min(*lows, zero), max(*highs, zero))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_range[0]) / (x_range[1] - x_range[0])
        up = (y - y_range[0]) / (y_range[1] - y_range[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    marks = [_axis(at, x_range, y_range, zero, powers)]
    for colour, line in zip(COLOURS, lines, strict=False):
        for x, y, s in zip(*line[1:], strict=True):
            if y is not None and math.isfinite(y):
                (px, py), (_, low), (_, high) = at(x, y), at(x, y - s), at(x, y + s)
                marks.append(f'<path d="M{px:.1f} {low:.1f}V{high:.1f}" stroke="{colour}"/>')
                marks.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>')
    turned = f'transform="translate(14 {HEIGHT / 2}) rotate(-90)" text-anchor="middle"'
    names = f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(x_title)}</text>'
    names += f"<text {turned}>{html.escape(y_title)}</text>"
    legend = " · ".join(
        f'<span style="color:{c}">●</span> {html.escape(line.name)}'
        for c, line in zip(COLOURS, lines, strict=False)
        if line.name
    )
    drawn = (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(y_title)} by '
        f'{html.escape(x_title)}" font-size="12" fill="#5d6b7a">{"".join(marks)}{names}</svg>'
    )
    return f'<figure>{drawn}<figcaption class="legend">{legend}</figcaption></figure>'


def _axis(at, x_range: tuple[float, float], y_range: tuple[float, float], zero: float, powers: bool) -> str:
    (left, right), level = (at(x, zero)[0] for x in x_range), at(x_range[0], zero)[1]
    marks = [f'<path d="M{left:.1f} {level:.1f}H{right:.1f}" stroke="#a9b4c0" stroke-dasharray="5 4"/>']
    for x in _ticks(*x_range):
        text, column = number(10**x if powers else x, 2 if powers else 3), at(x, zero)[0]
        marks.append(f'<text x="{column:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{text}</text>')
    for y in _ticks(*y_range):
        row = at(x_range[0], y)[1]
        marks.append(f'<path d="M{left:.1f} {row:.1f}H{right:.1f}" stroke="#e1e6ec"/>')
        marks.append(f'<text x="{LEFT - 8}" y="{row + 4:.1f}" text-anchor="end">{number(y)}</text>')
    return "".join(marks)


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.06 * (high - low) or 0.1 * abs(low) or 1.0
    return low - pad, high + pad


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 6)
    return [round(n * step, 12) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
