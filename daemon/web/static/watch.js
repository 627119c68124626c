"use strict";
// Standing questions: what each says, what it found, the form that asks and changes them. Loaded before app.js, which
// has the helpers (`$`, `make`, `get`, ...) and calls `startWatches` and `onWatch`.

const KEYS = { // key of a question -> its field
  name: "w-name", question: "w-question", cameras: "w-cameras", for_s: "w-for", severity: "w-severity", kind: "w-kind", reads: "w-reads",
  debounce_s: "w-debounce", cooldown_s: "w-cooldown", on_above: "w-on", off_below: "w-off", schedule: "w-schedule",
};
const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const UNITS = [86400, 3600, 60, 1];
const PAGE = 10; // events of a history that are fetched at once
const NEWS = 3; // lines of what was told lately
const FRESH_MS = 8000; // a question that has just fired stands out for so long
const watching = new Map(); // name -> card
let editing = null; // what the form changes; null: it asks a new one
let removed = null; // {name, spec}: what `undo` brings back

const watchPath = (name) => `/watch/${encodeURIComponent(name)}`;

function lasted(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

const percent = (share) => `${Math.round(100 * share)} %`;

// -- cards -------------------------------------------------------------------------------------------------------

function watchCard(name) {
  const part = (tag, kind, ...children) => make(tag, { class: kind }, ...children);
  const press = (action, text, run) => make("button", { type: "button", "data-action": action, onclick: run }, text);
  const found = {
    name, data: null, state: part("span", "says"), question: part("p", "asked"), about: part("p", "quiet"),
    list: part("ol", "past"), more: press("older", "Older", () => drawPast(found, true)),
    news: make("p", { class: "quiet", role: "status" }),
  };
  found.past = make("div", { class: "history", id: `past-${name}`, hidden: "" }, found.news, found.list, found.more);
  found.open = press("history", "History", () => toggleHistory(found));
  found.open.setAttribute("aria-controls", `past-${name}`);
  found.open.setAttribute("aria-expanded", "false");
  found.edit = press("edit", "Edit", () => editWatch(found.data));
  found.toggle = press("toggle", "", () => switchWatch(found));
  found.remove = press("remove", "Remove", () => removeWatch(found));
  for (const button of [found.open, found.edit, found.remove, found.more]) button.setAttribute("aria-label", `${button.textContent}: ${name}`);
  const problem = make("p", { class: "problem", role: "alert" });
  found.problem = problem;
  found.item = make("li", { class: "watch", "data-watch": name },
    part("div", "watch-head", make("h3", {}, name), found.state), found.question, found.about,
    part("div", "buttons", found.open, found.edit, found.toggle, found.remove), problem, found.past);
  return found;
}

function says({ spec, state }) {
  if (state.error) return ["unknown", state.error];
  if (!spec.enabled) return ["idle", "switched off"];
  if (state.state === "ON") return ["yes", `yes, since ${when(state.since)}`];
  if (!state.put) return ["idle", state.evaluated_at || spec.schedule.length ? "not asked now" : "not asked yet"];
  return ["no", "no"];
}

function paintWatch(found, data) {
  found.data = data;
  const { spec, state } = data;
  const [kind, text] = says(data);
  found.item.dataset.state = state.state || "";
  found.item.dataset.severity = spec.severity;
  found.state.className = `says ${kind}`;
  if (found.state.textContent !== text) found.state.textContent = text;
  found.question.textContent = spec.question;
  const parts = [spec.cameras.length ? spec.cameras.join(", ") : "all cameras"];
  if (spec.for_s) parts.push(`for ${lasted(spec.for_s)} or longer`);
  if (spec.severity !== "info") parts.push(spec.severity);
  if (spec.schedule.length) parts.push(spec.schedule.map((hours) => `${hours.days.length === 7 ? "every day" : hours.days.join(" ")} ${hours.from}–${hours.until}`).join(", "));
  const probable = Object.values(state.probability);
  if (kind !== "idle" && probable.length) parts.push(`${percent(Math.max(...probable))} probable`);
  if (state.last_hour || spec.kind === "count") parts.push(`${state.last_hour} in the last hour`);
  if (state.missed) parts.push(`${state.missed} looks missed`);
  if (!data.removable) parts.push("from the configuration file");
  found.about.textContent = parts.join(" · ");
  found.toggle.textContent = spec.enabled ? "Switch off" : "Switch on";
  found.toggle.setAttribute("aria-label", `${found.toggle.textContent}: ${found.name}`);
  found.remove.hidden = !data.removable;
  found.remove.textContent = data.configured ? "Undo changes" : "Remove";
}

async function drawWatches() {
  const all = (await (await get("/watch")).json()).watches;
  const names = new Set(all.map((item) => item.name));
  for (const [name, found] of watching) if (!names.has(name)) { clear(found.list); found.item.remove(); watching.delete(name); }
  for (const [place, data] of all.entries()) {
    if (!watching.has(data.name)) watching.set(data.name, watchCard(data.name));
    const found = watching.get(data.name);
    const list = $("watches");
    if (list.children[place] !== found.item) list.insertBefore(found.item, list.children[place] || null);
    paintWatch(found, data);
  }
  $("watch-none").hidden = all.length > 0;
  $("watch-problem-list").textContent = "";
  $("watches").setAttribute("aria-busy", "false");
}

async function drawWatch(name) {
  if (!watching.has(name)) return drawWatches();
  paintWatch(watching.get(name), await (await get(watchPath(name))).json());
}

function say(text, type) {
  $("watch-news").prepend(make("p", { "data-type": type }, text));
  while ($("watch-news").children.length > NEWS) $("watch-news").lastChild.remove();
}

function watchFault(error) { $("watch-problem-list").textContent = `Standing questions: ${error.message}`; }

function onWatch(told) {
  const { watch, question, cameras, start_time: from, end_time: to } = told.after;
  const where = cameras.length ? `, ${cameras.join(", ")}` : "";
  if (told.type === "new") say(`${watch}: ${question} Yes, since ${when(from)}${where}.`, "new");
  if (told.type === "end") say(`${watch}: over after ${lasted(to - from)}, at ${when(to)}${where}.`, "end");
  const found = watching.get(watch);
  if (found && told.type === "new") {
    found.item.classList.add("fresh");
    setTimeout(() => found.item.classList.remove("fresh"), FRESH_MS);
  }
  drawWatch(watch).catch(() => {}); // a moment later it is drawn anyway
  if (found && !found.past.hidden) drawPast(found, false);
}

// -- history -----------------------------------------------------------------------------------------------------

function toggleHistory(found) {
  const show = found.past.hidden;
  found.past.hidden = !show;
  found.open.setAttribute("aria-expanded", String(show));
  if (show) drawPast(found, false);
}

async function drawPast(found, older) {
  const last = found.events && found.events[found.events.length - 1];
  const query = new URLSearchParams({ limit: PAGE });
  if (older && last) query.set("before", String(last.start_time));
  try {
    const { events } = await (await get(`${watchPath(found.name)}/events?${query}`)).json();
    if (!older) clear(found.list);
    found.events = older ? [...found.events, ...events] : events;
    found.list.append(...events.map(pastEvent));
    found.more.hidden = events.length < PAGE;
    found.news.textContent = found.events.length ? "" : "It has found nothing yet.";
  } catch (error) {
    found.news.textContent = `No history: ${error.message}`;
  }
}

function pastEvent(event) {
  const open = event.state === "ON";
  const until = open ? "still so" : event.end_time === null ? "end not seen" : `${lasted(event.end_time - event.start_time)}`;
  const text = `${when(event.start_time)}, ${until}`;
  const why = { schedule: "ended by its hours", disabled: "switched off", changed: "the question was changed", removed: "the question was removed" }[event.reason];
  const about = [event.cameras.join(", "), `${percent(event.probability)} probable`, why].filter(Boolean).join(" · ");
  const pictures = event.pictures.map((picture) => {
    const image = make("img", { alt: "" });
    const label = `${event.watch}: ${picture.camera}, ${when(picture.t)}`;
    show(image, picture.picture.slice(API.length)).catch((error) => { image.alt = `no picture: ${error.message}`; });
    return make("button", { type: "button", class: "shot", "aria-label": `Enlarge: ${label}`, onclick: () => enlarge(image, label) }, image);
  });
  const camera = event.pictures.length ? event.pictures[0].camera : event.cameras[0];
  const go = camera && make("button", { type: "button", class: "link", "data-action": "timeline", "aria-label": `Show on the timeline: ${text}`, onclick: () => goTo(camera, event.start_time) }, "On the timeline");
  return make("li", { "data-event": event.id, "data-open": String(open) }, make("div", { class: "shots" }, ...pictures),
    make("div", {}, make("strong", {}, text), make("p", { class: "quiet" }, about, " ", go || "")));
}

// -- changes -----------------------------------------------------------------------------------------------------

function putWatch(name, spec) {
  const headers = { "Content-Type": "application/json" };
  return get(watchPath(name), { method: "PUT", headers, body: JSON.stringify(spec) });
}

async function switchWatch(found) {
  found.problem.textContent = "";
  try {
    await putWatch(found.name, { ...found.data.spec, enabled: !found.data.spec.enabled });
    await drawWatch(found.name);
  } catch (error) { found.problem.textContent = error.message; }
}

async function removeWatch(found) {
  found.problem.textContent = "";
  try {
    const was = await (await get(watchPath(found.name), { method: "DELETE" })).json();
    removed = { name: was.name, spec: was.spec };
    $("watch-gone").hidden = false;
    $("watch-gone-text").textContent = was.configured ? `${was.name} is again as in the configuration file.` : `${was.name} was removed.`;
    $("watch-undo").focus();
    await drawWatches();
  } catch (error) { found.problem.textContent = error.message; }
}

async function undoRemove() {
  const { name, spec } = removed;
  try {
    await putWatch(name, spec);
    $("watch-gone").hidden = true;
    await drawWatches();
    const found = watching.get(name);
    if (found) found.open.focus();
  } catch (error) { $("watch-gone-text").textContent = error.message; }
}

// -- form --------------------------------------------------------------------------------------------------------

function hoursRow(hours = { days: DAYS, from: "08:00", until: "18:00" }) {
  const days = DAYS.map((day) => make("label", { class: "tick" }, make("input", { type: "checkbox", name: "day", value: day, ...(hours.days.includes(day) ? { checked: "" } : {}) }), day));
  const clock = (name, value, text) => make("label", {}, text, make("input", { type: "time", name, value, required: "" }));
  const row = make("div", { class: "hours" }, make("div", { class: "ticks-row", role: "group", "aria-label": "Days" }, ...days),
    clock("from", hours.from, "from"), clock("until", hours.until, "until"),
    make("button", { type: "button", class: "link", onclick: () => { row.remove(); $("w-schedule-add").focus(); } }, "Leave out"));
  $("w-hours").append(row);
  return row;
}

function showForm(data) {
  editing = data ? data.name : null;
  const spec = data ? data.spec : null;
  const form = $("watch-form");
  form.reset();
  problems({});
  form.hidden = false;
  $("watch-new").hidden = true;
  $("watch-form-title").textContent = data ? `Change ${data.name}` : "New standing question";
  $("w-name").value = data ? data.name : "";
  $("w-name").readOnly = Boolean(data);
  $("w-name").dataset.own = data ? "1" : "";
  const chosen = spec ? spec.cameras : [];
  const names = [...new Set([...cameras.keys(), ...chosen])];
  $("w-camera-list").replaceChildren(...names.map((name) =>
    make("label", { class: "tick" }, make("input", { type: "checkbox", name: "camera", value: name, ...(chosen.includes(name) ? { checked: "" } : {}) }), name)));
  $("w-hours").replaceChildren();
  if (spec) {
    const unit = UNITS.find((item) => spec.for_s >= item && spec.for_s % item === 0) || 1;
    $("w-question").value = spec.question;
    $("w-for").value = spec.for_s ? spec.for_s / unit : "";
    $("w-for-unit").value = String(spec.for_s ? unit : 60);
    $("w-severity").value = spec.severity;
    $("w-kind").value = spec.kind;
    $("w-reads").value = spec.reads;
    $("w-debounce").value = spec.debounce_s;
    $("w-cooldown").value = spec.cooldown_s;
    $("w-on").value = spec.on_above;
    $("w-off").value = spec.off_below;
    for (const hours of spec.schedule) hoursRow(hours);
  }
  $("watch-advanced").open = Boolean(spec && spec.schedule.length);
  $("w-question").focus();
}

function hideForm() {
  const back = editing && watching.get(editing);
  $("watch-form").hidden = true;
  $("watch-new").hidden = false;
  (back ? back.edit : $("watch-new")).focus();
}

const editWatch = (data) => showForm(data);

function suggestName() {
  if ($("w-name").dataset.own) return;
  const words = $("w-question").value.toLowerCase().replace(/[^a-z0-9 ]/g, " ").split(/\s+/);
  const dull = new Set("is are there a an the any anybody somebody someone in on at to of it does do has have be".split(" "));
  $("w-name").value = words.filter((word) => word && !dull.has(word)).slice(0, 3).join("_").slice(0, 40);
}

function amount(id, scale) {
  const text = $(id).value.trim();
  if (!text) return undefined; // the daemon's default
  const number = Number(text.replace(",", "."));
  return Number.isFinite(number) ? number * scale : text; // what is no number the daemon refuses, and says why
}

function formSpec() {
  const old = editing && watching.get(editing);
  const ticked = (place, name) => [...place.querySelectorAll(`input[name=${name}]:checked`)].map((item) => item.value);
  return {
    ...(old ? old.data.spec : {}),
    question: $("w-question").value, kind: $("w-kind").value, severity: $("w-severity").value, reads: $("w-reads").value,
    cameras: ticked($("w-cameras"), "camera"), enabled: old ? old.data.spec.enabled : true,
    for_s: amount("w-for", Number($("w-for-unit").value)), debounce_s: amount("w-debounce", 1), cooldown_s: amount("w-cooldown", 1),
    on_above: amount("w-on", 1), off_below: amount("w-off", 1),
    schedule: [...$("w-hours").children].map((row) => ({
      days: ticked(row, "day"), from: row.querySelector("[name=from]").value, until: row.querySelector("[name=until]").value,
    })),
  };
}

function problems(found) {
  for (const [key, id] of Object.entries(KEYS)) {
    const field = $(id);
    $(`${id}-problem`).textContent = found[key] || "";
    if (found[key]) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }
  $("watch-problem").textContent = found[""] || "";
}

function refused(text, place) {
  const key = (place || "").split(".")[0];
  const known = key in KEYS;
  problems({ [known ? key : ""]: known ? text.replace(/^[a-z_0-9.]+: /, "") : text });
  if (!known) return;
  const field = $(KEYS[key]);
  const advanced = field.closest("details");
  if (advanced) advanced.open = true;
  (field.matches("input, select") ? field : field.querySelector("input, button") || field).focus();
}

async function saveWatch(event) {
  event.preventDefault();
  const name = $("w-name").value.trim();
  if (!$("w-question").value.trim()) return refused("write what is to be answered with yes or no", "question");
  if (!name) return refused("give it a name: a-z, 0-9 and _", "name");
  if (!editing && watching.has(name)) return refused("there is one of this name; choose another, or edit that one", "name");
  $("watch-save").disabled = true;
  try {
    await putWatch(name, formSpec());
    problems({});
    await drawWatches();
    say(editing ? `${name} was changed.` : `${name} is asked from now on.`, "saved");
    editing = name;
    hideForm();
  } catch (error) {
    refused(error.message, error.place);
  } finally {
    $("watch-save").disabled = false;
  }
}

function startWatches() {
  $("watch-new").addEventListener("click", () => showForm(null));
  $("watch-cancel").addEventListener("click", hideForm);
  $("watch-form").addEventListener("submit", saveWatch);
  $("watch-form").addEventListener("keydown", (event) => { if (event.key === "Escape") hideForm(); });
  $("w-question").addEventListener("input", suggestName);
  $("w-name").addEventListener("input", () => { $("w-name").dataset.own = $("w-name").value ? "1" : ""; });
  $("w-schedule-add").addEventListener("click", () => hoursRow().querySelector("input").focus());
  $("watch-undo").addEventListener("click", undoRemove);
  $("watch-gone-close").addEventListener("click", () => { $("watch-gone").hidden = true; $("watch-new").focus(); });
  setInterval(() => { if (!document.hidden) drawWatches().catch(watchFault); }, FOLLOW_MS);
}
