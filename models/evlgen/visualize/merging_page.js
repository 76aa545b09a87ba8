// Draws merging: frames on canvases, groups by mean colour; a soft prompt lights its patches, a word what it looks at.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (name) => document.getElementById(name);
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const layers = Math.max(...data.panels.map((panel) => panel.groups.length - 1));
const state = { layer: layers, view: "contours", scale: "share", held: false };
const images = {};
const accent = () => getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();

// --- what a panel shows: `panel.lit` is a soft prompt, `panel.word` a word; null: nothing

const depth = (panel) => Math.min(state.layer, panel.groups.length - 1);

/** For each frame the merged token that every patch is part of; frames that share them have the same numbers. */
function patchGroups(panel, layer) {
  const sets = panel.groups[layer];
  return panel.images.map((_, frame) => {
    const own = panel.shared ? sets[0] : sets[frame];
    const shift = panel.shared ? 0 : frame * panel.tokens[layer];
    return own.slice(panel.prefix_tokens).map((group) => group + shift);
  });
}

/** The mean colour of each group's patches. */
function groupColours(panel, groups) {
  const sums = new Map();
  groups.forEach((own, frame) => own.forEach((group, patch) => {
    const sum = sums.get(group) || [0, 0, 0, 0];
    for (let channel = 0; channel < 3; channel++) sum[channel] += panel.cells[frame][3 * patch + channel];
    sum[3] += 1;
    sums.set(group, sum);
  }));
  const found = new Map();
  for (const [group, [r, g, b, n]] of sums) found.set(group, `rgb(${Math.round(r / n)} ${Math.round(g / n)} ${Math.round(b / n)})`);
  return found;
}

/** What a word gives to each soft prompt, from 0 to 1 for the most; against the mean, 0 is the least. */
function shares(panel, word) {
  let own = panel.words[word].attention;
  if (state.scale === "ratio") {
    own = own.map((value, prompt) => {
      const mean = panel.words.reduce((sum, one) => sum + one.attention[prompt], 0) / panel.words.length;
      return mean > 0 ? value / mean : 0;
    });
  }
  const least = state.scale === "ratio" ? Math.min(...own) : 0; // ratios lie around 1: it is their order that tells
  const most = Math.max(...own, least + 1e-12);
  return own.map((value) => (value - least) / (most - least));
}

const lightOf = (panel) => {
  if (panel.lit !== null) return (prompt) => (prompt === panel.lit ? 1 : 0.3);
  if (panel.word === null) return null;
  const part = shares(panel, panel.word);
  return (prompt) => 0.12 + 0.88 * part[prompt];
};

// --- drawing

function drawFrames(panel) {
  const layer = depth(panel);
  const groups = patchGroups(panel, layer);
  const colours = groupColours(panel, groups);
  const light = lightOf(panel);
  panel.canvases.forEach((canvas, frame) => {
    const image = images[panel.images[frame]];
    if (!image.naturalWidth) return;
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const [rows, columns] = panel.grid;
    const across = canvas.width / columns, down = canvas.height / rows;
    const pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    const prompts = panel.prompts[frame].slice(panel.prefix_tokens);
    for (let patch = 0; patch < rows * columns; patch++) {
      const column = patch % columns, row = Math.floor(patch / columns);
      const x = Math.round(column * across), y = Math.round(row * down); // whole pixels: no seams
      const box = [x, y, Math.round((column + 1) * across) - x, Math.round((row + 1) * down) - y];
      if (state.view === "mosaic") {
        pen.fillStyle = colours.get(groups[frame][patch]);
        pen.fillRect(...box);
      }
      if (light) {
        pen.fillStyle = `rgb(0 0 0 / ${1 - light(prompts[patch])})`;
        pen.fillRect(...box);
      }
    }
    if (state.view === "frames") return;
    const edges = new Path2D();
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const here = groups[frame][row * columns + column];
        if (column + 1 < columns && groups[frame][row * columns + column + 1] !== here) {
          edges.moveTo((column + 1) * across, row * down);
          edges.lineTo((column + 1) * across, (row + 1) * down);
        }
        if (row + 1 < rows && groups[frame][(row + 1) * columns + column] !== here) {
          edges.moveTo(column * across, (row + 1) * down);
          edges.lineTo((column + 1) * across, (row + 1) * down);
        }
      }
    }
    for (const [width, colour] of [[3, "rgb(0 0 0 / 45%)"], [1.2, "#fff"]]) {
      pen.lineWidth = width * canvas.width / 400;
      pen.strokeStyle = colour;
      pen.stroke(edges);
    }
  });
  panel.count.textContent = `${panel.tokens[layer]} of ${panel.tokens[0]} tokens are left${panel.shared ? "" : " in each frame"}`;
}

function drawShades(canvas, values, most) {
  canvas.width = values.length;
  canvas.height = 1;
  const pen = canvas.getContext("2d");
  pen.fillStyle = accent();
  values.forEach((value, place) => {
    pen.globalAlpha = most > 0 ? value / most : 0;
    pen.fillRect(place, 0, 1, 1);
  });
}

function drawTable(panel) {
  const rows = state.scale === "share" ? panel.words.map((word) => word.attention) : panel.words.map((_, word) => shares(panel, word));
  const most = Math.max(...rows.flat(), 0);
  panel.strips.forEach((canvas, word) => drawShades(canvas, rows[word], most));
  const full = state.scale === "share" ? `${(100 * most).toFixed(1)}% of a word's attention, none 0` : "what a word looks at most against the caption's mean, none the least";
  panel.scale.textContent = `From left to right: soft prompts 1 to ${panel.soft_prompts}. Full colour is ${full}.`;
}

function describe(panel) {
  const counted = (count, one, several) => `${count} ${count === 1 ? one : several}`;
  const percent = (value) => `${(100 * value).toFixed(1)}%`;
  if (panel.lit !== null) {
    const frames = panel.prompts.map((own) => own.slice(panel.prefix_tokens).filter((prompt) => prompt === panel.lit).length);
    const patches = frames.reduce((sum, count) => sum + count, 0);
    const before = panel.prompts.some((own) => own.slice(0, panel.prefix_tokens).includes(panel.lit));
    let text = `Soft prompt ${panel.lit + 1} of ${panel.soft_prompts}: `;
    text += panel.shared ? `${counted(frames[0], "patch", "patches")}, the same in every frame` : `${counted(patches, "patch", "patches")} in ${counted(frames.filter(Boolean).length, "frame", "frames")}`;
    if (before) text += ", and the class token or a register";
    if (panel.words.length) {
      const best = panel.words.reduce((a, b) => (b.attention[panel.lit] > a.attention[panel.lit] ? b : a));
      text += `. “${best.text}” looks at it most, with ${percent(best.attention[panel.lit])} of its attention`;
    }
    return `${text}.`;
  }
  if (panel.word !== null) {
    const { text, attention } = panel.words[panel.word];
    const first = attention.indexOf(Math.max(...attention));
    const sum = attention.reduce((a, b) => a + b, 0);
    return `“${text}” gives ${percent(sum)} of its attention to soft prompts, most of it to number ${first + 1} (${percent(attention[first])}).`;
  }
  return "";
}

function draw(panel) {
  drawFrames(panel);
  panel.chips.forEach((chip, prompt) => chip.classList.toggle("on", prompt === panel.lit));
  panel.buttons.forEach((button, word) => button.classList.toggle("on", word === panel.word));
  panel.said.textContent = describe(panel);
}

function drawAll() {
  byId("layer-name").textContent = state.layer ? `${state.layer} of ${layers}` : `0 of ${layers} (patches)`;
  data.panels.forEach((panel) => { draw(panel); drawTable(panel); });
}

// --- pointing, holding, keys

function light(panel, what, hold = false) {
  if (state.held && !hold) return;
  if (hold) {
    const same = state.held && panel.lit === (what.lit ?? null) && panel.word === (what.word ?? null);
    state.held = !same;
    data.panels.forEach((other) => { if (other !== panel) { other.lit = other.word = null; draw(other); } });
  }
  panel.lit = what.lit ?? null;
  panel.word = what.word ?? null;
  draw(panel);
}

function letGo() {
  state.held = false;
  data.panels.forEach((panel) => { panel.lit = panel.word = null; });
  drawAll();
}

/** Buttons of which one is reached with Tab and the others with the arrow keys. */
function walk(box, buttons, panel, what) {
  buttons.forEach((button, place) => {
    button.tabIndex = place ? -1 : 0;
    button.addEventListener("pointerenter", () => light(panel, what(place)));
    button.addEventListener("pointerleave", () => light(panel, {}));
    button.addEventListener("focus", () => light(panel, what(place)));
    button.addEventListener("blur", () => light(panel, {}));
    button.addEventListener("click", () => light(panel, what(place), true));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -place, End: buttons.length - 1 - place }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const next = buttons[Math.min(buttons.length - 1, Math.max(0, place + step))];
      button.tabIndex = -1;
      next.tabIndex = 0;
      if (state.held) letGo();
      next.focus();
    });
  });
  box.append(...buttons);
}

function pointAt(panel, canvas, frame) {
  const promptAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const [rows, columns] = panel.grid;
    const column = Math.min(columns - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * columns)));
    const row = Math.min(rows - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * rows)));
    return { lit: panel.prompts[frame][panel.prefix_tokens + row * columns + column] };
  };
  canvas.addEventListener("pointermove", (event) => light(panel, promptAt(event)));
  canvas.addEventListener("pointerleave", () => light(panel, {}));
  canvas.addEventListener("click", (event) => light(panel, promptAt(event), true));
}

// --- building

function build(panel) {
  panel.lit = panel.word = null;
  panel.count = make("p", { class: "soft count" });
  panel.said = make("p", { class: "said", "aria-live": "polite" });
  const facts = `log p ${panel.log_probability.toFixed(1)}; ${panel.soft_prompts} soft prompts, fusion ${panel.fusion}${panel.shared && panel.images.length > 1 ? ": frames share their groups" : ""}`;
  const words = make("div", { class: "row words", role: "group", "aria-label": "Caption" });
  panel.buttons = panel.words.map((word) => make("button", { type: "button" }, word.text));
  walk(words, panel.buttons, panel, (word) => ({ word }));
  if (!panel.words.length) words.append("(no caption)");
  const frames = make("div", { class: "frames" });
  panel.canvases = panel.images.map((key, frame) => {
    const canvas = make("canvas", { role: "img", "aria-label": `Frame ${frame + 1}, at ${panel.times[frame].toFixed(2)} seconds` });
    pointAt(panel, canvas, frame);
    frames.append(make("figure", {}, canvas, make("figcaption", {}, `${panel.times[frame].toFixed(2)} s`)));
    return canvas;
  });
  const chips = make("div", { class: "row chips", role: "group", "aria-label": "Soft prompts" });
  panel.chips = panel.chip_colours.map((colour, prompt) => {
    const chip = make("button", { type: "button", "aria-label": `Soft prompt ${prompt + 1}`, title: `Soft prompt ${prompt + 1}` });
    if (colour) chip.style.background = `rgb(${colour.join(" ")})`;
    else chip.className = "none";
    return chip;
  });
  walk(chips, panel.chips, panel, (lit) => ({ lit }));
  panel.scale = make("p", { class: "soft scale" });
  const table = make("div", { class: "table" });
  panel.strips = panel.words.map((word, place) => {
    const strip = make("canvas", { role: "img", "aria-label": `Attention of ${word.text} over soft prompts` });
    strip.addEventListener("pointermove", (event) => {
      const box = strip.getBoundingClientRect();
      const prompt = Math.floor((event.clientX - box.left) / box.width * panel.soft_prompts);
      light(panel, { lit: Math.min(panel.soft_prompts - 1, Math.max(0, prompt)) });
    });
    strip.addEventListener("pointerleave", () => light(panel, {}));
    table.append(make("span", {}, word.text), strip);
    return strip;
  });
  const section = make("section", {}, make("h2", {}, panel.model), words, make("p", { class: "soft" }, facts), panel.count);
  panel.warnings.forEach((text) => section.append(make("p", { class: "warn" }, text)));
  section.append(frames, panel.said, make("h3", {}, `Soft prompts, in the colours of their patches`), chips);
  if (panel.words.length) section.append(make("h3", {}, "What each word looks at, soft prompt by soft prompt"), table, panel.scale);
  if (panel.temporal.length) section.append(make("h3", {}, "What each frame (row) takes from each frame (column), by temporal module"), between(panel));
  byId("panels").append(section);
}

function between(panel) {
  const box = make("div", { class: "between" });
  panel.temporal.forEach(({ gate, weights }, module) => {
    const text = weights.map((row) => row.map((value) => value.toFixed(2)).join(" ")).join("\n");
    const canvas = make("canvas", { role: "img", "aria-label": `Module ${module + 1}: ${text}`, title: text });
    canvas.width = canvas.height = weights.length;
    const pen = canvas.getContext("2d");
    const most = Math.max(...weights.flat());
    pen.fillStyle = accent();
    weights.forEach((row, y) => row.forEach((value, x) => { pen.globalAlpha = value / most; pen.fillRect(x, y, 1, 1); }));
    box.append(make("figure", {}, canvas, make("figcaption", {}, `${module + 1}: gate ${gate.toFixed(3)}`)));
  });
  return box;
}

data.panels.forEach(build);
byId("layer").addEventListener("input", (event) => { state.layer = Number(event.target.value); drawAll(); });
byId("view").addEventListener("change", (event) => { state.view = event.target.value; drawAll(); });
byId("scale").addEventListener("change", (event) => { state.scale = event.target.value; drawAll(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") letGo(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
Promise.all(Object.entries(data.images).map(([key, source]) => {
  images[key] = new Image();
  images[key].src = source;
  return images[key].decode().catch(() => null);
})).then(() => { drawAll(); document.body.dataset.ready = "yes"; });
