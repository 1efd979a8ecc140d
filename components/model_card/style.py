"""The style sheet of a card: for a wide screen, a phone, a dark room and paper."""

CSS = """
:root { color-scheme: light dark; --ground: #f5f2ec; --card: #fffdf9; --ink: #1f1c18;
  --soft: #645e55; --line: #e0d9cc; --accent: #b83b08; --second: #3553a8; --heat: 184, 59, 8;
  --good: #23703a; --bad: #a81e1e; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #121417; --card: #1b1e23; --ink: #f0ede7; --soft: #a3a9b1; --line: #343a42;
    --accent: #ff8a4c; --second: #8fa8ff; --heat: 255, 138, 76; --good: #69c483; --bad: #ff8b8b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: clamp(.75rem, 3vw, 2rem);
  background: var(--ground); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 0 0 .6rem; font-size: 1.2rem; }
h3 { margin: 1.2rem 0 .4rem; font-size: 1rem; }
p, ul { margin: .4rem 0; }
ul { padding-left: 1.2rem; }
a { color: var(--accent); }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
section { margin: 1rem 0; padding: clamp(.8rem, 2.5vw, 1.3rem); background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; }
dl { display: grid; grid-template-columns: minmax(6rem, auto) 1fr; gap: .25rem 1rem;
  margin: .4rem 0; }
dt { color: var(--soft); }
dd { margin: 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem;
  margin-top: 1rem; }
.figures b { display: block; font-size: 1.6rem; line-height: 1.2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .2rem .55rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child { text-align: left; }
th { font-weight: 500; }
thead th { white-space: normal; vertical-align: bottom; }
.matrix td { text-align: center; min-width: 2.3rem; border: 1px solid var(--line); }
.matrix th { text-align: center; }
.whiskers { width: 9rem; min-width: 7rem; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.axis { stroke: var(--line); fill: none; }
.first { stroke: var(--accent); fill: none; stroke-width: 2; }
.other { stroke: var(--second); fill: none; stroke-width: 2; }
.bar { fill: var(--accent); opacity: .75; }
.dot-first { fill: var(--accent); }
.dot-other { fill: var(--second); }
.key-first { color: var(--accent); font-weight: 600; }
.key-other { color: var(--second); font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; }
figure { margin: 0; max-width: 24rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr));
  gap: .8rem; }
.pictures img { width: 100%; image-rendering: pixelated; background: #000; border-radius: .3rem; }
pre { margin: .4rem 0; padding: .7rem; background: var(--ground); border-radius: .4rem;
  white-space: pre-wrap; }
code { font-family: ui-monospace, monospace; font-size: .9rem; }
summary { cursor: pointer; color: var(--accent); }
@media print {
  :root { color-scheme: light; --ground: #fff; --card: #fff; --ink: #000; --soft: #444;
    --line: #bbb; --accent: #9c3206; --second: #2a4690; --heat: 184, 59, 8; --good: #145427;
    --bad: #8c1212; }
  body { max-width: none; padding: 0; font-size: 10pt; print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  section { border: 0; padding: 0; }
  figure, tr, dl, .figures { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .wide { overflow: visible; }
}
"""
