// Polls the jobs list, the selected job and the metrics. All text from the server goes in as textContent.
"use strict";

const period = 1500;
let selected = null;      // id of the job shown
let chosen = false;       // by a click, not by itself
let epochs = [];          // of the selected job

if (location.search) { // the token is in a cookie now: keep it out of the address bar and the history
  history.replaceState(null, "", location.pathname);
}

function get(path) {
  return fetch(path, { headers: { Accept: "application/json" }, cache: "no-store" }).then(function (r) {
    if (r.status === 401) { throw new Error("not logged in: open the address with ?token= that the daemon printed"); }
    if (!r.ok) { throw new Error(path + ": " + r.status); }
    return r.json();
  });
}

function node(tag, text, cls) {
  const n = document.createElement(tag);
  if (text !== undefined && text !== null) { n.textContent = String(text); }
  if (cls) { n.className = cls; }
  return n;
}

function number(x, digits) {
  return typeof x === "number" && isFinite(x) ? x.toFixed(digits) : "–";
}

// The first of the values that is a number, as percent.
function percent() {
  const x = Array.prototype.find.call(arguments, function (v) { return typeof v === "number"; });
  return x === undefined ? "–" : number(100 * x, 1) + " %";
}

function duration(seconds) {
  if (typeof seconds !== "number") { return null; }
  const m = Math.round(seconds / 60);
  return m < 1 ? "less than a minute" : m < 60 ? m + " min" : Math.floor(m / 60) + " h " + m % 60 + " min";
}

function share(job) {
  const p = job.progress || {};
  if (job.state === "succeeded") { return 1; }
  if (typeof p.fraction === "number") { return p.fraction; }
  if (typeof p.done === "number" && p.total > 0) { return p.done / p.total; }
  if (typeof p.epoch === "number" && p.epochs > 0) { return p.epoch / p.epochs; }
  return null;
}

function progressText(job) {
  const p = job.progress || {};
  if (typeof p.epoch === "number") { return p.epoch + (p.epochs ? " / " + p.epochs : ""); }
  if (typeof p.done === "number") { return p.done + (p.total ? " / " + p.total : ""); }
  return job.phase || "";
}

function cancel(id) {
  fetch("/v1/jobs/" + id + "/cancel", { method: "POST" }).then(tick);
}

function jobRow(job) {
  const tr = node("tr");
  tr.dataset.id = job.id;
  if (job.id === selected) { tr.className = "selected"; }
  [job.id, job.dataset, job.configuration, job.fold].forEach(function (x) { tr.appendChild(node("td", x)); });
  tr.appendChild(node("td", job.state, "state " + job.state));
  const bar = node("td"), at = share(job);
  if (at !== null) {
    const p = node("progress");
    p.max = 1;
    p.value = Math.min(1, Math.max(0, at));
    bar.appendChild(p);
  }
  bar.appendChild(node("span", " " + progressText(job), "quiet"));
  tr.appendChild(bar);
  const p = job.progress || {};
  tr.appendChild(node("td", number(p.ema_dice, 3)));
  const last = node("td");
  if (!job.finished_at && job.state !== "cancelling") {
    const b = node("button", "cancel");
    b.addEventListener("click", function (e) {
      e.stopPropagation();
      if (confirm("Cancel job " + job.id + "?")) { cancel(job.id); }
    });
    last.appendChild(b);
  }
  tr.appendChild(last);
  tr.addEventListener("click", function () { chosen = true; select(job.id); tick(); });
  return tr;
}

function select(id) {
  if (id !== selected) {
    selected = id;
    epochs = [];
    drawEpochs(epochs);
  }
}

function showJobs(jobs) {
  const body = document.getElementById("jobs");
  if (!chosen && jobs.length) {
    const active = jobs.find(function (j) { return j.state === "running"; });
    select((active || jobs[0]).id);
  }
  body.replaceChildren.apply(body, jobs.map(jobRow));
  document.getElementById("no-jobs").hidden = jobs.length > 0;
}

function figures(job) {
  const p = job.progress || {}, last = epochs[epochs.length - 1] || {};
  const pairs = [
    ["phase", job.phase], ["epoch", progressText(job)], ["training loss", number(last.train_loss, 4)],
    ["validation loss", number(last.val_loss, 4)], ["Dice (moving average)", number(last.ema, 3)],
    ["seconds per step", number(p.seconds_per_step, 3)], ["loader wait", percent(p.loader_wait_ratio, last.loader_wait)],
    ["computing", percent(p.accelerator_utilisation)], ["time left", duration(p.eta_seconds)],
    ["workers", p.workers], ["samples ready", p.queue_depth],
    ["learning rate", typeof last.lr === "number" ? last.lr.toExponential(2) : "–"],
    ["crashes", job.crashes], ["checkpoint at step", job.checkpoint_step]];
  return pairs.filter(function (x) { return x[1] !== null && x[1] !== undefined && x[1] !== ""; })
    .map(function (x) {
      const d = node("div");
      d.appendChild(node("dt", x[0]));
      d.appendChild(node("dd", x[1]));
      return d;
    });
}

function showJob(job) {
  document.getElementById("job-card").hidden = false;
  document.getElementById("job-title").textContent =
    "Job " + job.id + ": " + job.type + " " + (job.dataset || "") + ", " + job.state;
  document.getElementById("job-reason").textContent = job.reason ? job.reason.message || job.reason.code : "";
  const dl = document.getElementById("job-figures");
  dl.replaceChildren.apply(dl, figures(job));
}

// What the device waits for, worst first, in the browser's language where there is one.
function showVerdicts(b) {
  const list = document.getElementById("verdicts");
  list.replaceChildren.apply(list, b.verdicts.map(function (v) {
    const li = node("li", null, "verdict " + v.severity);
    li.appendChild(node("strong", v.code.replace(/_/g, " ")));
    li.appendChild(node("span", " " + v.text + " "));
    if (v.severity !== "healthy") { li.appendChild(node("em", v.advice)); }
    li.title = Object.keys(v.evidence).map(function (k) { return k + ": " + v.evidence[k]; }).join("\n");
    return li;
  }));
}

function signed(x) { return typeof x === "number" ? (x > 0 ? "+" : "") + number(100 * x, 1) + " %" : "–"; }

function showTuning(changes) {
  document.getElementById("tuning-box").hidden = changes.length === 0;
  const body = document.getElementById("tuning");
  body.replaceChildren.apply(body, changes.slice().reverse().map(function (c) {
    const tr = node("tr");
    [c.n, new Date(c.at).toLocaleTimeString(), c.who, c.knob, c.from + " → " + c.to, c.why.replace(/_/g, " "),
      signed(c.predicted), signed(c.measured), c.outcome].forEach(function (x) { tr.appendChild(node("td", x)); });
    return tr;
  }));
}

function loadDiagnosis(id) {
  return Promise.all([get("/v1/jobs/" + id + "/bottleneck"), get("/v1/jobs/" + id + "/tuning?limit=1000")]).then(function (x) {
    if (id !== selected) { return; }
    showVerdicts(x[0]);
    showTuning(x[1].changes);
  });
}

// New epochs only; a job that went back to a checkpoint repeats some.
function loadEpochs(id) {
  const from = epochs.length ? epochs[epochs.length - 1].epoch : 0;
  return get("/v1/jobs/" + id + "/epochs?from=" + from + "&limit=2000").then(function (d) {
    if (id !== selected) { return; }
    const first = d.epochs.length ? d.epochs[0].epoch : Infinity;
    epochs = epochs.filter(function (e) { return e.epoch < first; }).concat(d.epochs);
    drawEpochs(epochs);
  });
}

function parseMetrics(text) {
  const out = {};
  text.split("\n").forEach(function (line) {
    const m = /^([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{.*\})?) (\S+)$/.exec(line);
    if (m) { out[m[1]] = Number(m[2]); }
  });
  return out;
}

function gauge(box, name, value, text) {
  box.appendChild(node("div", name + (text ? ": " + text : ""), "quiet"));
  if (typeof value === "number" && isFinite(value)) {
    const p = node("progress");
    p.max = 1;
    p.value = Math.min(1, Math.max(0, value));
    box.appendChild(p);
  }
}

function showDevices(devices, metrics) {
  const boxes = devices.map(function (d) {
    const box = node("div", null, "device");
    box.appendChild(node("strong", d.name || d.id));
    const load = d.utilisation;
    gauge(box, "load", load, typeof load === "number" ? number(100 * load, 0) + " %" : "unknown");
    const free = d.memory_available_bytes;
    if (d.memory_bytes > 0 && typeof free === "number") {
      gauge(box, "memory", 1 - free / d.memory_bytes,
        number((d.memory_bytes - free) / 1073741824, 1) + " of " + number(d.memory_bytes / 1073741824, 1) + " GiB");
    }
    box.appendChild(node("div", d.reason ? d.state + ": " + d.reason.message
      : d.job ? "busy with job " + d.job : d.state || ""));
    return box;
  });
  const label = "{job=\"" + selected + "\"}";
  const stall = metrics["voxeld_loader_stall_ratio" + label], depth = metrics["voxeld_loader_queue_depth" + label];
  const box = node("div", null, "device");
  if (stall !== undefined || depth !== undefined) { box.appendChild(node("strong", "Loader of job " + selected)); }
  if (stall !== undefined) { gauge(box, "waiting for samples", stall, number(100 * stall, 1) + " %"); }
  if (depth !== undefined) { gauge(box, "samples ready", undefined, String(depth)); }
  boxes.push(box);
  const all = document.getElementById("devices");
  all.replaceChildren.apply(all, boxes);
}

function status(text, bad) {
  const s = document.getElementById("status");
  s.textContent = text;
  s.className = bad ? "bad" : "";
}

function refresh() {
  const jobs = get("/v1/jobs?limit=50").then(function (d) { showJobs(d.jobs); });
  const devices = Promise.all([get("/v1/devices"), fetch("/metrics", { cache: "no-store" }).then(function (r) {
    return r.text();
  })]).then(function (x) { showDevices(x[0].devices, parseMetrics(x[1])); });
  return Promise.all([jobs, devices]).then(function () {
    if (selected === null) { return; }
    return Promise.all([loadEpochs(selected), loadDiagnosis(selected)])
      .then(function () { return get("/v1/jobs/" + selected); }).then(showJob);
  });
}

let busy = false;
function tick() {
  if (busy) { return; }
  busy = true;
  refresh().then(function () {
    status("updated " + new Date().toLocaleTimeString(), false);
  }).catch(function (e) {
    status(e.message, true);
  }).finally(function () { busy = false; });
}

get("/v1/system").then(function (s) { document.getElementById("version").textContent = s.version || ""; }).catch(function () {});
tick();
setInterval(tick, period);
