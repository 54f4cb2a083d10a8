"""One self-contained HTML page: nothing is fetched, nothing from outside becomes markup or script."""

import base64
import hashlib
import html
import json
import re
from importlib.resources import files

import numpy as np

from udenoise.arrays import Json, as_floats
from udenoise.report.flagged import MEANING, flag_rows, flag_sentence
from udenoise.report.numbers import plain
from udenoise.report.pictures import Moments, anatomy_images, outlines, player
from udenoise.report.series import bin_edges, trace_series
from udenoise.report.sources import Sources, roi_names
from udenoise.report.verdict import verdict

SCRIPTS = ("page.js", "images.js", "flags.js", "traces.js", "plots.js")
FRAME_MEAN_POINTS = 3000
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render(numbers: Json, data: Json) -> str:
    """The page: static words, the data as inert JSON, and two scripts known to the page by their hash."""
    from plotly.offline import get_plotlyjs

    folder = files("udenoise.report") / "web"
    plotly = "\n" + get_plotlyjs() + "\n"
    script = "\n'use strict';\n" + "\n".join((folder / name).read_text("utf-8") for name in SCRIPTS)
    fill = {
        "title": html.escape(_title(numbers)),
        "hashes": f"{_hash(plotly)} {_hash(script)}",
        "style": (folder / "page.css").read_text("utf-8"),
        "verdict": " ".join(html.escape(sentence) for sentence in verdict(numbers)),
        "warnings": _box("About the recording", "warning", numbers["warnings"]),
        "missing": _box("Missing from this report", "note", numbers["missing"]),
        "tables": _tables(numbers),
        "flags": _flags(numbers["flags"], {row["side"] for row in data["flagged"]}),
        "trust": _trust(numbers["trust"]),
        "data": inert(data),
        "plotly": plotly,
        "script": script,
    }
    template = (folder / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fill[match[1]], template)


def page_data(sources: Sources, numbers: Json, moments: Moments, shape: tuple[int, int, int]) -> Json:
    """Everything the page draws."""
    rois = sources.rois
    return {
        "report": {**numbers, "settings": None},
        "shape": list(shape),
        "player": player(moments, shape),
        "anatomy": anatomy_images(sources.anatomy),
        "outlines": outlines(rois) if rois and rois.shape == shape[1:] else None,
        "names": list(roi_names(sources)),
        "noise": _noise_plots(sources.noise),
        "training": sources.training,
        "calibration": sources.calibration,
        "traces": trace_series(sources),
        "flagged": flag_rows(sources),
    }


def inert(data: Json) -> str:
    """JSON that no HTML parser can mistake for markup."""
    text = json.dumps(plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda match: _ESCAPED[match[0]], text)


def _title(numbers: Json) -> str:
    return re.split(r"[\\/]", str(numbers["movie"]["source"]).rstrip("/\\"))[-1]


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode('ascii')}'"


def _box(title: str, kind: str, sentences: list[str]) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f'<section class="box {kind}" aria-label="{title}"><h2>{title}</h2><ul>{items}</ul></section>'


def _trust(trust: Json | None) -> str:
    """Words and tables that need no script."""
    if trust is None:
        return "<p>Without ROIs there is nothing to check here.</p>"
    words = "".join(f"<li>{html.escape(reason)}</li>" for reason in trust["reasons"])
    share = {row["frames"]: _measured(row) for row in trust["activity"]}
    lags = {f"{row['lag']} frames": _measured(row) for row in trust["lags"]}
    tables = (
        _table("Error variance by expected error, in units of the noise's: predicted, measured", share) if share else ""
    )
    tables += _table("Correlation of errors some frames apart: predicted, measured", lags) if lags else ""
    return f'<p><strong>{html.escape(trust["verdict"])}</strong></p><ul>{words}</ul><div class="tables">{tables}</div>'


def _flags(flags: Json | None, kinds: set[str]) -> str:
    """What was found and what it means, in words that need no script."""
    if flags is None:
        return "<p>This run left no flags.csv, so nothing is known of where not to believe it.</p>"
    meaning = "".join(
        f"<dt>{html.escape(kind)}</dt><dd>{html.escape(words)}</dd>" for kind, words in MEANING.items() if kind in kinds
    )
    names = {"rois": "ROIs"}
    tested = [
        f"{count:,} {names.get(name, name)}" for name, count in (flags["tested"] or {}).items() if count is not None
    ]
    notes = [*([f"Tested: {', '.join(tested)}."] if tested else []), *flags["note"]]
    null = (flags["null"] or {}).get("sentence")
    return (
        f"<p><strong>{html.escape(flag_sentence(flags))}.</strong></p>"
        + (f"<dl class=kinds>{meaning}</dl>" if meaning else "")
        + (f"<ul>{''.join(f'<li>{html.escape(str(note))}</li>' for note in notes)}</ul>" if notes else "")
        + (f"<h3>Where nothing happens</h3><p>{html.escape(null)}</p>" if null else "")
        + _wobble(flags["wobble"])
    )


def _wobble(wobble: Json | None) -> str:
    """How much of the small movements is real."""
    if not wobble:
        return ""
    rows = {
        "shown": _cell(wobble.get("shown")),
        "share of it that is real": _with_error(wobble, "real_share", " %"),
        "error as stated": _cell(wobble.get("stated")),
        "error as measured": _with_error(wobble, "measured"),
    }
    words = html.escape(str(wobble.get("sentence") or ""))
    return f"<h3>How much of the wobble is real?</h3><p>{words}</p><div class=tables>{_table('At rest', rows)}</div>"


def _with_error(numbers: Json, name: str, unit: str = "") -> str:
    value, se, many = numbers.get(name), numbers.get(f"{name}_se"), 100 if unit else 1
    return _cell(value) if value is None or se is None else f"{many * value:.3g} ± {many * se:.2g}{unit}"


def _measured(row: Json) -> str:
    return f"{row['predicted']:.3g}, {row['measured']:.3g} ± {row['se']:.1g}"


def _tables(numbers: Json) -> str:
    movie = {
        "movie": numbers["movie"]["source"],
        "ROIs": numbers["rois"] or "none",
        "seed": numbers["seed"],
        "device": numbers["device"],
    }
    groups = {"Run": movie, "Versions": numbers["versions"], "Time in seconds": numbers["timing_s"]}
    settings = numbers["settings"] or {}
    nested = {f"Settings: {name}": value for name, value in settings.items() if isinstance(value, dict)}
    loose = {name: value for name, value in settings.items() if not isinstance(value, dict)}
    return "".join(_table(title, rows) for title, rows in {**groups, **nested, "Settings": loose}.items() if rows)


def _table(title: str, rows: Json) -> str:
    lines = "".join(
        f"<tr><th scope=row>{html.escape(str(name))}</th><td>{html.escape(_cell(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table class=settings><caption>{html.escape(title)}</caption><tbody>{lines}</tbody></table>"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _noise_plots(noise: Json | None) -> Json | None:
    if noise is None:
        return None
    names = ("gain", "intercept", "kernel", "difference_lag1", "bin_mean", "bin_variance", "bad_frames", "breaks")
    return {**{name: noise.get(name) for name in names}, "frame_mean": _thin_line(as_floats(noise.get("frame_mean")))}


def _thin_line(values: np.ndarray) -> Json:
    """Frame numbers and values; least and largest of each bin where there are many."""
    if len(values) <= FRAME_MEAN_POINTS:
        return {"frame": np.arange(len(values)), "value": values}
    edges = bin_edges(len(values), FRAME_MEAN_POINTS)
    low, high = np.fmin.reduceat(values, edges[:-1]), np.fmax.reduceat(values, edges[:-1])
    middle = (edges[:-1] + edges[1:]) // 2
    return {"frame": np.stack([edges[:-1], middle], 1).ravel(), "value": np.stack([low, high], 1).ravel()}
