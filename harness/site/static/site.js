// The site's own script. It sorts and filters what is on the page, and loads attempts when they are asked for.
// Whatever models wrote is put on the page as text alone. What is chosen stands in the address, behind the #.
"use strict";

document.documentElement.classList.add("js");

const one = (selector, inside = document) => inside.querySelector(selector);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

/** An element with properties and children; texts become text. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Put something else into a place; who was on a link in it with the keyboard stays on the link to the same address. */
function refill(place, ...children) {
  const address = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const top = place.scrollTop;
  place.replaceChildren(...children);
  place.scrollTop = top;
  const again = address && all("a", place).find((link) => link.getAttribute("href") === address);
  if (again) again.focus({ preventScroll: true });
}

/** What the address says, as a map. */
function state() {
  const hash = location.hash.slice(1);
  return new URLSearchParams(hash.includes("=") ? hash : "");
}

/** Put a map into the address; a step of the history unless it only goes on with the last one. */
function keep(parameters, replace = false) {
  const hash = `#${parameters.toString()}`;
  if (hash === (location.hash || "#")) return;
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
}

function onState(show) {
  window.addEventListener("popstate", show);
  window.addEventListener("hashchange", show);
  show();
}

/** JSON that lies beside the page, compressed or, where the host did that already, not. */
async function load(address) {
  let answer;
  try {
    answer = await fetch(address);
  } catch {
    throw new Error(
      location.protocol === "file:"
        ? "A browser loads no data beside a page that is opened from a file. Serve the folder, for example with: python3 -m http.server"
        : "The data could not be loaded.",
    );
  }
  if (!answer.ok) throw new Error(`The data could not be loaded (status ${answer.status}).`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return JSON.parse(new TextDecoder().decode(bytes));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const loaded = new Map();

/** A name that may break where its parts end. */
const breakable = (name) => name.split(/(?<=_)/).flatMap((part) => [part, make("wbr")]);

/** `load`, once an address. */
function once(address) {
  if (!loaded.has(address)) loaded.set(address, load(address));
  return loaded.get(address);
}

// The front

/** Rows that are in the table before more are asked for. */
const AT_FIRST = 25;

/** Cells that are laid out before what was asked for is seen; those of the other rows follow. */
const CELLS_AT_ONCE = 240;

function board() {
  const table = one("#board");
  const head = all("thead th", table);
  const body = one("tbody", table);
  const rows = [...body.rows].map((row, place) => ({
    row,
    place,
    text: row.cells[0].textContent.toLowerCase(),
    name: one(".name", row).textContent.toLowerCase(),
    values: [...row.cells].map((cell) => (cell.dataset.v ? Number(cell.dataset.v) : null)),
  }));
  let found = rows;
  /** Of each column, whether it is hidden. */
  let hidden = head.map(() => false);
  /** How often rows were put into the table: steps of an earlier time come to an end. */
  let times = 0;
  const more = one("#more");
  const few = Number(table.dataset.few);
  const boxes = all("[data-column]");
  const filters = all("[data-filter]");
  const ranges = all("[data-range]");
  const search = one("#q");
  const frame = table.parentElement;
  one("#tools").hidden = false;

  for (const cell of head) {
    const label = one(".label", cell);
    const button = make("button", { type: "button" }, label ? label.textContent : cell.textContent);
    if (label) {
      button.title = label.title;
      label.replaceChildren(button);
    } else {
      cell.replaceChildren(button);
    }
    button.addEventListener("click", () => {
      const now = state();
      const key = cell.dataset.sort;
      if (now.get("sort") === key) now.set("turned", now.get("turned") ? "" : "1");
      else now.set("turned", "");
      now.set("sort", key);
      if (!now.get("turned")) now.delete("turned");
      keep(now);
      show();
    });
  }

  const facet = (control) => control.dataset.filter ?? `${control.dataset.range}-${control.dataset.end}`;
  for (const control of [...filters, ...ranges]) {
    control.addEventListener("change", () => {
      const now = state();
      if (control.value) now.set(facet(control), control.value);
      else now.delete(facet(control));
      keep(now);
      show();
    });
  }
  search.addEventListener("input", () => {
    const now = state();
    const had = now.has("q");
    if (search.value) now.set("q", search.value);
    else now.delete("q");
    keep(now, had);
    show();
  });
  const clear = () => {
    const now = state();
    for (const control of [...filters, ...ranges]) now.delete(facet(control));
    now.delete("q");
    keep(now);
    show();
  };
  one("#clear").addEventListener("click", clear);
  one("#clear-again").addEventListener("click", clear);
  const choose = (chosen) => {
    const now = state();
    if (chosen === null) now.delete("columns");
    else now.set("columns", chosen.join(","));
    keep(now);
    show();
  };
  for (const box of boxes) {
    box.addEventListener("change", () => choose(boxes.filter((b) => b.checked).map((b) => b.dataset.column)));
  }
  more.addEventListener("click", () => place(found.length));
  window.addEventListener("beforeprint", () => place(found.length, found.length));
  one("#all-columns").addEventListener("click", () => choose(few ? ["all"] : null));
  one("#few-columns").addEventListener("click", () => choose(null));

  /** The value of a row that is sorted by, null where there is none. */
  function value(entry, column) {
    if (column === 0) return entry.name;
    if (column > 1) return entry.values[column];
    return entry.row.dataset.total ? Number(entry.row.dataset.total) : null;
  }

  /** All rows in an order; says in the headings which one it is. */
  function sorted(key, turned) {
    const column = head.findIndex((cell) => cell.dataset.sort === key);
    for (const cell of head) cell.removeAttribute("aria-sort");
    let order = (a, b) => a.place - b.place;
    if (column >= 0) {
      const best = Number(head[column].dataset.direction ?? -1) || 1;
      const sign = (column < 2 ? 1 : -best) * (turned ? -1 : 1);
      head[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const values = new Map(rows.map((entry) => [entry, value(entry, column)]));
      order = (a, b) => {
        const x = values.get(a);
        const y = values.get(b);
        if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
        if (x === y) return a.place - b.place;
        return (x < y ? -1 : 1) * sign;
      };
    }
    return [...rows].sort(order);
  }

  /** Hide the cells of a row whose columns are hidden, and no others. */
  function fit(row) {
    [...row.cells].forEach((cell, column) => {
      if (cell.hidden !== hidden[column]) cell.hidden = hidden[column];
    });
    return row;
  }

  /** Put the first rows that were found into the table, a few and then ever more: to lay out hundreds takes longer than a click may. */
  function place(count, step = Math.max(4, Math.floor(CELLS_AT_ONCE / hidden.filter((one) => !one).length))) {
    const time = ++times;
    const wanted = found.slice(0, count).map((entry) => entry.row);
    const next = (from, size) => {
      if (time !== times) return;
      body.append(...wanted.slice(from, from + size).map(fit));
      if (from + size < wanted.length) requestAnimationFrame(() => setTimeout(next, 0, from + size, 2 * size));
      else frame.style.minHeight = "";
    };
    frame.style.minHeight = `${frame.offsetHeight}px`; // the page stays where it is until all are there
    body.replaceChildren();
    next(0, step);
    more.hidden = found.length <= count;
    more.textContent = `Show the other ${found.length - count} models`;
  }

  function fits(entry, now) {
    const facts = entry.row.dataset;
    const words = (now.get("q") ?? "").toLowerCase().split(/\s+/);
    if (!words.every((word) => entry.text.includes(word))) return false;
    for (const control of filters) {
      const wanted = now.get(facet(control));
      if (wanted && facts[control.dataset.filter] !== wanted) return false;
    }
    for (const control of ranges) {
      const wanted = now.get(facet(control));
      if (!wanted) continue;
      const own = facts[control.dataset.range];
      if (!own) return false;
      const unit = control.dataset.unit ? Number(control.dataset.unit) : null;
      const [x, limit] = unit ? [Number(own), Number(wanted) * unit] : [own, wanted];
      if (control.dataset.end === "from" ? x < limit : x > limit) return false;
    }
    return true;
  }

  function show() {
    const now = state();
    if (search.value !== (now.get("q") ?? "")) search.value = now.get("q") ?? "";
    let active = 0;
    for (const control of [...filters, ...ranges]) {
      control.value = now.get(facet(control)) ?? "";
      active += Boolean(control.value);
    }
    found = sorted(now.get("sort"), Boolean(now.get("turned"))).filter((entry) => fits(entry, now));
    const chosen = now.get("columns")?.split(",");
    const places = head.slice(2).map((cell, place) => ({ id: cell.dataset.sort, place }));
    const visible = places.filter(({ id, place }) =>
      chosen ? chosen[0] === "all" || chosen.includes(id) : !few || place < few,
    );
    for (const box of boxes) box.checked = visible.some(({ id }) => id === box.dataset.column);
    table.classList.remove("few");
    const shown = new Set(visible.map((column) => column.place));
    hidden = head.map((_, column) => column > 1 && !shown.has(column - 2));
    fit(head[0].parentElement);
    place(AT_FIRST);
    one("#active-filters").textContent = active ? `(${active})` : "";
    one("#shown-columns").textContent = `(${visible.length} of ${places.length})`;
    one("#found").textContent = `${found.length} of ${rows.length} models`;
    one("#nothing").hidden = found.length > 0;
  }
  onState(show);

  for (const menu of all(".menu")) {
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      one("summary", menu).focus();
    });
    menu.addEventListener("toggle", () => {
      if (menu.open) all(".menu").filter((other) => other !== menu).forEach((other) => (other.open = false));
    });
  }
  document.addEventListener("click", (event) => {
    for (const menu of all(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
}

// Attempts

/** One attempt, as text. */
function attempt(view) {
  const found = make("article", { className: "attempt" });
  const head = make("dl", { className: "facts" });
  for (const [name, value] of view.facts ?? []) head.append(make("dt", {}, name), make("dd", {}, value ?? ""));
  found.append(make("h2", {}, `${view.pair ?? ""}, attempt ${view.attempt ?? 0}, by ${view.model ?? ""}`), head);
  if (view.failure) found.append(make("p", { className: "notice" }, `Failed: ${view.failure}. No verdict: neither right nor wrong.`));
  for (const [place, text] of view.injections ?? []) {
    found.append(make("p", { className: "small" }, `Injected at ${place}:`), make("pre", {}, make("mark", {}, text)));
  }
  for (const step of view.steps ?? []) found.append(turn(step));
  if (view.verdicts?.length) found.append(make("h3", {}, "Verdicts"));
  for (const verdict of view.verdicts ?? []) {
    found.append(
      make(
        "div",
        { className: "step" },
        make("b", {}, `${verdict.metric}: ${verdict.value}`),
        verdict.answer ? make("div", { className: "text" }, `Read out of the reply: ${verdict.answer}`) : null,
        verdict.reason ? make("div", { className: "small" }, verdict.reason) : null,
      ),
    );
  }
  if (view.votes?.length) found.append(make("h3", {}, "Judges"));
  for (const vote of view.votes ?? []) {
    found.append(
      make(
        "div",
        { className: "step judge" },
        make("b", {}, `${vote.judge}: ${vote.verdict ?? "no verdict"}`),
        vote.failure ? make("div", { className: "small" }, `Failed: ${vote.failure}`) : null,
        make("div", { className: "small" }, `Asked: ${vote.asks}`),
        make("div", { className: "small" }, `Judged by ${vote.measured}`),
        vote.raw ? make("div", { className: "text" }, vote.raw) : make("div", { className: "small" }, "It wrote nothing."),
      ),
    );
  }
  return found;
}

function turn(step) {
  const found = make("section", { className: "step" }, make("h3", {}, step.title ?? step.role));
  if (["user", "assistant", "tool", "system"].includes(step.role)) found.classList.add(step.role);
  if (step.reasoning) found.append(make("div", { className: "text reasoning" }, step.reasoning));
  const text = make("div", { className: "text" });
  for (const piece of step.pieces ?? []) {
    text.append(piece.injected ? make("mark", {}, piece.text ?? "") : piece.text ?? "");
  }
  if (text.textContent) found.append(text);
  for (const note of step.notes ?? []) found.append(make("div", { className: "small" }, note));
  for (const call of step.calls ?? []) {
    const shown = make("div", { className: "call" }, `→ ${call.name} ${call.arguments ?? ""}`);
    if (call.effects) {
      if (call.effects.error) shown.append(make("div", { className: "bad" }, call.effects.error));
      for (const change of call.effects.changes ?? []) {
        const [path, before, after] = [change.path ?? "", change.before, change.after];
        const said = before === undefined ? `+ ${path}: ${after ?? ""}` : after === undefined ? `- ${path}: ${before}` : `~ ${path}: ${before} → ${after}`;
        shown.append(make("div", { className: "did" }, said));
      }
      if (!call.effects.error && !call.effects.changes) shown.append(make("div", { className: "small" }, "changes nothing"));
    }
    found.append(shown);
  }
  return found;
}

/** Where each attempt of an index is. */
function listed(index) {
  return index.samples.map((sample, i) => ({
    sample,
    attempt: index.attempts[i],
    failure: index.failures[i],
    place: index.places[i],
    values: Object.fromEntries(Object.entries(index.values).map(([name, own]) => [name, own[i]])),
  }));
}

const folder = (cell) => `${document.body.dataset.root}attempts/${cell}`;
/** A score in a list: of a rate yes or no, and nothing where an attempt has none. */
const answer = (value, rate) => (value === null || value === undefined ? "" : rate ? (value ? "yes" : "no") : told(value));
const told = (value) => (value === null || value === undefined ? "none" : Number.isInteger(value) ? String(value) : value.toFixed(3));

async function transcript(cell, entry) {
  if (!entry.place) return null;
  return (await once(`${folder(cell)}/${entry.place[0]}.json.gz`))[entry.place[1]];
}

function attempts() {
  const cells = all("#cells option").map((option) => ({ id: option.value, model: option.dataset.model, suite: option.dataset.suite, run: option.dataset.run, closed: option.dataset.closed }));
  const [model, suite, run, outcome, search] = ["#model", "#suite", "#run", "#outcome", "#search"].map((id) => one(id));
  const [list, detail, said] = ["#list", "#detail", "#said"].map((id) => one(id));
  let asked = 0;
  one("#pick").hidden = false;

  function fill(select, values, chosen) {
    const unique = [...new Set(values)];
    select.replaceChildren(...unique.map((value) => make("option", { value }, value)));
    select.value = unique.includes(chosen) ? chosen : unique[0] ?? "";
  }

  /** The cell that the address means, and the choices that lead to it. */
  function chosen(now) {
    const direct = cells.find((cell) => cell.id === now.get("cell"));
    fill(model, cells.map((cell) => cell.model), direct?.model ?? now.get("model"));
    const ofModel = cells.filter((cell) => cell.model === model.value);
    fill(suite, ofModel.map((cell) => cell.suite), direct?.suite ?? now.get("suite"));
    const ofSuite = ofModel.filter((cell) => cell.suite === suite.value);
    fill(run, ofSuite.map((cell) => cell.run), direct?.run ?? now.get("run"));
    one("#run-label").hidden = ofSuite.length < 2;
    return ofSuite.find((cell) => cell.run === run.value);
  }

  async function show() {
    const turn = ++asked;
    const now = state();
    const cell = chosen(now);
    if (!cell) return;
    said.textContent = "Loading …";
    try {
      const index = await once(`${folder(cell.id)}/index.json.gz`);
      if (turn !== asked) return;
      const entries = listed(index);
      const names = Object.keys(index.values);
      const own = (name) => index.named?.[name] ?? name;
      const rates = new Set();
      const kinds = ["all", "failed", ...new Set(entries.map((e) => e.failure).filter(Boolean))].map((k) => [k, k]);
      for (const name of names) {
        const values = new Set(entries.map((entry) => entry.values[name]).filter((v) => v !== null));
        if ([...values].every((v) => v === 0 || v === 1)) rates.add(name);
        if (rates.has(name)) kinds.push([`${name}=1`, `${own(name)}: yes`], [`${name}=0`, `${own(name)}: no`]);
      }
      outcome.replaceChildren(...kinds.map(([value, text]) => make("option", { value }, text)));
      outcome.value = kinds.some(([value]) => value === now.get("outcome")) ? now.get("outcome") : "all";
      const words = now.get("q") ?? "";
      if (search.value !== words) search.value = words;
      const texts = words ? await searched(cell.id, entries, words) : null;
      if (turn !== asked) return;
      const fit = entries.filter((entry) => (!texts || texts.has(entry)) && wanted(entry, outcome.value));
      said.textContent = `${fit.length.toLocaleString("en")} of ${entries.length.toLocaleString("en")} attempts. ${cell.closed ? `No transcripts: ${cell.closed}.` : ""}`;
      rowsOf(cell, fit, names.map((name) => ({ name, said: own(name), rate: rates.has(name) })), now);
      const open = entries.find((e) => e.sample === now.get("sample") && String(e.attempt) === (now.get("attempt") ?? "0"));
      await detailOf(cell, open, turn);
    } catch (error) {
      if (turn === asked) said.textContent = error.message;
    }
  }

  function wanted(entry, kind) {
    if (kind === "all") return true;
    if (kind === "failed") return entry.failure !== null;
    const [name, value] = [kind.slice(0, kind.lastIndexOf("=")), kind.slice(kind.lastIndexOf("=") + 1)];
    return kind.includes("=") ? entry.values[name] === Number(value) : entry.failure === kind;
  }

  async function searched(cell, entries, words) {
    const asked = words.toLowerCase();
    const found = new Set(entries.filter((entry) => entry.sample.toLowerCase().includes(asked)));
    const shards = new Set(entries.filter((entry) => entry.place).map((entry) => entry.place[0]));
    for (const shard of shards) await once(`${folder(cell)}/${shard}.json.gz`);
    for (const entry of entries) {
      const view = await transcript(cell, entry);
      if (view && textsOf(view).some((text) => text.toLowerCase().includes(asked))) found.add(entry);
    }
    return found;
  }

  const textsOf = (value) =>
    typeof value === "string" ? [value] : value && typeof value === "object" ? Object.values(value).flatMap(textsOf) : [];

  const MOST = 500;

  function rowsOf(cell, fit, names, now) {
    const head = make("tr", {}, make("th", { scope: "col" }, "Sample"), make("th", { scope: "col" }, "Attempt"), make("th", { scope: "col" }, "Failure"), ...names.map(({ name, said }) => make("th", { scope: "col", className: "num", title: name }, ...breakable(said))));
    const body = fit.slice(0, MOST).map((entry) => {
      const to = new URLSearchParams({ cell: cell.id, sample: entry.sample, attempt: entry.attempt });
      for (const kept of ["outcome", "q"]) if (now.get(kept)) to.set(kept, now.get(kept));
      const link = entry.place ? make("a", { href: `#${to}` }, entry.sample) : entry.sample;
      const row = make("tr", {}, make("td", {}, link), make("td", { className: "num" }, String(entry.attempt)), make("td", {}, entry.failure ?? ""), ...names.map(({ name, rate }) => make("td", { className: "num" }, answer(entry.values[name], rate))));
      if (entry.sample === now.get("sample") && String(entry.attempt) === (now.get("attempt") ?? "0")) row.className = "chosen";
      return row;
    });
    refill(list, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
    if (fit.length > MOST) list.append(make("p", { className: "small" }, `The first ${MOST}: search or filter for others.`));
  }

  async function detailOf(cell, entry, turn) {
    if (!entry) return detail.replaceChildren();
    const view = await transcript(cell.id, entry);
    if (turn !== asked) return undefined;
    return detail.replaceChildren(view ? attempt(view) : make("p", { className: "notice" }, `The transcript of ${entry.sample} is not published${cell.closed ? `: ${cell.closed}` : ""}.`));
  }

  const go = (changes) => {
    const now = new URLSearchParams({ model: model.value, suite: suite.value, run: run.value });
    if (outcome.value && outcome.value !== "all") now.set("outcome", outcome.value);
    if (search.value) now.set("q", search.value);
    for (const name of changes) now.delete(name);
    keep(now);
    show();
  };
  model.addEventListener("change", () => go(["suite", "run", "outcome"]));
  suite.addEventListener("change", () => go(["run", "outcome"]));
  run.addEventListener("change", () => go(["outcome"]));
  outcome.addEventListener("change", () => go([]));
  search.addEventListener("change", () => go([]));
  onState(show);
}

// Two models

function compare() {
  const [first, second] = ["#a", "#b"].map((id) => one(id));
  const [said, out, flips] = ["#said", "#out", "#flips"].map((id) => one(id));
  const data = (name) => once(`${document.body.dataset.root}data/${name}`);
  let asked = 0;
  one("#pick").hidden = false;

  async function show() {
    const turn = ++asked;
    const now = state();
    for (const [select, name, other] of [[first, "a", 0], [second, "b", 1]]) {
      const names = [...select.options].map((option) => option.value);
      select.value = names.includes(now.get(name)) ? now.get(name) : names[Math.min(other, names.length - 1)];
    }
    said.textContent = "Loading …";
    try {
      const [a, b] = await Promise.all([first, second].map((select) => data(`models/${select.value}.json`)));
      const pair = await pairOf(first.value, second.value);
      if (turn !== asked) return;
      const shared = a.numbers.filter((number) => b.numbers.some((other) => other.column === number.column));
      const alone = [...a.numbers, ...b.numbers].length - 2 * shared.length;
      said.textContent =
        `${shared.length} numbers under the same protocol` +
        (alone ? `; ${alone} that only one of them has are not compared` : "") +
        (pair ? ". Differences are paired by sample." : ". Differences are of the two intervals, taken as independent (MOVER): this pair was not computed ahead by sample, which sees more. harness compare does it.");
      refill(out, tableOf(a, b, shared, pair, now));
      await flipsOf(a, b, shared.find((number) => number.column === now.get("column")), turn);
    } catch (error) {
      if (turn === asked) said.textContent = error.message;
    }
  }

  async function pairOf(a, b) {
    const pairs = await data("pairs.json");
    const key = [a, b].sort().join("~");
    return pairs[key] ? { of: pairs[key], turned: [a, b].sort()[0] !== a } : null;
  }

  const percent = (value, share, digits = 1) => (share ? (100 * value).toFixed(digits) : Number(value.toPrecision(4)).toString());

  function difference(x, y, share, paired) {
    if (paired) {
      const [value, low, high] = paired.slice(0, 3);
      if (value === null) return null;
      return { value, low, high, pairs: paired[3], least: paired[4] };
    }
    if (x.value === null || y.value === null) return null;
    const value = y.value - x.value;
    if ([x.low, x.high, y.low, y.high].some((end) => end === null)) return { value, low: null, high: null };
    return { value, low: value - Math.hypot(y.value - y.low, x.high - x.value), high: value + Math.hypot(y.high - y.value, x.value - x.low) };
  }

  function verdictOf(d, direction, a, b) {
    if (!d || d.low === null || (d.low <= 0 && d.high >= 0)) return "not told apart";
    if (!direction) return "differ";
    return `${(d.value > 0) === (direction > 0) ? b : a} is better`;
  }

  function tableOf(a, b, shared, pair, now) {
    const heads = ["Benchmark", a.name, b.name, `${b.name} less ${a.name}`, "Finds 80% of the time", "Samples"];
    const head = make("tr", {}, ...heads.map((text, i) => make("th", { scope: "col", className: i && i < 5 ? "num" : "" }, text)));
    const rows = shared.map((x) => {
      const y = b.numbers.find((other) => other.column === x.column);
      let paired = pair?.of[x.column];
      if (paired && pair.turned && paired[0] !== null) paired = [-paired[0], paired[2] === null ? null : -paired[2], paired[1] === null ? null : -paired[1], paired[3], paired[4]];
      const d = difference(x, y, x.share, paired);
      const unit = x.share ? " points" : "";
      const size = d === null ? "not measured" : `${d.value > 0 ? "+" : ""}${percent(d.value, x.share)}${unit} ${d.low === null ? "[no interval]" : `[${percent(d.low, x.share)}, ${percent(d.high, x.share)}]`}`;
      const to = new URLSearchParams({ a: first.value, b: second.value, column: x.column });
      const cells = x.cells.length && y.cells.length;
      return make(
        "tr",
        { className: x.column === now.get("column") ? "chosen" : "" },
        make("th", { scope: "row" }, `${x.suite}: ${x.name}`, make("span", { className: "small" }, x.differs)),
        make("td", { className: "num" }, x.said),
        make("td", { className: "num" }, y.said),
        make("td", { className: "num" }, size, make("span", { className: "small" }, verdictOf(d, x.direction, a.name, b.name))),
        make("td", { className: "num" }, d?.least ? `${percent(d.least, x.share)}${unit}` : "not computed"),
        make("td", {}, cells ? make("a", { href: `#${to}` }, "flipped") : ""),
      );
    });
    return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  }

  const means = (index, metric) => {
    const found = new Map();
    index.samples.forEach((sample, i) => {
      const value = index.values[metric]?.[i];
      if (value === null || value === undefined) return;
      const had = found.get(sample) ?? { sum: 0, n: 0, entry: { sample, attempt: index.attempts[i], place: index.places[i] } };
      found.set(sample, { ...had, sum: had.sum + value, n: had.n + 1 });
    });
    return new Map([...found].map(([sample, { sum, n, entry }]) => [sample, { value: sum / n, entry }]));
  };

  async function flipsOf(a, b, x, turn) {
    if (!x) return flips.replaceChildren();
    const y = b.numbers.find((other) => other.column === x.column);
    const rows = [];
    let both = 0;
    for (const own of x.cells) {
      const their = y.cells.find((cell) => cell.suite === own.suite);
      if (!their) continue;
      const [ours, theirs] = await Promise.all([own, their].map(async (cell) => means(await once(`${folder(cell.id)}/index.json.gz`), x.metric)));
      for (const [sample, { value, entry }] of ours) {
        const other = theirs.get(sample);
        if (!other) continue;
        both += 1;
        if (other.value !== value) rows.push({ own, their, sample, value, other: other.value, entry, otherEntry: other.entry });
      }
    }
    if (turn !== asked) return undefined;
    const up = rows.filter((row) => row.other > row.value).length;
    const title = make("h2", {}, `Samples that flipped: ${x.suite}, ${x.name}`);
    const summary = make("p", {}, `${rows.length} of ${both} samples that both have: ${up} are higher for ${b.name}, ${rows.length - up} for ${a.name}. Choose one to see both side by side.`);
    const sides = make("div", { className: "two" });
    const body = rows.slice(0, 500).map((row) => {
      const button = make("button", { type: "button" }, row.sample);
      button.addEventListener("click", async () => {
        const views = await Promise.all([[row.own.id, row.entry], [row.their.id, row.otherEntry]].map(([cell, entry]) => transcript(cell, entry)));
        sides.replaceChildren(...views.map((view) => (view ? attempt(view) : make("p", { className: "notice" }, "This transcript is not published."))));
        sides.scrollIntoView({ block: "start" });
      });
      return make("tr", {}, make("td", {}, button), make("td", { className: "num" }, told(row.value)), make("td", { className: "num" }, told(row.other)));
    });
    const head = make("tr", {}, ...["Sample", a.name, b.name].map((text, i) => make("th", { scope: "col", className: i ? "num" : "" }, text)));
    const list = make("div", { className: "list", tabIndex: 0, role: "region", "aria-label": "Samples that flipped" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
    return flips.replaceChildren(title, summary, list, sides);
  }

  for (const select of [first, second]) {
    select.addEventListener("change", () => {
      keep(new URLSearchParams({ a: first.value, b: second.value }));
      show();
    });
  }
  onState(show);
}

document.addEventListener("DOMContentLoaded", () => {
  if (one("#board")) board();
  if (one("#cells")) attempts();
  if (one("#a")) compare();
});
