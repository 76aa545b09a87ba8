"use strict";
// Draws the cards that can be seen, and no others: their height is known, so their places are.
const items = JSON.parse(document.getElementById("data").textContent);
const list = document.getElementById("list"), detail = document.getElementById("detail");
const find = document.getElementById("find"), show = document.getElementById("show"), sort = document.getElementById("sort");
const GAP = 14, NARROW = 520, ROWS_AHEAD = 3;

items.forEach((item, place) => {
  item.place = place;
  const words = [item.name, item.caption, item.status, ...(item.tags || []).map((tag) => tag[0]), ...(item.others || []).map((one) => one[0]),
    ...(item.parts || []).map((part) => part[2]), ...(item.warnings || []), ...(item.error || [])];
  item.text = words.filter(Boolean).join("\n").toLowerCase();
});

let shown = items, current = 0, grid = { columns: 1, width: 0, height: 0, frame: 0 };
const cards = new Map(); // by place in `shown`

const sureness = (item) => item.confidence ?? (item.score === undefined ? undefined : Math.exp(item.score));
const last = (value) => (value === undefined ? Infinity : value);
const ORDERS = {
  file: (a, b) => a.place - b.place,
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  unsure: (a, b) => last(sureness(a)) - last(sureness(b)),
  sure: (a, b) => (sureness(b) ?? -1) - (sureness(a) ?? -1),
  long: (a, b) => (b.duration || 0) - (a.duration || 0),
  words: (a, b) => (b.caption || "").length - (a.caption || "").length,
};
const KINDS = {
  all: () => true,
  captioned: (item) => Boolean(item.caption),
  failed: (item) => !item.caption,
  marked: (item) => Boolean(item.warnings) || item.status === "partial",
  edited: (item) => Boolean(item.edited),
};

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function clock(seconds) {
  const whole = Math.floor(seconds), hours = Math.floor(whole / 3600);
  const rest = `${String(Math.floor((whole % 3600) / 60)).padStart(hours ? 2 : 1, "0")}:${String(whole % 60).padStart(2, "0")}`;
  return hours ? `${hours}:${rest}` : rest;
}

function moment(seconds) {
  return `${clock(seconds)}.${Math.floor(seconds * 10) % 10}`;
}

function sure(item) {
  if (item.confidence !== undefined) return `confidence ${Math.round(100 * item.confidence)}%`;
  return item.score === undefined ? "" : `${item.score.toFixed(2)} log p/token`;
}

function end(item) {
  const ends = [item.duration || 0, ...(item.parts || []).map((part) => part[1] ?? part[0]), ...(item.times || [])];
  return Math.max(...ends, 0.001);
}

function place(element, item, from, to) {
  const whole = end(item);
  element.style.left = `${(100 * from) / whole}%`;
  if (to !== undefined) element.style.width = `${(100 * Math.max(to - from, 0)) / whole}%`;
  return element;
}

function frame(item, className) {
  const box = make("div", `frame ${className}`);
  box.append(make("span", "", item.error ? item.error[0] : "no picture"));
  if (item.poster) {
    const picture = make("img");
    picture.loading = "lazy";
    picture.decoding = "async";
    picture.alt = "";
    picture.src = item.poster;
    box.append(picture);
  }
  return box;
}

function card(at) {
  const item = shown[at], element = make("div", "card"), box = frame(item, ""), said = make("div", "said");
  if (item.parts) {
    const strip = make("div", "strip");
    for (const part of item.parts) strip.append(place(make("i"), item, part[0], part[1] ?? end(item)));
    box.append(strip);
  } else if (item.duration && !item.picture) box.append(make("span", "length", clock(item.duration)));
  const facts = make("div", "facts soft");
  if (sure(item)) facts.append(make("span", "", sure(item)));
  if (item.edited) facts.append(make("span", "", "by hand"));
  if (item.warnings || item.status === "partial") facts.append(make("span", "warn", item.warnings ? item.warnings[0].split(":")[0] : item.status));
  const name = make("div", "name soft"); // cut at its beginning: names of one folder differ at the end
  name.append(make("bdi", "", item.name));
  name.title = item.name;
  const reason = item.error ? `${item.error[0]}: ${item.error[1]}` : "(empty caption)";
  said.append(make("b", item.caption ? "" : "warn", item.caption || reason), name, facts);
  said.firstChild.dir = "auto";
  element.append(box, said);
  element.id = `card-${at}`;
  element.setAttribute("role", "option");
  element.setAttribute("aria-setsize", shown.length);
  element.setAttribute("aria-posinset", at + 1);
  element.addEventListener("click", () => { select(at); open(); });
  return element;
}

function settle(at, element) {
  const column = at % grid.columns, row = Math.floor(at / grid.columns);
  element.style.width = `${grid.width}px`;
  element.style.height = `${grid.height}px`;
  element.style.left = `${column * (grid.width + GAP)}px`;
  element.style.top = `${row * (grid.height + GAP)}px`;
  element.firstChild.style.height = `${grid.frame}px`;
  element.setAttribute("aria-selected", String(at === current));
}

function measure() {
  const room = list.clientWidth, narrow = room < NARROW;
  const columns = narrow ? 1 : Math.max(2, Math.floor((room + GAP) / (250 + GAP)));
  const width = (room - GAP * (columns - 1)) / columns, high = Math.round((width * 9) / 16);
  grid = { columns, width, frame: high, height: narrow ? 128 : high + 134 };
  document.body.classList.toggle("narrow", narrow);
  list.style.height = `${Math.max(Math.ceil(shown.length / columns) * (grid.height + GAP) - GAP, 0)}px`;
}

function draw() {
  const step = grid.height + GAP, above = window.scrollY - list.offsetTop;
  const first = Math.max(0, (Math.floor(above / step) - ROWS_AHEAD) * grid.columns);
  const end = Math.min(shown.length, (Math.ceil((above + window.innerHeight) / step) + ROWS_AHEAD) * grid.columns);
  for (const [at, element] of cards) {
    if (at < first || at >= end) { element.remove(); cards.delete(at); }
  }
  for (let at = first; at < end; at++) {
    let element = cards.get(at);
    if (!element) {
      element = card(at);
      cards.set(at, element);
      list.append(element);
    }
    settle(at, element);
  }
  if (shown.length) list.setAttribute("aria-activedescendant", `card-${current}`);
}

function refresh() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  shown = items.filter((item) => KINDS[show.value](item) && words.every((word) => item.text.includes(word)));
  shown.sort((a, b) => ORDERS[sort.value](a, b) || a.place - b.place);
  document.getElementById("count").textContent = `${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")}`;
  list.replaceChildren();
  cards.clear();
  if (!shown.length) list.append(make("p", "nothing", "Nothing is like that."));
  current = 0;
  measure();
  if (!shown.length) list.style.height = "auto";
  draw();
}

function select(at) {
  if (!shown.length) return;
  current = Math.min(Math.max(at, 0), shown.length - 1);
  const top = list.offsetTop + Math.floor(current / grid.columns) * (grid.height + GAP);
  const head = document.querySelector("header").offsetHeight + GAP;
  if (top < window.scrollY + head) window.scrollTo(0, top - head);
  else if (top + grid.height > window.scrollY + window.innerHeight) window.scrollTo(0, top + grid.height + GAP - window.innerHeight);
  draw();
}

function play(box, item, from) {
  let video = box.querySelector("video");
  if (!video) {
    video = make("video");
    video.controls = true;
    video.preload = "metadata";
    if (item.poster) video.poster = item.poster;
    video.addEventListener("error", () => box.replaceChildren(make("span", "", "This browser cannot play the file, or it is not there.")));
    video.src = item.link;
    box.replaceChildren(video);
  }
  if (from !== undefined) video.currentTime = from;
  video.play().catch(() => {});
}

function facts(item) {
  const found = [item.status, sure(item)];
  if (item.logp !== undefined) found.push(`log p ${item.logp.toFixed(2)} over ${item.tokens} tokens`);
  if (item.duration) found.push(`${item.duration.toFixed(1)} s`);
  if (item.edited) found.push("edited by hand");
  if (item.model) found.push(item.model);
  return found.filter(Boolean).join(" · ");
}

function section(title, rows) {
  const box = make("section"), all = make("ul");
  for (const row of rows) all.append(row);
  box.append(make("h2", "", title), all);
  return box;
}

function open() {
  const item = shown[current];
  if (!item) return;
  const inside = make("div", "inside"), bar = make("div", "bar"), box = frame(item, "big"), name = make("strong", "", item.name);
  name.id = "detail-name";
  const buttons = [["←", "previous", () => turn(-1), current], ["→", "next", () => turn(1), shown.length - 1 - current], ["×", "close", () => detail.close(), 1]];
  bar.append(name, make("span", "soft", `${(current + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`));
  for (const [sign, label, act, left] of buttons) {
    const button = make("button", "", sign);
    button.setAttribute("aria-label", label);
    button.addEventListener("click", act);
    button.disabled = !left;
    bar.append(button);
  }
  if (!item.picture && !item.error) {
    const button = make("button", "play", "▶ play");
    button.addEventListener("click", () => play(box, item));
    box.append(button);
  }
  inside.append(bar, box);
  if (item.parts || item.times) {
    const line = make("div", "timeline");
    for (const part of item.parts || []) {
      const button = place(make("button"), item, part[0], part[1] ?? end(item));
      button.title = `${moment(part[0])} ${part[2]}`;
      button.setAttribute("aria-label", button.title);
      button.addEventListener("click", () => play(box, item, part[0]));
      line.append(button);
    }
    if (!item.parts) for (const time of item.times) line.append(place(make("i"), item, time));
    const what = item.parts ? `${item.parts.length} parts` : "frames that the model saw";
    if (!item.picture) inside.append(line, make("p", "soft", `0:00 to ${moment(end(item))}, ${what}`));
  }
  inside.append(make("p", item.caption ? "caption" : "caption warn", item.caption || (item.error ? `${item.error[0]}: ${item.error[1]}` : "(empty caption)")));
  inside.lastChild.dir = "auto";
  inside.append(make("p", "soft", facts(item)));
  if (item.parts) inside.append(section("Parts", item.parts.map((part) => make("li", "", `${moment(part[0])}–${moment(part[1] ?? end(item))} ${part[2]}${part[3] === null ? "" : ` (${part[3].toFixed(2)} log p/token)`}`))));
  if (item.warnings) inside.append(section("Warnings", item.warnings.map((text) => make("li", "warn", text))));
  if (item.others) inside.append(section("Other captions", item.others.map(([text, p]) => make("li", "", p === null ? text : `${text} (log p ${p.toFixed(2)})`))));
  if (item.tags) inside.append(section("Tags", item.tags.map(([tag, p]) => make("li", "tag", `${tag} ${Math.round(100 * p)}%`))));
  const link = make("a", "", item.name);
  link.href = item.link;
  inside.append(section("File", [make("li")]));
  inside.lastChild.querySelector("li").append(link);
  detail.replaceChildren(inside);
  if (!detail.open) detail.showModal();
  bar.lastChild.focus();
}

function turn(by) {
  const at = current + by;
  if (at < 0 || at >= shown.length) return;
  select(at);
  open();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (detail.open) {
    const by = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
    if (by && event.target.tagName !== "VIDEO") { event.preventDefault(); turn(by); }
    return;
  }
  if (event.target === find) {
    if (event.key === "Escape") { find.value = ""; refresh(); }
    if (event.key === "ArrowDown" || event.key === "Enter" || event.key === "Escape") { event.preventDefault(); list.focus({ preventScroll: true }); }
    return;
  }
  if (event.target.tagName === "SELECT") return;
  const page = Math.max(1, Math.floor(window.innerHeight / (grid.height + GAP)) - 1) * grid.columns;
  const steps = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1, ArrowDown: grid.columns, ArrowUp: -grid.columns, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  if (event.key in steps) { event.preventDefault(); list.focus({ preventScroll: true }); select(current + steps[event.key]); }
  else if (event.key === "Enter") { event.preventDefault(); open(); }
  else if (event.key === "/") { event.preventDefault(); find.focus(); find.select(); }
}

let waiting = false;
window.addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}, { passive: true });
new ResizeObserver(() => { measure(); draw(); }).observe(document.body);
document.addEventListener("keydown", onKey);
detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
detail.addEventListener("close", () => { detail.replaceChildren(); list.focus({ preventScroll: true }); });
find.addEventListener("input", refresh);
show.addEventListener("change", refresh);
sort.addEventListener("change", refresh);
refresh();
