"""The report's page: one HTML file that loads nothing from anywhere.

The style holds for a phone, a wide screen, a dark room and paper. The script
only filters the gallery; without it every row is shown.
"""

import html

from cooper_jax.report import gallery

STYLE = """
:root{--paper:#fcfbf8;--card:#fff;--ink:#23262b;--quiet:#667;--line:#e4e0d7;
--accent:#1f6a8c;--soft:#b9cdd6;--warm:#9c4420;--hit:#2c7a4b;--miss:#b03a3a;
--chip:#f1eee7}
@media (prefers-color-scheme:dark){:root{--paper:#16181b;--card:#1d2024;
--ink:#e4e2dd;--quiet:#9aa0a8;--line:#30343a;--accent:#6db7d8;--soft:#3d5a68;
--warm:#e0906a;--hit:#6cc48d;--miss:#e88080;--chip:#292d33}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;color-scheme:light dark}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 Charter,"Bitstream Charter","Sitka Text",Cambria,Georgia,serif}
main{max-width:1060px;margin:0 auto;padding:28px 18px 60px}
h1{font-size:1.75rem;line-height:1.2;font-weight:600;margin:0 0 .3rem}
h2{font-size:1.3rem;font-weight:600;margin:0 0 .3rem}
h3{font-size:1.02rem;font-weight:600;margin:.15rem 0;line-height:1.35}
section{margin-top:3rem}
.note,.lead{color:var(--quiet);margin:.1rem 0 .9rem;max-width:64ch}
nav{margin:1rem 0 0;font-size:.92rem}
nav a{color:var(--accent);text-decoration:none;margin-right:1.1em;
white-space:nowrap;display:inline-block;padding:.2em 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));
gap:1px;background:var(--line);border:1px solid var(--line);margin:1.4rem 0;
border-radius:8px;overflow:hidden}
.tiles div{background:var(--card);padding:.8rem 1rem}
.tiles b{display:block;font-size:1.65rem;font-weight:600;line-height:1.25;
font-variant-numeric:tabular-nums lining-nums}
.tiles span,.tiles small{display:block;color:var(--quiet);font-size:.85rem}
.claims{padding-left:1.1em;max-width:68ch}
.claims li{margin:.35em 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;
font-size:.9rem;margin:.6rem 0 0}
dt{color:var(--quiet)}dd{margin:0;overflow-wrap:anywhere;min-width:0}
code,.trace{font-family:ui-monospace,"SF Mono",Menlo,Consolas,
"DejaVu Sans Mono",monospace}
code{font-size:.86em}
.charts{display:grid;gap:18px;
grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr))}
.charts figure{margin:0;background:var(--card);border:1px solid var(--line);
border-radius:8px;padding:.6rem .5rem .2rem}
.charts figcaption{display:flex;justify-content:space-between;gap:1em;
padding:0 .5rem;font-size:.92rem}
.charts figcaption b{font-weight:600}
.charts figcaption span{color:var(--quiet);
font-variant-numeric:tabular-nums}
details{margin:.8rem 0}summary{cursor:pointer;color:var(--accent)}
details .charts{margin-top:.8rem}
.stage{font-size:1.05rem;margin:1.6rem 0 .6rem}
svg{display:block;width:100%;height:auto;font:11px system-ui,sans-serif;
font-variant-numeric:tabular-nums}
svg text{fill:var(--quiet)}svg .label{fill:var(--ink);font-size:12px}
.grid{stroke:var(--line);stroke-width:1}
.raw{fill:none;stroke:var(--soft);stroke-width:1}
.mean{fill:none;stroke:var(--accent);stroke-width:2;stroke-linejoin:round}
.dot{fill:var(--accent)}
.whisker{stroke-width:2.5;stroke-linecap:round}
.score.pretrain,.key .pretrain{stroke:var(--quiet);fill:var(--card)}
.point{stroke-width:2}
.score.sft{stroke:var(--warm);fill:var(--card)}
.score.grpo{stroke:var(--accent);fill:var(--accent)}
.mark{stroke:var(--ink);stroke-width:2}
.mark.constant{stroke:var(--quiet);stroke-width:1.5;stroke-dasharray:5 3}
.mark.chance{stroke:var(--quiet);stroke-width:1.5;stroke-dasharray:1.5 3}
.figure{max-width:680px}
.pair{display:grid;gap:0 40px;align-items:start;
grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
.pair>*{min-width:0}
.strip{margin:1.4rem 0}.strip p{margin:.2rem 0}
.strip span{color:var(--quiet);margin-left:1em}.strip b{color:var(--ink)}
.strip b.hit{color:var(--hit)}.strip b.miss{color:var(--miss)}
.strip .note{font-size:.85rem}
.charts figcaption small{display:block;color:var(--quiet);font-weight:400;
font-size:.8rem;line-height:1.3}
.rollouts summary{line-height:1.4}.rollouts table{max-width:none}
.rollouts th .trace{display:block;min-width:34ch;max-width:80ch}
dd a{color:var(--accent)}
.legend,.classes,.scales{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;
font-size:.84rem;color:var(--quiet);margin:.5rem 0 1.2rem}
.legend span,.classes span,.scales span{display:inline-flex;
align-items:center;gap:.4em}
.key{width:16px;height:16px}
.scroll{overflow-x:auto;margin:0 -18px;padding:0 18px}
table{border-collapse:collapse;width:100%;max-width:760px;font-size:.93rem;
font-variant-numeric:tabular-nums lining-nums}
th,td{padding:.38rem .5rem;text-align:right;vertical-align:top;
border-bottom:1px solid var(--line)}
th:first-child{text-align:left;padding-left:0;font-weight:400}
td{white-space:nowrap}
td:last-child,th:last-child{padding-right:0}
thead th,thead th:first-child{color:var(--quiet);font-weight:400;
font-size:.84rem;vertical-align:bottom;line-height:1.25}
td small,th small{display:block;color:var(--quiet);font-size:.76rem;
line-height:1.3;white-space:nowrap}
.wide th small{display:inline;margin-left:.35em}.wide{max-width:none}
th.group{font-weight:600;padding-top:.9rem}
tr.all th,tr.all td{font-weight:600}
tr.all .chance,tr.all .chance+small{font-weight:400}
td b{font-weight:600}
.filters{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center;
position:sticky;top:0;background:var(--paper);padding:.6rem 0;z-index:2;
border-bottom:1px solid var(--line);font-size:.9rem}
.filters[hidden]{display:none}
.filters label{color:var(--quiet)}
select{font:inherit;color:var(--ink);background:var(--card);
border:1px solid var(--line);border-radius:6px;padding:.3rem .4rem}
output{color:var(--quiet);margin-left:auto}
article{background:var(--card);border:1px solid var(--line);
border-radius:10px;padding:1rem;margin:1rem 0}
article[hidden]{display:none}
.tags{display:flex;flex-wrap:wrap;gap:.2rem .9rem;margin:0;font-size:.84rem;
color:var(--quiet)}
.hit{color:var(--hit)}.miss{color:var(--miss)}
.verdict{font-weight:600}
.options{color:var(--quiet);font-size:.9rem}
.maps{display:grid;grid-template-columns:repeat(6,1fr);gap:10px;
margin:.8rem 0 .4rem}
.maps figure{margin:0;min-width:0}
.maps figcaption{font-size:.78rem;color:var(--quiet);margin-top:.15rem}
.pixels{position:relative}
.pixels img{display:block;width:100%;image-rendering:pixelated;
border-radius:4px;background:#888}
i.dot,.at{font:600 10px/15px system-ui,sans-serif;font-style:normal;
text-align:center;width:15px;height:15px;border-radius:50%;color:#fff;
background:#111c;box-shadow:0 0 0 1.5px #fff}
i.dot{position:absolute;transform:translate(-50%,-50%)}
.at{display:inline-block;box-shadow:none;background:var(--accent);
color:var(--card);vertical-align:1px;margin:0 .1em}
.bar{grid-column:2/4;font-size:.74rem;color:var(--quiet)}
.scale{display:block;height:8px;border-radius:2px}
.scales .scale,.classes i{display:inline-block;width:44px;height:11px;
border-radius:2px;flex:none}
.classes i{width:11px}
.scale.none{background:#808080;width:11px!important}
.classes{margin:.2rem 0 .6rem}
.ticks{position:relative;height:1.3em}
.ticks span{position:absolute;transform:translateX(-50%)}
.ticks em{position:absolute;right:0;font-style:normal;background:var(--card);
padding-left:.3em}
.trace{font-size:.82rem;line-height:1.75;margin:.4rem 0;
overflow-wrap:anywhere}
.tag{font-style:normal;background:var(--chip);color:var(--quiet);
border-radius:4px;padding:.08em .35em;white-space:nowrap}
.tag.map{color:var(--accent)}
.tag.answer{color:var(--warm)}
.answers{display:flex;flex-wrap:wrap;gap:.1rem 1.6rem;margin:.5rem 0 0}
.answers span{color:var(--quiet)}.answers b{color:var(--ink)}
.answers b.hit{color:var(--hit)}.answers b.miss{color:var(--miss)}
footer{margin-top:3rem;color:var(--quiet);font-size:.85rem}
@media (max-width:640px){
main{padding:20px 16px 40px}
.tiles{grid-template-columns:1fr 1fr}
.tiles div:last-child:nth-child(odd){grid-column:1/-1}
.tiles div{padding:.65rem .8rem}.tiles b{font-size:1.4rem}
.maps{grid-template-columns:repeat(3,1fr);gap:8px}
.scroll{margin:0 -16px;padding:0 16px}
th,td{padding:.35rem .3rem}table{font-size:.88rem}
.wide{font-size:.8rem}.wide td small,.wide th small{font-size:.68rem}
.wide th,.wide td{padding:.35rem .15rem}.wide th small{display:block;margin:0}
output{margin-left:0}.filters{gap:.35rem .7rem}
.filters label{font-size:0}.filters select{font-size:.85rem}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.45rem}
section{margin-top:2.4rem}}
@media print{
:root{--paper:#fff;--card:#fff;--ink:#000;--quiet:#444;--line:#ccc;
--accent:#1f5a78;--soft:#bbb;--warm:#a0451f;--hit:#1f6a3c;--miss:#a02a2a;
--chip:#eee}
@page{margin:16mm 14mm}
body{font-size:10pt}main{max-width:none;padding:0}
nav,.filters{display:none!important}
.pair{display:block}.figure{max-width:150mm}
.scroll{overflow:visible;margin:0;padding:0}
.charts{grid-template-columns:repeat(3,1fr);gap:8px}
section{margin-top:1.6rem}
.tiles{grid-template-columns:none;grid-auto-flow:column;
grid-auto-columns:1fr}
article,figure,tr,.tiles,.strip,.figure,.note,.scales,li,dl{break-inside:avoid}
h2,h3,.stage,.note,.lead,.legend,.scales,thead,summary,
tr.all:not(:last-child),
tr:has(.group){break-after:avoid}
tr:last-child{break-before:avoid}
thead{display:table-header-group}
article .maps figcaption{font-size:6.5pt;line-height:1.2}
article .classes{margin:.1rem 0 .3rem;font-size:7pt}
.cards{display:grid;grid-template-columns:1fr 1fr;gap:8px}
article{padding:.5rem .6rem;margin:0;min-width:0;font-size:9pt}
.maps{grid-template-columns:repeat(6,1fr);gap:6px}
article .maps{grid-template-columns:repeat(3,1fr);max-width:48mm;
margin:.3rem 0}
article h3{font-size:10pt}
.trace{font-size:7.5pt;line-height:1.5}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""

SCRIPT = """
(function(){var form=document.querySelector('.filters');if(!form)return;
form.hidden=false;
var rows=[].slice.call(document.querySelectorAll('article'));
function apply(){var n=0;rows.forEach(function(row){var ok=
['family','mode','result'].every(function(k){var v=form.elements[k].value;
return !v||row.dataset[k]===v});row.hidden=!ok;if(ok)n++});
document.getElementById('shown').textContent=n+' shown'}
form.addEventListener('change',apply);
form.addEventListener('submit',function(e){e.preventDefault()});apply()})();
"""


def page(*, title, lead, tiles, picture, claims, about, files, sections):
  """The whole document; `sections` are (anchor words, HTML) pairs.

  `picture` is HTML, `files` are paths in the workdir, which are linked to.
  """
  boxes = "".join(
    f"<div><span>{html.escape(name)}</span><b>{html.escape(value)}</b>"
    f"<small>{html.escape(small)}</small></div>"
    for name, value, small in tiles
  )
  points = "".join(f"<li>{html.escape(line)}</li>" for line in claims)
  facts = "".join(
    f"<dt>{html.escape(name)}</dt><dd>{_fact(name, value)}</dd>"
    for name, value in about.items()
  )
  if files:
    links = ", ".join(
      f'<a href="../{html.escape(name, quote=True)}">{html.escape(name)}</a>'
      for name in files
    )
    facts += f"<dt>files</dt><dd>{links}</dd>"
  kept = [(name, body) for name, body in sections if body]
  links = "".join(
    f'<a href="#{name.lower().replace(" ", "-")}">{name}</a>'
    for name, _ in [*kept, ("Run", "")]
  )
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    f"<title>{html.escape(title)}</title>"
    f"<style>{STYLE}{gallery.gradients()}</style></head><body><main>"
    f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(lead)}</p>'
    + (f'<div class="tiles">{boxes}</div>' if boxes else "")
    + picture
    + f'<ul class="claims">{points}</ul><nav>{links}</nav>'
    + "".join(body for _, body in kept)
    + f'<section id="run"><h2>Run</h2><dl>{facts}</dl></section>'
    f"</main><script>{SCRIPT}</script></body></html>\n"
  )


def _fact(name, value):
  text = html.escape(str(value))
  return f"<code>{text}</code>" if name == "command" else text
