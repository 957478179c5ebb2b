// The live page: pieces that have changed come as server-sent events, with the journal's line as their id.
const main = document.querySelector("main"), root = document.documentElement.style;
let state = JSON.parse(main.dataset.state), heard = Date.now(), over = "";

// Said aloud by a screen reader: changes of state, at most every five seconds, the last one of each kind.
const toSay = new Map();
let saidAt = 0;
function say(kind, words) { toSay.set(kind, words); }
setInterval(() => {
  if (!toSay.size || Date.now() - saidAt < 5000) return;
  $("said").textContent = [...toSay.values()].join(". ");
  toSay.clear();
  saidAt = Date.now();
}, 250);

let lost = false, troubled = false;
function link() {
  const silent = Math.round((Date.now() - heard) / 1000), old = silent > (troubled ? 2 : 10), now = !!over || old;
  $("link").textContent = over || (old ? `no word from fleet watch for ${silent} s: what you see may be old` : "live");
  $("link").classList.toggle("lost", now);
  if (now !== lost) say("link", now ? over || "no word from fleet watch: what you see may be old" : "live again");
  lost = now;
}
setInterval(link, 1000);

// A piece is replaced as a whole, but not under somebody's selection; open and focused things stay so.
const later = new Map();
function put(id, html) {
  const place = $(id), chosen = getSelection();
  if (!chosen.isCollapsed && place.contains(chosen.anchorNode)) { later.set(id, html); return; }
  later.delete(id);
  const open = new Set([...place.querySelectorAll("details[open]")].map((each) => each.dataset.k));
  const focused = place.contains(document.activeElement) && document.activeElement.closest("details");
  const region = place.contains(document.activeElement) && document.activeElement.matches("[tabindex]");
  place.innerHTML = html;
  for (const each of place.querySelectorAll("details")) {
    each.open = open.has(each.dataset.k);
    if (focused && focused.dataset.k === each.dataset.k) each.firstElementChild.focus({ preventScroll: true });
  }
  if (region) place.querySelector("[tabindex]")?.focus({ preventScroll: true });
}
function made(html, kind) {
  const place = document.createElement("template");
  place.innerHTML = html;
  return place.content.querySelector(kind);
}
function mind(row) {
  const active = $("text").value || $("phase").value;
  row.classList.toggle("hidden", !!active && !fits(row));
  row.classList.toggle("found", !!active && fits(row));
}
function bar(wave, index, html) {
  const rows = document.querySelector(`.wave[data-w="${wave}"] .rows`);
  if (!rows) return;
  const before = rows.querySelector(`[data-i="${index}"]`), row = html ? made(html, ".row") : null;
  if (!row) { before?.remove(); return; }
  mind(row);
  if (before) { before.replaceWith(row); return; }
  let next = null; // in the order of the rollout; whoever is new comes near the end
  for (let each = rows.lastElementChild; each && +each.dataset.i > index; each = each.previousElementSibling) next = each;
  rows.insertBefore(row, next);
  const place = rows.closest(".wave");
  if (!place.dataset.begun) { place.dataset.begun = "1"; if (!place.dataset.chosen) place.open = true; }
}
document.addEventListener("click", (event) => {
  const wave = event.target.closest("summary")?.closest(".wave");
  if (wave) wave.dataset.chosen = "1";
});
function line(index, html) {
  const row = made(`<table>${html}</table>`, "tr");
  const before = document.querySelector(`#all tr[data-i="${index}"]`);
  mind(row);
  if (before) before.replaceWith(row);
}
function told(news) {
  root.setProperty("--now", news.now);
  if (news.broken) { over = `the journal cannot be read any more: ${news.broken}`; link(); }
  if (!news.parts) { for (const [id, html] of later) put(id, html); return; }
  for (const [name, html] of Object.entries(news.parts)) put(`p-${name}`, html);
  if (news.nights) {
    $("ticks").dataset.nights = news.nights;
    const open = new Map([...document.querySelectorAll(".wave")].map((each) => [each.dataset.w, each]));
    $("waves").innerHTML = news.waves;
    for (const each of document.querySelectorAll(".wave")) {
      const before = open.get(each.dataset.w);
      if (!before) continue;
      Object.assign(each.dataset, before.dataset);
      if (before.dataset.chosen || before.open) each.open = before.open;
      if (each.classList.contains("brief") && !before.classList.contains("brief")) each.querySelector(".more")?.click();
    }
    if ($("text").value || $("phase").value) sieve();
    look(0, 100);
  } else if (news.parts.down) look(seen.from, seen.from + 100 / seen.zoom);
  for (const [number, html] of news.heads) { const head = document.querySelector(`.wave[data-w="${number}"] > summary`); if (head) head.innerHTML = html; }
  for (const [wave, index, way, words] of news.rows) {
    if (way !== null && wave !== null) bar(wave, index, way);
    if (words !== null) line(index, words);
  }
  changed(news.state);
}
function changed(now) {
  const before = state;
  state = now;
  document.title = `${now.title} · ${document.querySelector("h1").textContent}`;
  if (now.word !== before.word) say("word", now.word);
  if (now.held !== before.held) say("held", now.held || "released");
  if (now.figures.failed !== before.figures.failed) say("failed", `${now.figures.failed} failed`);
  if (now.awaits && JSON.stringify(now.awaits) !== JSON.stringify(before.awaits)) say("awaits", `wave ${now.awaits.wave} of ${now.awaits.target} waits for approval`);
  const left = now.figures.selected - now.figures.verified;
  if (!left && before.figures.verified !== now.figures.verified) say("done", `all ${now.figures.selected} servers verified`);
  buttons();
}

// Orders. A button that has no use now keeps its place and its focus, and says why.
const WORDS = {
  hold: ["Hold", "Nothing more is started. Whoever is wiped is brought to its end, whoever is not wiped yet is put back. Release lets the run go on."],
  release: ["Release", "The run, and every held group, may go on. Failures so far no longer count towards the next hold."],
  drain: ["Drain", "Nothing more is started, everybody in flight is brought to the end, and the process ends. `fleet resume` goes on."],
  approve: ["Approve", ""],
};
function buttons() {
  for (const button of document.querySelectorAll("[data-verb]")) {
    const no = state.no[button.dataset.verb];
    button.setAttribute("aria-disabled", String(!!no));
    button.title = no || "";
  }
}
const ask = $("ask");
let wanted = null;
$("orders")?.addEventListener("click", (event) => {
  const verb = event.target.dataset.verb;
  if (!verb) return;
  const no = state.no[verb];
  $("why").textContent = no || "";
  if (no) { say("why", no); return; }
  const key = sessionStorage.getItem("fleet-key");
  if (!key) { $("answer").textContent = "Only the tab that opened the printed address may steer; this one may look."; return; }
  wanted = { verb, ...(verb === "approve" ? state.awaits : {}) };
  $("ask-title").textContent = `${WORDS[verb][0]} ${document.querySelector("h1").textContent}?`;
  $("ask-text").textContent = verb === "approve"
    ? `The waves after wave ${state.awaits.wave} of ${state.awaits.target} may begin.` : WORDS[verb][1];
  $("give").textContent = WORDS[verb][0];
  $("reason").value = "";
  ask.returnValue = "";
  ask.showModal();
  $("reason").focus();
});
$("cancel").addEventListener("click", () => ask.close(""));
$("reason").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); $("give").click(); }
});
$("reason").addEventListener("input", () => $("reason").setCustomValidity($("reason").value.trim() ? "" : "a reason is needed"));
ask.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const order = { ...wanted, reason: $("reason").value.trim().replace(/\s+/g, " ") };
  ask.close();
  $("answer").className = "";
  $("answer").textContent = `${WORDS[order.verb][0]}: asked…`;
  try {
    const answer = await fetch("/orders", { method: "POST", body: JSON.stringify(order),
      headers: { "Content-Type": "application/json", "X-Fleet-Key": sessionStorage.getItem("fleet-key") } });
    const found = await answer.json();
    $("answer").textContent = answer.ok ? found.words : `Not done: ${found.error}`;
    $("answer").className = answer.ok ? "" : "bad";
  } catch {
    $("answer").textContent = "No answer: it is not known whether the order was carried out. The page shows it if it was.";
    $("answer").className = "bad";
  }
});

root.setProperty("--now", main.dataset.now);
for (const wave of document.querySelectorAll(".wave")) if (wave.querySelector(".row")) wave.dataset.begun = "1";
buttons();
link();
const source = new EventSource(`/events?after=${main.dataset.seq}`);
source.onmessage = (event) => { heard = Date.now(); troubled = false; told(JSON.parse(event.data)); link(); };
source.onerror = () => {
  troubled = true; // it comes back by itself, every half second
  if (source.readyState === EventSource.CLOSED) over = "this `fleet watch` is over, or another one is there: start it again and open its address";
  link();
};
