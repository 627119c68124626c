"use strict";
// The page: one event stream for states, one request for each question, pictures as blobs. Talks to this daemon only.

const API = "/api/v1";
const LENGTHS = [60, 600, 3600, 21600, 86400, 604800];
const BINS = 240;
const FOLLOW_MS = 10000; // a timeline that ends now is drawn again this often
const $ = (id) => document.getElementById(id);

const cameras = new Map(); // name -> {card, state, picture}
const time = { camera: "", length: 3600, until: 0, follow: true, at: 0, data: null, turn: 0 };
let scope = null; // {camera, since, until}: the time a question is about
let asking = null; // AbortController of the question that is being answered

function make(tag, attributes, ...children) {
  const found = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) found.setAttribute(key, value);
  }
  found.append(...children);
  return found;
}

async function get(path, options) {
  const reply = await fetch(API + path, options);
  if (reply.status === 401) location.assign("/login?next=/");
  if (!reply.ok) {
    let found = {};
    try { found = await reply.json(); } catch { /* no JSON: the status must do */ }
    throw Object.assign(new Error(found.error || reply.statusText || `status ${reply.status}`), { place: found.place });
  }
  return reply;
}

function ago(seconds) {
  if (seconds === null || seconds === undefined) return "never seen";
  if (seconds < 1.5) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

function clock(epoch, withDay, withSeconds = true) {
  const day = withDay ? { day: "numeric", month: "short" } : {};
  const second = withSeconds ? { second: "2-digit" } : {};
  return new Date(epoch * 1000).toLocaleString(undefined, { ...day, hour: "2-digit", minute: "2-digit", ...second });
}

function when(epoch) {
  return clock(epoch, new Date(epoch * 1000).toDateString() !== new Date().toDateString());
}

// -- pictures ----------------------------------------------------------------------------------------------------

async function show(image, path) {
  const reply = await get(path);
  const blob = await reply.blob();
  if (image.dataset.url) URL.revokeObjectURL(image.dataset.url);
  image.dataset.url = image.src = URL.createObjectURL(blob);
  return reply;
}

// Nothing is asked for before the page was painted: work on what comes back would only hold that up.
function afterPaint(run) {
  if (document.hidden) run(); // nothing is painted
  else requestAnimationFrame(() => requestAnimationFrame(run));
}

function clear(list) {
  for (const image of list.querySelectorAll("img")) if (image.dataset.url) URL.revokeObjectURL(image.dataset.url);
  list.replaceChildren();
}

function thumbnail(path, text, open) {
  const image = make("img", { alt: "" });
  show(image, path).catch((error) => { image.alt = `no picture: ${error.message}`; });
  return make("li", {}, make("button", { type: "button", onclick: () => open(image), "aria-label": text }, image, make("span", {}, text)));
}

function enlarge(image, text) {
  $("large-picture").src = image.src;
  $("large-picture").alt = text;
  $("large-about").textContent = text;
  $("large").showModal();
}

// -- cameras -----------------------------------------------------------------------------------------------------

function card(name) {
  const image = make("img", { alt: `newest picture of ${name}`, hidden: "" });
  const state = make("span", { class: "state" });
  const about = make("span", {});
  const button = make("button", { type: "button", "aria-label": `Ask about ${name} and show its timeline`, onclick: () => choose(name) }, image);
  const found = { image, stateLine: state, about, state: null, picture: null };
  $("cameras").append(make("li", {}, button, make("h3", {}, name), make("p", {}, state, " ", about)));
  $("ask-camera").append(make("option", { value: name }, name));
  $("time-camera").append(make("option", { value: name }, name));
  if (!time.camera) { time.camera = name; draw(); }
  return found;
}

function onCamera(state) {
  if (!cameras.has(state.camera)) cameras.set(state.camera, card(state.camera));
  const found = cameras.get(state.camera);
  found.state = { ...state, heard: Date.now() / 1000 };
  found.stateLine.textContent = state.state;
  found.stateLine.className = `state ${state.state}`;
  if (state.picture && state.picture !== found.picture) {
    found.picture = state.picture;
    show(found.image, `/cameras/${state.camera}/snapshot.jpg`).then(() => { found.image.hidden = false; }).catch(() => { found.picture = null; });
  }
  ages();
}

function ages() {
  for (const { about, state } of cameras.values()) {
    if (!state) continue;
    const age = state.newest_age_s === null ? null : state.newest_age_s + Date.now() / 1000 - state.heard;
    const parts = [ago(age), state.reason, state.state === "online" ? `${state.fps} fps` : "", `${state.carriers} moments in memory`];
    about.textContent = parts.filter(Boolean).join(", ");
  }
}

function choose(name) {
  $("ask-camera").value = name;
  $("time-camera").value = time.camera = name;
  setScope(null);
  draw();
  $("question").focus();
}

// -- health ------------------------------------------------------------------------------------------------------

function onStatus(status) {
  const paused = status.cameras_paused ? `, ${status.cameras_paused} paused` : "";
  $("summary").textContent = `${status.cameras_online} of ${status.cameras_total} cameras online${paused}, ${status.answered} answers`;
  const hours = status.uptime_s / 3600;
  const rows = [
    ["Running", hours < 48 ? `${hours.toFixed(1)} h` : `${(hours / 24).toFixed(1)} days`],
    ["Model", status.model],
    ["Questions waiting", status.queue_depth],
    ["First word, median", status.first_token_ms_p50 === null ? "–" : `${Math.round(status.first_token_ms_p50)} ms`],
    ["Frames remembered", status.frames_kept],
    ["Archive", status.archive_ok ? `${(status.archive_bytes / 1e6).toFixed(1)} MB` : `not written: ${status.archive_reason}`, !status.archive_ok],
    ["Lost by the archive", status.archive_dropped, status.archive_dropped > 0],
    ["Broker reconnects", status.mqtt_reconnects],
    ["Version", status.version],
  ];
  $("health").replaceChildren(...rows.map(([name, value, bad]) =>
    make("div", {}, make("dt", {}, name), make("dd", bad ? { class: "bad" } : {}, String(value)))));
}

function listen() {
  const events = new EventSource(`${API}/events`);
  events.addEventListener("camera", (event) => onCamera(JSON.parse(event.data)));
  events.addEventListener("status", (event) => onStatus(JSON.parse(event.data)));
  events.addEventListener("watch", (event) => onWatch(JSON.parse(event.data)));
  events.addEventListener("watches", () => drawWatches().catch(watchFault));
  events.addEventListener("lost", () => drawWatches().catch(watchFault)); // too slow; cameras are told again anyway
  events.onerror = () => {
    $("summary").textContent = "not connected; trying again …";
    if (events.readyState === EventSource.CLOSED) {
      setTimeout(listen, 3000);
      get("/status").catch(() => {}); // with a token that is no longer good this leads to the form
    }
  };
}

// -- ask ---------------------------------------------------------------------------------------------------------

function setScope(found) {
  scope = found;
  $("ask-scope").hidden = !found;
  if (found) $("ask-scope-text").textContent = `About ${found.camera}, ${when(found.since)} to ${clock(found.until)}.`;
}

async function* serverEvents(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const kind = /^event: (.*)$/m.exec(part);
      const data = /^data: (.*)$/m.exec(part);
      if (kind && data) yield [kind[1], JSON.parse(data[1])];
    }
  }
}

async function ask(question) {
  if (asking) asking.abort();
  const mine = asking = new AbortController();
  const body = { question };
  if ($("ask-camera").value) body.cameras = [$("ask-camera").value];
  if (scope) Object.assign(body, { cameras: [scope.camera], since: scope.since, until: scope.until });
  const box = $("answer");
  box.hidden = false;
  box.classList.remove("error");
  box.setAttribute("aria-busy", "true");
  $("answer-question").textContent = question;
  $("answer-text").textContent = $("answer-about").textContent = "";
  clear($("evidence"));
  try {
    const headers = { "Content-Type": "application/json", Accept: "text/event-stream" };
    const reply = await get("/ask", { method: "POST", headers, body: JSON.stringify(body), signal: mine.signal });
    let whole = false;
    for await (const [kind, data] of serverEvents(reply)) {
      if (mine !== asking) return;
      if (kind === "chunk") $("answer-text").textContent += data.text;
      if (kind === "answer") { whole = true; answered(data); }
    }
    if (!whole) throw new Error("the connection ended before the answer did; ask again");
  } catch (error) {
    if (mine !== asking || error.name === "AbortError") return;
    box.classList.add("error");
    $("answer-text").textContent = error.message;
  }
  box.setAttribute("aria-busy", "false");
}

function answered(answer) {
  $("answer").classList.toggle("error", answer.status !== "ok" && answer.status !== "no_evidence");
  $("answer-text").textContent = answer.answer;
  const about = [];
  if (answer.confidence !== null) about.push(`${Math.round(answer.confidence * 100)} % sure`);
  about.push(`${answer.memory.carriers} moments read`);
  if (answer.memory.recalled) about.push(`${answer.memory.recalled} from the archive`);
  if (answer.memory.newest_age_s !== null) about.push(`newest picture ${ago(answer.memory.newest_age_s)}`);
  if (answer.memory.gaps.length) about.push(`${answer.memory.gaps.length} times not seen`);
  about.push(`${(answer.timing_ms.total / 1000).toFixed(1)} s`);
  $("answer-about").textContent = about.join(", ");
  answer.evidence.forEach((item, number) => {
    if (!item.frame) return;
    const text = `${item.camera}, ${when(item.t)}`;
    const path = `/answers/${encodeURIComponent(answer.id)}/evidence/${number}.jpg`;
    $("evidence").append(thumbnail(path, text, (image) => enlarge(image, text)));
  });
}

// -- timeline ----------------------------------------------------------------------------------------------------

function range() {
  const until = time.follow ? Date.now() / 1000 : time.until;
  return [until - time.length, until];
}

async function draw() {
  if (!time.camera) return;
  const turn = ++time.turn;
  const [since, until] = range();
  const query = new URLSearchParams({ since: since.toFixed(3), until: until.toFixed(3), resolution: BINS });
  try {
    const data = await (await get(`/cameras/${time.camera}/timeline?${query}`)).json();
    if (turn !== time.turn) return; // a newer one is on its way
    const pictures = !time.data || JSON.stringify(time.data.keyframes) !== JSON.stringify(data.keyframes);
    time.data = data;
    if (time.at < since || time.at > until) time.at = until;
    paint(pictures);
    if (!diary.words) drawDiary();
  } catch (error) {
    $("time-about").textContent = `No timeline: ${error.message}`;
  }
}

function shape(kind, from, to, y, height) {
  const { since, until } = time.data;
  const scale = 1000 / (until - since);
  const x = Math.max(0, (from - since) * scale);
  const found = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const width = Math.max(1.2, Math.min(1000, (to - since) * scale) - x);
  for (const [key, value] of Object.entries({ class: kind, x, y, width, height })) found.setAttribute(key, value);
  return found;
}

function paint(pictures) {
  const data = time.data;
  const most = Math.max(1, ...data.bins.map((bin) => bin.carriers));
  const parts = data.bins.map((bin) => {
    const height = 8 + 26 * Math.sqrt(bin.carriers / most);
    return shape("kept", bin.from, bin.to, 36 - height, height);
  });
  for (const span of data.held || []) parts.push(shape("held", span.from, span.to, 40, 14));
  for (const gap of data.gaps) parts.push(shape("gap", gap.since, gap.until === null ? data.until : gap.until, 58, 10));
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
  cursor.setAttribute("class", "cursor");
  cursor.id = "time-cursor";
  $("time-svg").replaceChildren(...parts, cursor);
  ticks();
  place();
  paintDiary();
  const held = data.held === null ? "the model is busy" : `${data.held.length} moments in memory`;
  const gaps = data.gaps.length ? `, ${data.gaps.length} times not seen` : "";
  $("time-about").textContent = `${data.camera}, ${when(data.since)} to ${when(data.until)}: ${held}${gaps}.`;
  if (!pictures) return;
  drawKeyframes(data.keyframes);
}

// Those that are shown already stay: they are not fetched again. What the timeline has no more is forgotten.
function drawKeyframes(frames) {
  const list = $("keyframes");
  const shown = new Map([...list.children].map((item) => [item.dataset.picture, item]));
  for (const [number, frame] of frames.entries()) {
    let item = shown.get(frame.picture);
    shown.delete(frame.picture);
    if (!item || item.querySelector("img").alt) { // its picture did not come
      if (item) item.remove();
      item = thumbnail(frame.picture.slice(API.length), when(frame.t), () => { time.at = frame.t; place(); open(); });
      item.dataset.picture = frame.picture;
    }
    if (list.children[number] !== item) list.insertBefore(item, list.children[number] || null);
  }
  for (const item of shown.values()) { clear(item); item.remove(); }
}

function ticks() {
  const { since, until } = time.data;
  const steps = [10, 60, 300, 900, 3600, 10800, 21600, 86400];
  const most = $("time").clientWidth < 500 ? 4 : 7;
  const step = steps.find((item) => (until - since) / item <= most) || 86400;
  const offset = new Date(until * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((since - offset) / step) * step + offset; at < until; at += step) {
    const label = step === 86400 ? new Date(at * 1000).toLocaleDateString(undefined, { day: "numeric", month: "short" }) : clock(at, false, step < 60);
    const tick = make("span", {}, label);
    tick.style.left = `${(100 * (at - since)) / (until - since)}%`;
    found.push(tick);
  }
  $("time-ticks").replaceChildren(...found);
}

function place() {
  if (!time.data) return;
  const { since, until, gaps, bins, held } = time.data;
  const x = (1000 * (time.at - since)) / (until - since);
  const cursor = $("time-cursor");
  for (const [key, value] of Object.entries({ x1: x, x2: x, y1: 0, y2: 84 })) cursor.setAttribute(key, value);
  const gap = gaps.find((item) => item.since <= time.at && (item.until === null || item.until >= time.at));
  const known = bins.some((item) => item.from <= time.at && item.to >= time.at) || (held || []).some((item) => item.from <= time.at && item.to >= time.at);
  const slider = $("time");
  markDiary();
  slider.setAttribute("aria-valuemin", Math.floor(since));
  slider.setAttribute("aria-valuemax", Math.ceil(until));
  slider.setAttribute("aria-valuenow", Math.round(time.at));
  slider.setAttribute("aria-valuetext", `${when(time.at)}, ${gap ? `not seen: ${gap.reason}` : known ? "remembered" : "nothing"}`);
}

async function open() {
  const { camera, at } = time;
  $("moment").hidden = false;
  $("moment-about").textContent = "…";
  try {
    const reply = await show($("moment-picture"), `/cameras/${camera}/moments/${at.toFixed(3)}.jpg`);
    const from = Number(reply.headers.get("Moment-From"));
    const to = Number(reply.headers.get("Moment-To"));
    const text = to - from < 1 ? `${camera}, ${when(from)}` : `${camera}, ${when(from)} to ${clock(to)}`;
    $("moment-about").textContent = $("moment-picture").alt = text;
    $("moment-picture").hidden = false;
    const slack = Math.max(2, time.length / BINS);
    $("moment-ask").onclick = () => {
      setScope({ camera, since: Math.max(0, from - slack), until: to + slack });
      $("ask-camera").value = camera;
      $("question").value = "What happened here?";
      ask($("question").value);
      $("question").focus();
    };
    $("moment-ask").hidden = false;
  } catch (error) {
    $("moment-about").textContent = error.message;
    $("moment-picture").hidden = $("moment-ask").hidden = true;
  }
}

function goTo(camera, at) {
  const now = Date.now() / 1000;
  $("time-camera").value = time.camera = camera;
  time.at = at;
  time.until = Math.min(now, at + time.length / 2);
  follow(time.until >= now);
  open();
  $("time").focus();
}

function move(share) {
  const [, until] = range();
  const now = Date.now() / 1000;
  time.until = Math.min(now, until + share * time.length);
  follow(time.until >= now);
}

function follow(on) {
  time.follow = on;
  $("time-now").setAttribute("aria-pressed", String(on));
  draw();
}

function zoom(step) {
  const place = LENGTHS.indexOf(time.length) + step;
  if (place < 0 || place >= LENGTHS.length) return;
  const now = Date.now() / 1000;
  const wanted = LENGTHS[place];
  const until = Math.min(now, time.at + wanted / 2); // what the cursor shows stays in the middle
  time.length = wanted;
  $("time-length").value = String(wanted);
  time.until = until;
  follow(until >= now);
}

function onKey(event) {
  const step = time.length / BINS;
  const moves = { ArrowLeft: -step, ArrowRight: step, PageUp: 10 * step, PageDown: -10 * step };
  if (event.key in moves && time.data) {
    time.at = Math.min(time.data.until, Math.max(time.data.since, time.at + moves[event.key]));
    place();
  } else if (event.key === "Home" && time.data) { time.at = time.data.since; place(); }
  else if (event.key === "End" && time.data) { time.at = time.data.until; place(); }
  else if (event.key === "Enter" || event.key === " ") open();
  else if (event.key === "+" || event.key === "=") zoom(-1);
  else if (event.key === "-") zoom(1);
  else return;
  event.preventDefault();
}

// -- start -------------------------------------------------------------------------------------------------------

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (question) ask(question);
});
$("ask-scope-clear").addEventListener("click", () => { setScope(null); $("question").focus(); });
$("ask-camera").addEventListener("change", () => setScope(null));
$("time-camera").addEventListener("change", (event) => { time.camera = event.target.value; draw(); });
$("time-length").addEventListener("change", (event) => { time.length = Number(event.target.value); draw(); });
$("time-earlier").addEventListener("click", () => move(-0.5));
$("time-later").addEventListener("click", () => move(0.5));
$("time-now").addEventListener("click", () => follow(true));
$("time").addEventListener("keydown", onKey);
$("time").addEventListener("click", (event) => {
  if (!time.data) return;
  const box = $("time-svg").getBoundingClientRect();
  const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  time.at = time.data.since + share * (time.data.until - time.data.since);
  place();
  open();
});
setInterval(ages, 1000);
setInterval(() => { if (time.follow && !document.hidden) draw(); }, FOLLOW_MS);
startWatches();
startDiary();
afterPaint(() => { listen(); drawWatches().catch(watchFault); });
