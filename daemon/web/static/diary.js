"use strict";
// The diary: lines of the time and camera that the timeline shows, or those with some words in them. Loaded before
// app.js, which has the helpers and calls `drawDiary` with each timeline, and `markDiary` when its cursor moves.

const LINES = 200; // of one time; the newest
const diary = { lines: [], words: "", turn: 0, key: "" };

async function drawDiary() {
  const turn = ++diary.turn;
  const query = new URLSearchParams({ limit: LINES });
  if (diary.words) query.set("q", diary.words);
  else {
    const [since, until] = range();
    for (const [key, value] of Object.entries({ camera: time.camera, since: since.toFixed(3), until: until.toFixed(3) })) query.set(key, value);
  }
  let found;
  try {
    found = await (await get(`/diary?${query}`)).json();
    $("diary-problem").textContent = "";
  } catch (error) {
    if (turn === diary.turn) $("diary-problem").textContent = `No diary: ${error.message.replace(/^q: /, "")}`;
    return;
  }
  if (turn !== diary.turn) return; // a newer one is on its way
  diary.lines = found.lines;
  $("diary").hidden = !found.written && !found.lines.length && !diary.words;
  const key = JSON.stringify([diary.words, found.lines]);
  if (key !== diary.key) {
    diary.key = key;
    $("diary-lines").replaceChildren(...found.lines.map(diaryLine));
    if (!diary.words) $("diary-lines").scrollTop = $("diary-lines").scrollHeight; // the newest is at the end
  }
  $("diary-about").textContent = found.lines.length === LINES ? `the newest ${LINES} lines` : found.lines.length === 1 ? "1 line" : `${found.lines.length || "no"} lines`;
  if (diary.words) $("diary-about").textContent += ` with “${diary.words}”, of all cameras and times`;
  paintDiary();
}

function diaryLine(line) {
  const long = line.to - line.from >= 60;
  const at = line.kind === "day" ? new Date(line.from * 1000).toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "short" })
    : long ? `${when(line.from)}–${clock(line.to)}` : when(line.from);
  const where = diary.words ? `${line.camera} ` : "";
  const button = make("button", { type: "button", onclick: () => goTo(line.camera, line.from) }, make("span", { class: "when" }, `${at} ${where}`), line.text);
  return make("li", { "data-kind": line.kind, "data-from": line.from }, button);
}

// Marks on the timeline, of the lines that belong to what it shows.
function paintDiary() {
  if (!time.data || !$("time-cursor")) return;
  for (const mark of $("time-svg").querySelectorAll(".told")) mark.remove();
  const { camera, since, until } = time.data;
  const shown = diary.lines.filter((line) => line.camera === camera && line.kind === "event" && line.to >= since && line.from <= until);
  $("time-svg").prepend(...shown.map((line) => shape("told", line.from, line.to, 72, 8)));
  markDiary();
}

// The line that tells of the cursor's moment.
function markDiary() {
  const items = [...$("diary-lines").children];
  diary.lines.forEach((line, place) => {
    const here = line.kind !== "day" && line.camera === time.camera && line.from <= time.at && line.to >= time.at;
    if (here) items[place].setAttribute("aria-current", "true");
    else items[place].removeAttribute("aria-current");
  });
}

function startDiary() {
  $("diary-search").addEventListener("submit", (event) => {
    event.preventDefault();
    diary.words = $("diary-words").value.trim();
    drawDiary();
  });
  $("diary-words").addEventListener("input", () => {
    if (!$("diary-words").value && diary.words) { diary.words = ""; drawDiary(); }
  });
}
