"""The report as a page that loads nothing from elsewhere."""

from __future__ import annotations

import html as escaping

import numpy as np

from components.drift import quantities, report
from components.drift.distances import Distance
from components.drift.quantities import present
from components.drift.report import Report

_BINS = 24
_WIDTH, _HEIGHT = 320, 96
# Of a category, the most bars.
_MOST_BARS = 24

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --quiet: #57606a; --line: #d0d7de; --page: #fff;
  --before: #8aa4bf; --after: #c2410c; --moved: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --quiet: #9aa4af; --line: #3a424c; --page: #14171b;
    --before: #5b7a99; --after: #f59e5b; --moved: #ff8a7a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.05rem; margin: 0; }
p { margin: .4rem 0; max-width: 44rem; }
.quiet { color: var(--quiet); font-size: .9rem; }
.moved { color: var(--moved); font-weight: 600; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; font-weight: 600; }
thead th { color: var(--quiet); font-weight: 400; }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
section { border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; min-width: 0; }
svg { display: block; width: 100%; height: auto; margin-top: .5rem; }
svg text { fill: var(--quiet); font-size: 11px; }
.before { fill: var(--before); } .after { fill: var(--after); }
.line { fill: none; stroke: var(--after); stroke-width: 2; }
.axis { stroke: var(--line); }
.key { display: inline-block; margin-right: 1rem; }
.key::before { content: ""; display: inline-block; width: .8rem; height: .8rem;
  border-radius: .15rem; margin-right: .3rem; }
.key.before::before { background: var(--before); } .key.after::before { background: var(--after); }
"""


def html(found: Report) -> str:
    """The page.

    Args:
        found: What a check has found.
    """
    notes = ''.join(f'<p class="quiet">{_escaped(note)}</p>\n' for note in report.notes(found))
    charts = ''.join(_section(name, distance, found) for name, distance in found.distances.items())
    title = f'Drift of {_escaped(found.model)}'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="quiet">{_escaped(found.at)}, version {_escaped(found.version)}</p>
<p{' class="moved"' if found.moved else ''}>{_escaped(report.verdict(found))}</p>
{notes}{_table(found)}
<p class="quiet"><span class="key before">its own data</span> <span class="key after">what it was
asked</span></p>
<div class="charts">
{charts}</div>
</body>
</html>
"""


def _table(found: Report) -> str:
    rows = ''.join(
        f'<tr><td>{_escaped(f"{name} {distance.category}".strip())}</td>'
        f'<td>{report.number(name, distance.before)}</td>'
        f'<td>{report.number(name, distance.after)}</td>'
        f'<td{_class(distance)}>{distance.value:.3f}{" moved" if distance.moved else ""}</td>'
        f'<td>{distance.threshold:g}</td><td>{distance.images:,}</td></tr>\n'
        for name, distance in found.distances.items()
    )
    heads = ('', 'own data', 'asked', 'distance', 'threshold', 'images')
    head = ''.join(f'<th>{each}</th>' for each in heads)
    return (
        f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>\n'
        f'{rows}</tbody></table></div>'
    )


def _section(name: str, distance: Distance, found: Report) -> str:
    before, after = present(found.reference[name]), present(found.requests[name])
    draw = _histogram if name in quantities.NUMERIC else _bars
    return f"""<section>
<h2>{_escaped(name)}</h2>
<p class="quiet">{_escaped(quantities.NAMES[name])}</p>
<p{_class(distance)}>{distance.kind} {distance.value:.3f}, {distance.threshold:g} is allowed</p>
{draw(name, before, after)}
</section>
"""


def _histogram(name: str, before: np.ndarray, after: np.ndarray) -> str:
    """Bars for the reference, and a line of steps for the requests; each has the area 1."""
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    if low == high:
        high = low + 1
    shares = [
        np.histogram(values, _BINS, (low, high))[0] / len(values) for values in (before, after)
    ]
    top = max(each.max() for each in shares)
    step = _WIDTH / _BINS
    heights = [each / top * (_HEIGHT - 4) for each in shares]
    bars = ''.join(
        f'<rect class="before" x="{place * step:.1f}" y="{_HEIGHT - height:.1f}" '
        f'width="{step - 1:.1f}" height="{height:.1f}"/>'
        for place, height in enumerate(heights[0])
    )
    points = ' '.join(
        f'{(place + side) * step:.1f},{_HEIGHT - height:.1f}'
        for place, height in enumerate(heights[1])
        for side in (0, 1)
    )
    return _picture(
        f'Histograms of {name}',
        f'{bars}<polyline class="line" points="{points}"/>'
        f'<text x="0" y="{_HEIGHT + 14}">{low:.3g}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 14}" text-anchor="end">{high:.3g}</text>',
    )


def _bars(name: str, before: np.ndarray, after: np.ndarray) -> str:
    """Two bars for each category; of many, for those that moved most."""
    found = {
        str(each): (float((before == each).mean()), float((after == each).mean()))
        for each in np.unique(np.concatenate([before, after]))
    }
    most = sorted(found, key=lambda each: -abs(found[each][0] - found[each][1]))[:_MOST_BARS]
    shown = [each for each in found if each in most]
    top = max(max(pair) for pair in found.values())
    step = _WIDTH / len(shown)
    drawn = ''
    for place, each in enumerate(shown):
        for side, share in enumerate(found[each]):
            height = share / top * (_HEIGHT - 4)
            drawn += (
                f'<rect class="{("before", "after")[side]}" '
                f'x="{(place + 0.1 + 0.4 * side) * step:.1f}" y="{_HEIGHT - height:.1f}" '
                f'width="{0.4 * step:.1f}" height="{height:.1f}"/>'
            )
        longest = max(3, int(step / 7))
        drawn += (
            f'<text x="{(place + 0.5) * step:.1f}" y="{_HEIGHT + 14}" text-anchor="middle">'
            f'{_escaped(each[:longest])}</text>'
        )
    return _picture(f'Shares of {name}', drawn)


def _picture(label: str, drawn: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 18}" role="img" aria-label="{_escaped(label)}">'
        f'{drawn}<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/></svg>'
    )


def _class(distance: Distance) -> str:
    return ' class="moved"' if distance.moved else ''


def _escaped(text: str) -> str:
    return escaping.escape(text)
