// What the report and the live page share: the filter, the time axis, and looking at one wave's time only.
const $ = (id) => document.getElementById(id);
const settled = new Set(["verified", "failed", "skipped", "waiting"]);

function fits(row) {
  const wanted = $("phase").value, here = row.dataset.p;
  return row.dataset.n.toLowerCase().includes($("text").value.toLowerCase()) &&
    (!wanted || here === wanted || (wanted === "flying" && !settled.has(here)));
}
function sieve() {
  const active = $("text").value || $("phase").value;
  let count = 0;
  for (const row of document.querySelectorAll("[data-n]")) {
    const good = fits(row);
    row.classList.toggle("hidden", !good);
    row.classList.toggle("found", !!active && good);
    if (good && row.tagName === "TR") count++;
  }
  if (active) for (const wave of document.querySelectorAll(".wave")) wave.open = !!wave.querySelector(".row:not(.hidden)");
  $("shown").textContent = active ? `${count} servers` : "";
}
$("text").addEventListener("input", sieve);
$("phase").addEventListener("change", sieve);

// Ticks: round times of day, as close as there is room. A night is a piece of the axis with its own scale.
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440];
let seen = { from: 0, zoom: 1 };
function ticks(paper) {
  const place = $("ticks").children[1], nights = JSON.parse($("ticks").dataset.nights), width = paper || place.clientWidth || 700;
  place.replaceChildren();
  let free = -1;
  const brief = width < 300; // on a phone the day would leave no room for another time; it is told above
  const put = (left, text) => {
    const x = (left - seen.from) * seen.zoom * width / 100;
    if (x < 0 || x < free || x + text.length * 6 > width) return;
    const mark = document.createElement("span");
    mark.style.setProperty("--l", left);
    mark.textContent = text;
    place.append(mark);
    free = x + 8 + text.length * 7;
  };
  for (const night of nights) {
    const minutes = (night.end - night.begin) / 60, pixels = night.width * seen.zoom * width / 100;
    const step = 60 * (STEPS.find((each) => each * pixels / Math.max(minutes, .01) >= 60) || 1440);
    const at = (s) => night.left + night.width * (s - night.begin) / Math.max(1, night.end - night.begin);
    const iso = (s) => new Date(s * 1000).toISOString();
    let day = iso(night.begin).slice(0, 10);
    const first = Math.max(night.begin, night.begin + (seen.from - night.left) / Math.max(night.width, 1e-9) * (night.end - night.begin));
    put(at(Math.ceil(first)), iso(first).slice(brief ? 11 : 0, 16).replace("T", " "));
    for (let s = Math.ceil(first / step) * step; s <= night.end; s += step) {
      const now = iso(s);
      put(at(s), now.slice(0, 10) === day ? now.slice(11, 16) : now.slice(0, 16).replace("T", " "));
      day = now.slice(0, 10);
      if ((at(s) - seen.from) * seen.zoom > 100) break;
    }
  }
}
function look(from, to) {
  seen = { from, zoom: 100 / Math.max(to - from, .05) };
  document.documentElement.style.setProperty("--from", seen.from);
  document.documentElement.style.setProperty("--zoom", seen.zoom);
  for (const svg of document.querySelectorAll(".chart svg")) svg.setAttribute("viewBox", `${from * 10} 0 ${Math.max(to - from, .05) * 10} 160`);
  $("whole").classList.toggle("hidden", seen.zoom === 1);
  ticks();
}
$("whole").addEventListener("click", () => { look(0, 100); $("text").focus(); });
document.addEventListener("click", (event) => {
  const wave = event.target.closest(".wave");
  if (wave && event.target.matches(".zoom")) {
    let from = 100, to = 0;
    const now = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--now"));
    for (const bar of wave.querySelectorAll(".row i")) {
      const left = parseFloat(bar.style.getPropertyValue("--l")), wide = parseFloat(bar.style.getPropertyValue("--w"));
      from = Math.min(from, left);
      to = Math.max(to, bar.classList.contains("open") ? now : left + wide);
    }
    if (to > from) look(Math.max(0, from - (to - from) / 50), Math.min(100, to + (to - from) / 50));
  } else if (wave && event.target.matches(".more")) {
    const brief = wave.classList.toggle("brief");
    event.target.textContent = brief ? "show those verified too" : "hide those verified";
  }
});
// A bar's words are in the table below; whoever points at a row sees them there and then.
document.addEventListener("pointerover", (event) => {
  const row = event.target.closest && event.target.closest(".row");
  const line = row && document.querySelector(`#all tr[data-i="${row.dataset.i}"]`);
  if (line) row.title = `${row.dataset.n}: ${line.lastElementChild.textContent}`;
});
addEventListener("resize", () => ticks());
addEventListener("beforeprint", () => ticks(400)); // as wide as upright paper leaves it
addEventListener("afterprint", () => ticks());
ticks();
