"""How the page looks, in light and in dark; the same plainness as the gallery of ``mimo eval``."""

STYLE = """
:root {
  color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif;
  --paper: #fff; --panel: #f5f7f9; --ink: #1b1f24; --soft: #57606a; --line: #d5dbe1;
  --latency: #0b62b8; --returned: #b45309; --far: #c21f30; --good: #19692f; --poor: #8a5300; --hot: #f2a65a;
  --band: #0b62b822; --noise: #57606a26;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --panel: #1c2024; --ink: #e8ebee; --soft: #a3adb7; --line: #3a4149;
    --latency: #6cb0ff; --returned: #f0a35e; --far: #ff8f85; --good: #62cf80; --poor: #f0bb62; --hot: #8d4a14;
    --band: #6cb0ff2e; --noise: #a3adb72e;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem 1rem 3rem; max-width: 1280px; background: var(--paper); color: var(--ink); }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .25rem; }
h3 { font-size: 1rem; margin: 0 0 .75rem; }
h1, h2, h3, dd, li, p { overflow-wrap: anywhere; }
p { margin: .25rem 0 .75rem; max-width: 75ch; }
.lead, .axis, small, .soft { color: var(--soft); }
.axis { font-size: .8125rem; margin: 0; }
.verdict { font-size: 1.35rem; line-height: 1.35; margin: 1rem 0; }
.warnings { margin: 1rem 0; padding: .75rem 1rem .75rem 2.1rem; }
.warnings { border-left: 4px solid var(--returned); background: var(--panel); }
.warnings .bad { color: var(--far); font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .6rem 1.5rem; margin: 1rem 0; }
dt { color: var(--soft); font-size: .8125rem; }
dd { margin: 0; font-size: .9375rem; }
details { margin: .5rem 0; }
summary { cursor: pointer; }
.scroll { overflow-x: auto; margin: .75rem 0; max-width: 100%; }
.scroll:focus-visible { outline: 2px solid var(--latency); }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; position: sticky; left: 0; width: max-content; }
caption { max-width: calc(100vw - 2rem); white-space: normal; }
sup { line-height: 0; }
th, td { text-align: right; vertical-align: top; line-height: 1.35; }
th, td { padding: .45rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th:first-child { text-align: left; }
thead th, thead td { vertical-align: bottom; font-weight: 600; white-space: normal; min-width: 4.2rem; line-height: 1.25; }
th[scope=row] {
  position: sticky; left: 0; background: var(--paper); text-align: left; font-weight: normal; white-space: normal;
  min-width: min(15rem, 44vw); max-width: 18rem; overflow-wrap: anywhere; line-height: 1.3;
}
th[scope=row] b, th[scope=row] span, td b, td small, thead small { display: block; }
th[scope=row] span { color: var(--soft); }
td small, thead small { font-size: .8125rem; font-weight: normal; }
.networks th[scope=row] { min-width: min(9.5rem, 38vw); }
.words td { text-align: left; white-space: normal; min-width: 7rem; max-width: 45rem; }
.words td:last-child { min-width: min(20rem, 44vw); }
.words thead th { text-align: left; }
.fate { display: inline-block; white-space: normal; min-width: 7rem; color: var(--poor); }
em { font-style: normal; font-weight: 600; white-space: nowrap; font-size: .8125rem; }
th em { margin-right: .5rem; }
em.good { color: var(--good); }
em.poor { color: var(--poor); }
em.bad { color: var(--far); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 2rem 2.5rem; }
.tiles > * { min-width: 0; }
.rows > figure { border-top: 1px solid var(--line); padding-top: 1rem; margin-top: 1.25rem; }
figure { margin: 0; }
.wide { max-width: 900px; }
.legend { list-style: none; margin: .5rem 0; padding: 0; font-size: .8125rem; }
.legend li { display: flex; align-items: center; gap: .25rem; }
.heat td { background: color-mix(in oklab, var(--hot) var(--heat), var(--panel)); border: 1px solid var(--paper); }
.heat td.none { background: none; color: var(--soft); text-align: center; }
.heat th { min-width: 5rem; }
.heat th[scope=row] { min-width: 0; white-space: nowrap; }
.plot { padding: 18px 14px 22px 58px; }
.bars { padding: 2px 0 0; }
.pairs { display: grid; gap: 1.5rem 2.5rem; margin: 1rem 0; }
.pairs { grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.pairs > * { min-width: 0; max-width: 40rem; }
.pairs h3 { margin: 0 0 .25rem; font-size: .875rem; }
svg { display: block; overflow: visible; }
svg text { font-size: 12.5px; fill: var(--ink); }
svg .tick, svg .soft { fill: var(--soft); }
svg .label { font-weight: 600; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg .label.soft { font-weight: normal; }
.frame { fill: none; stroke: var(--line); }
.grid { stroke: var(--line); }
.join { stroke: var(--soft); stroke-dasharray: 2 4; }
.leader { stroke: var(--soft); }
.one { stroke: var(--ink); }
.median { stroke: var(--latency); stroke-width: 2; }
.mark { stroke-width: 2; }
.mark.measured { fill: var(--latency); stroke: var(--paper); }
.mark.published { fill: var(--paper); stroke: var(--ink); }
.mark.not-latency { fill: var(--paper); stroke: var(--returned); }
.dot { stroke: var(--latency); stroke-width: 5; stroke-linecap: round; opacity: .6; vector-effect: non-scaling-stroke; }
.dot.far { stroke: var(--far); opacity: 1; }
.lane { fill: none; stroke: var(--soft); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.box { fill: var(--band); stroke: var(--latency); }
.interval { fill: var(--band); }
.noise { fill: var(--noise); }
.warm { fill: var(--noise); }
.bar.latency { fill: var(--latency); }
.bar.returned { fill: var(--returned); }
.rest { fill: var(--panel); stroke: var(--line); }
footer { margin-top: 3rem; color: var(--soft); font-size: .875rem; }
@media print { .scroll { overflow: visible; } }
"""
