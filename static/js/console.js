/* The console's only script. Everything here makes a working page nicer; hooks are data- attributes (search for one to find its lines). */

const body = document.body;
const all = (selector, root = document) => root.querySelectorAll(selector);

/* htmx sends the CSRF token in a header. */
body.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRFToken"] = document.querySelector('meta[name="csrf-token"]').content;
});

/* What every new piece of the page needs, after each swap and, htmx having looked through the page, at the start. */
function prepare(root) {
  for (const dialog of all("dialog[data-open]:not([open])", root)) open(dialog);
  for (const box of all("[data-indeterminate]", root)) box.indeterminate = true;
  for (const group of all("[data-range]", root)) showChecked(group);
  for (const toast of all('[data-toast=""]', root)) setTimeout(leave, 8000, toast);
  for (const field of all("[data-time-zone]", root)) field.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
  showTitle();
}
body.addEventListener("htmx:load", (event) => prepare(event.detail.elt.parentElement ?? event.detail.elt));

/* A toast goes by itself, but never from under the pointer or the focus. */
function leave(toast) {
  if (toast.matches(":hover, :focus-within")) setTimeout(leave, 2000, toast);
  else toast.remove();
}

/* data-open: a <dialog> that the server sent opens as a modal one; closed, it leaves the page, and the focus goes back to what
   opened it, or what has come in its place. data-close closes it; outside of a dialog it is the link that it looks like. */
function open(dialog) {
  const menu = document.activeElement.closest("[popover]")?.id; // which has closed by then: back to its button
  const opener = menu ? document.querySelector(`[popovertarget="${menu}"]`).id : document.activeElement.id;
  dialog.addEventListener("close", () => {
    dialog.remove();
    const back = opener && document.querySelector(`#${opener}:not(:disabled)`);
    if (document.activeElement === body) (back || document.getElementById("main")).focus({ preventScroll: true });
  });
  dialog.showModal();
}
/* Who presses twice, or keeps Enter down while the answer is slow, gets one dialog: what lies under it opens no other. */
body.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const dialog = [...all("dialog[data-open]")].at(-1);
  if (dialog && detail.target.matches("#dialog, #names") && !dialog.contains(detail.requestConfig.elt)) detail.shouldSwap = false;
});
body.addEventListener("close-dialog", () => all("dialog[open]").forEach((dialog) => dialog.close()));

/* What one did asks the server: until it answers, a line says so (css/feedback.css). What the page asks by itself runs quietly. */
const asked = new Set();
function waitFor(request) {
  asked.add(request);
  document.documentElement.classList.add("waiting");
}
function stopWaiting(request) {
  if (request) asked.delete(request);
  else asked.clear();
  document.documentElement.classList.toggle("waiting", asked.size > 0);
}
body.addEventListener("htmx:beforeSend", ({ detail: { xhr, requestConfig } }) => {
  if (!requestConfig.triggeringEvent) return;
  waitFor(xhr);
  xhr.addEventListener("loadend", () => stopWaiting(xhr));
});
globalThis.navigation?.addEventListener("navigate", (event) => {
  if (!event.destination.sameDocument && event.downloadRequest === null) waitFor(event);
});
addEventListener("pageshow", () => stopWaiting()); // back from the page that it went to
body.addEventListener("animationend", ({ animationName }) => { if (animationName === "waiting") stopWaiting(); });

/* data-closes: a form whose answer, wherever it is shown, closes the dialog that the form is in. */
body.addEventListener("htmx:afterOnLoad", (event) => {
  if (event.detail.elt.matches("[data-closes]")) event.detail.elt.closest("dialog")?.close();
});

/* data-title: how far something is, told in the page's title: of what is in front, else of the strip above every page. */
const title = document.title;
function showTitle() {
  const far = document.querySelector("main [data-title], dialog [data-title]") ?? document.querySelector("[data-title]");
  document.title = far ? `${far.dataset.title} · ${title}` : title;
}

body.addEventListener("click", (event) => {
  const hook = (name) => event.target.closest(`[${name}]`);
  const dialog = hook("data-close")?.closest("dialog");
  if (dialog) {
    event.preventDefault();
    dialog.close();
  }
  if (hook("data-dismiss")) hook("data-dismiss").closest("[data-toast]").remove();
  if (hook("data-theme-choice")) chooseTheme(hook("data-theme-choice").dataset.themeChoice);
});

/* data-theme-choice: the cookie tells the server, which writes data-theme on <html>. */
function chooseTheme(theme) {
  document.cookie = `theme=${theme}; path=/; max-age=${theme ? 31536000 : 0}; samesite=lax`;
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  showTheme();
}
function showTheme() {
  const theme = document.documentElement.dataset.theme ?? "";
  for (const button of all("[data-theme-choice]")) button.setAttribute("aria-pressed", button.dataset.themeChoice === theme);
}

/* data-range: a group of data-tick checkboxes with perhaps one data-check-all above them. Shift-click ticks all in between.
   These run before htmx sends what changed, for they listen while the event is still on its way down. */
let last = null; // the box clicked before
let extra = []; // the boxes that a shift-click is about to change beside its own
const changed = new WeakMap(); // of a change event: the boxes that it stands for, each with what it was

body.addEventListener("click", (event) => {
  const box = event.target.closest("[data-tick]");
  if (!box) return;
  const boxes = [...all("[data-tick]", box.closest("[data-range]"))];
  const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
  extra = event.shiftKey && from >= 0 ? boxes.slice(from, to + 1) : [];
  last = box;
}, true);

body.addEventListener("change", (event) => {
  const group = event.target.closest("[data-range]");
  if (!group) return;
  const { checked } = event.target;
  const boxes = event.target.matches("[data-check-all]") ? [...all("[data-tick]", group)] : extra;
  const before = new Map(boxes.map((box) => [box, box.checked]));
  if (!event.target.matches("[data-check-all]")) before.set(event.target, !checked);
  for (const box of boxes) box.checked = checked;
  changed.set(event, before);
  extra = [];
  showChecked(group);
}, true);

/* Only what was changed is sent, never the page as it stands: it may be older than what was ticked elsewhere. */
body.addEventListener("htmx:configRequest", (event) => {
  const { formData, triggeringEvent } = event.detail;
  if (!changed.has(triggeringEvent)) return;
  formData.delete("shown");
  formData.delete("user");
  for (const box of changed.get(triggeringEvent).keys()) {
    formData.append("of", box.value);
    if (box.checked) formData.append("user", box.value);
  }
});

function showChecked(group) {
  const head = group.querySelector("[data-check-all]");
  if (!head) return;
  const boxes = [...all("[data-tick]", group)];
  const ticked = boxes.filter((box) => box.checked).length;
  head.checked = ticked > 0 && ticked === boxes.length;
  head.indeterminate = ticked > 0 && ticked < boxes.length;
}

/* A tick that did not reach the server is taken back; a server that cannot be reached is said. */
function takeBack(event) {
  const before = changed.get(event.detail.requestConfig?.triggeringEvent);
  if (!before) return;
  for (const [box, was] of before) box.checked = was;
  showChecked(event.detail.elt);
}
for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) body.addEventListener(name, takeBack);
/* Under an open modal dialog the toasts of the page can neither be seen nor reached: it has a place of its own, data-toasts. */
const placeOfToasts = () => document.querySelector("dialog[open] [data-toasts]") ?? document.getElementById("toasts");
body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target?.id !== "toasts") return;
  event.detail.target = placeOfToasts();
  const said = new DOMParser().parseFromString(event.detail.serverResponse, "text/html").body.textContent.trim();
  if ([...event.detail.target.children].some((toast) => toast.textContent.trim() === said)) event.detail.shouldSwap = false; // once is enough
});
body.addEventListener("htmx:oobBeforeSwap", (event) => {
  if (event.detail.target?.id === "toasts") event.detail.target = placeOfToasts();
});
for (const name of ["htmx:sendError", "htmx:timeout"]) {
  body.addEventListener(name, () => {
    const toasts = placeOfToasts();
    if (!toasts.querySelector("[data-offline]")) {
      const toast = document.getElementById("offline").content.firstElementChild.cloneNode(true);
      toast.dataset.offline = "";
      toasts.append(toast);
    }
  });
}

/* data-focus: where keyboard focus goes when what had it was swapped away (a removed chip), instead of the top of the page. */
let focused = null;
body.addEventListener("htmx:beforeSwap", () => { focused = document.activeElement; });
body.addEventListener("htmx:afterSettle", () => {
  if (focused && !focused.isConnected && document.activeElement === body) document.querySelector("[data-focus]")?.focus({ preventScroll: true });
  focused = null;
});

/* data-say: a number or sentence that is said when it is another after a swap. A live region that is swapped itself keeps silent, so
   the page has one that stays. What still waits for a number of its own is not said. */
const said = new Map();
body.addEventListener("htmx:afterSettle", () => {
  const news = [];
  for (const each of all("[data-say]")) {
    const text = each.textContent.replace(/\s+/g, " ").trim();
    if (each.querySelector("[hx-trigger]") || said.get(each.id) === text) continue;
    said.set(each.id, text);
    news.push(text);
  }
  if (news.length) document.getElementById("said").textContent = news.join(". ");
});
for (const each of all("[data-say]")) said.set(each.id, each.textContent.replace(/\s+/g, " ").trim());

/* data-narrows: a search above many choices, which hides those without all of its words; what is ticked stays in sight. */
const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
body.addEventListener("input", ({ target }) => {
  if (!target.matches("[data-narrows]")) return;
  const words = folded(target.value).split(/\s+/);
  for (const choice of all(".choice", target.closest("fieldset"))) {
    choice.hidden = !choice.querySelector(":checked") && !words.every((word) => folded(choice.textContent).includes(word));
  }
});
body.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("[data-narrows]")) event.preventDefault(); // or it would send the form
});

/* data-key: the key that does what a click there does; in a field, it leads there. Keys do nothing while one types, behind an open
   dialog, or once switched off. In a table j and k lead from row to row, x ticks, Enter opens, and with Shift the arrows tick on. */
const TYPING = "textarea, select, [contenteditable], input:not([type=checkbox], [type=radio])";
const stopOf = (row) => row?.querySelector("[data-tick]") ?? row?.querySelector("a, button");
function rowBeside(by) {
  const rows = [...all("main tbody tr")].filter(stopOf);
  const at = rows.indexOf(document.activeElement.closest("tr"));
  return at < 0 ? rows.at(by > 0 ? 0 : -1) : rows[at + by];
}
function tickOn(box, by) {
  const next = rowBeside(by)?.querySelector("[data-tick]");
  if (!next) return;
  if (!box.checked) box.click();
  (next.checked ? box : next).click(); // back over ticked rows, the range grows smaller
  next.focus();
}
const KEYS = {
  j: () => stopOf(rowBeside(1))?.focus(),
  k: () => stopOf(rowBeside(-1))?.focus(),
  x: () => document.activeElement.closest("tr")?.querySelector("[data-tick]")?.click(),
};
function press(key) {
  const target = document.querySelector(`[data-key="${CSS.escape(key)}"]:not(:disabled)`);
  if (document.activeElement === body) target?.focus({ preventScroll: true }); // where a dialog leads back to
  if (target?.matches(TYPING)) target.select();
  else if (target) target.click();
  else KEYS[key]?.();
  return target || KEYS[key];
}
body.addEventListener("keydown", (event) => {
  const { key, target } = event;
  const box = target.matches("[data-tick]") && target;
  if (box && key === "Enter") {
    event.preventDefault(); // or it would send the form
    box.closest("tr").querySelector("a")?.click();
  }
  if (event.isComposing || event.altKey || document.cookie.includes("shortcuts=off")) return;
  const modified = event.ctrlKey || event.metaKey;
  if (modified && key.toLowerCase() === "k" && !document.querySelector("dialog[open]")) {
    if (press("Mod+k")) event.preventDefault();
  } else if (!modified && !document.querySelector("dialog[open]") && !target.matches(TYPING)) {
    const by = event.shiftKey && box && { ArrowDown: 1, ArrowUp: -1 }[key];
    if (by) tickOn(box, by);
    if (by || press(key)) event.preventDefault();
  }
});

/* The palette: a combobox over links that the server finds. Without the script, its opener is the link to a page of its own. */
const palette = document.getElementById("palette");
const text = document.getElementById("palette-text");
const options = () => [...all("[role=option]", palette)];
const chosen = () => options().find((option) => option.ariaSelected === "true");
function choose(option) {
  for (const each of options()) each.ariaSelected = each === option;
  if (option) text.setAttribute("aria-activedescendant", option.id);
  else text.removeAttribute("aria-activedescendant");
  text.ariaExpanded = options().length > 0;
  option?.scrollIntoView({ block: "nearest" });
}
document.getElementById("find-anything")?.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  palette.showModal();
  text.select();
  text.dispatchEvent(new Event("opened"));
});
palette?.addEventListener("htmx:afterSettle", () => choose(options()[0]));
palette?.addEventListener("keydown", (event) => {
  const found = options();
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const shown = document.getElementById("found-anything").dataset.text === text.value.trim().replace(/\s+/g, " ");
  if (by) choose(found.at((found.indexOf(chosen()) + by) % found.length));
  else if (event.key === "Enter" && shown) (chosen() ?? found[0])?.click(); // else the form asks for the page
  else return;
  event.preventDefault();
});
palette?.addEventListener("click", (event) => { if (event.target === palette) palette.close(); });

showTheme();
