"use strict";
// Fetches the status every few seconds and shows it. Sections whose data has not changed are not redrawn.
(() => {
  const { element, sparkline, badge, table, empty, seconds, duration, rate, percent, time, count, bytes } = draw;
  const UPDATE_MS = 3000;
  const TIMEOUT_MS = 10000;
  const byId = (id) => document.getElementById(id);
  const shown = new Map();
  let unreachableSince = null;
  let timer = null;
  let isFetching = false;

  // Redraws a section if its data has changed. Otherwise a redraw would clear selections and disturb screen readers.
  function show(id, data, render) {
    const text = JSON.stringify(data);
    if (shown.get(id) === text) return;
    shown.set(id, text);
    byId(id).replaceChildren(...render(data));
  }

  const several = (number, text) => `${count(number)} ${text}${number === 1 ? "" : "s"}`;
  // How many of the workers are in a state; nothing if there is only one.
  const inSome = (some, all) => (all > 1 ? ` in ${some} of ${all}` : "");

  function healthOf(target) {
    if (target.health === "not checked" || target.health === "unknown") return badge(target.health, "off");
    if (target.health === "healthy") return badge("healthy", "good");
    return badge(`unhealthy${inSome(target.unhealthy_in, target.workers)}`, "bad");
  }

  function breakerOf(target) {
    if (target.open_in) {
      const open = badge(`open${inSome(target.open_in, target.workers)}`, "bad");
      return element("span", {}, open, ` next try in ${seconds(target.open_seconds)}`);
    }
    if (target.half_open_in) return badge(`half-open${inSome(target.half_open_in, target.workers)}`, "warn");
    if (target.paused_in) return element("span", {}, badge("closed", "warn"), " paused by Retry-After");
    return badge("closed", "good");
  }

  const ROWS = [
    ["requests_per_second", "Requests/s", rate, "flow"],
    ["error_share", "Errors", percent, "fault"],
    ["p50_seconds", "p50", seconds, "time"],
    ["p95_seconds", "p95", seconds, "time"],
    ["p99_seconds", "p99", seconds, "time"],
  ];

  function figuresOf(service) {
    return element("div", { class: "figures" }, ...ROWS.map(([name, label, format, kind]) => {
      const history = service.history[name];
      // The present value is not in the history until its slot has finished.
      const known = [...history, service[name]].filter((value) => value !== null);
      const most = known.length ? Math.max(...known) : null;
      const description = `${service.name}, ${label}: ${format(service[name])} now, at most ${format(most)} in 15 minutes`;
      return element("div", { class: "figure" },
        element("span", { class: "label" }, label),
        element("strong", { class: "value", "data-figure": name }, format(service[name])),
        sparkline(history, kind, description),
        element("span", { class: "most", title: "maximum of the last 15 minutes" }, most === null ? "" : `≤ ${format(most)}`));
    }), element("div", { class: "figure", "aria-hidden": "true" },
      element("div", { class: "axis" }, element("span", {}, "15 min ago"), element("span", {}, "now"))));
  }

  const STATES = { failing: "bad", "partly failing": "warn", unknown: "off", up: "good" };
  // Failing services come first; the others stay in the order of the JSON, by name.
  const bySeverity = (services) => {
    const order = ["failing", "partly failing"];
    const rank = (one) => (order.includes(one.state) ? order.indexOf(one.state) : order.length);
    return [...services].sort((one, other) => rank(one) - rank(other));
  };

  function cardOf(service) {
    const head = element("header", {}, element("h3", {}, service.name),
      element("code", {}, service.prefix), badge(service.state, STATES[service.state]));
    const why = service.why.length ? [element("ul", { class: "why" }, ...service.why.map((text) => element("li", {}, text)))] : [];
    const codes = Object.entries(service.codes).map(([code, number]) => `${code} ${count(number)}`).join(", ");
    const facts = element("dl", { class: "facts" });
    for (const [name, text] of [
      ["In flight", count(service.in_flight)],
      ["In 15 minutes", several(service.requests, "request")],
      ["Over a limit", count(service.quota_refusals)],
      ["Refused or failed by the gateway", codes || "none"],
    ]) facts.append(element("div", {}, element("dt", {}, name), element("dd", {}, text)));
    const targets = table(`Targets of ${service.name}`, ["Target", "Health", "Breaker", "In flight"],
      service.targets.map((one) => [one.url, healthOf(one), breakerOf(one), count(one.in_flight)]), "stacked");
    return element("article", { class: "card", "aria-label": service.name }, head, ...why, figuresOf(service), facts, targets);
  }

  const REDIS = { ok: "good", down: "bad", "not configured": "off" };

  function totalsOf(status) {
    const requests = status.services.reduce((sum, one) => sum + one.requests_per_second, 0);
    const errors = status.services.reduce((sum, one) => sum + one.requests_per_second * (one.error_share || 0), 0);
    const workers = status.gateways.reduce((sum, one) => sum + one.workers.length, 0);
    const { redis } = status;
    const down = redis.state === "down" && redis.down_in ? inSome(redis.down_in, redis.workers) : "";
    const failing = status.services.filter((one) => one.state.endsWith("failing")).length;
    const unknown = status.services.filter((one) => one.state === "unknown").length;
    const all = status.services.length;
    const health = failing ? [`${failing} of ${all} failing`, "bad"]
      : unknown ? [`${unknown} of ${all} unknown`, "off"] : [`all ${all} up`, "good"];
    return [
      ["Services", health],
      ["Requests/s", rate(requests)],
      ["Errors", requests ? percent(errors / requests) : "–"],
      ["In flight", count(status.services.reduce((sum, one) => sum + one.in_flight, 0))],
      ["Over a limit, 15 min", count(status.services.reduce((sum, one) => sum + one.quota_refusals, 0))],
      ["Gateways, workers", `${status.gateways.length}, ${workers}`],
      ["Redis", [`${redis.state}${down}`, REDIS[redis.state]]],
    ];
  }

  const tiles = (totals) => totals.map(([name, value]) => element("div", { class: "tile" }, element("dt", {}, name),
    element("dd", {}, Array.isArray(value) ? badge(...value) : value)));

  function workersOf(gateways) {
    const heads = ["Process", "Up for", "Memory", "In flight", "Redis"];
    const made = gateways.flatMap((gateway) => {
      const tags = `gateway ${gateway.id}, build ${gateway.build}, configuration ${gateway.configuration}`;
      const rows = gateway.workers.map((worker) => [
        String(worker.pid), duration(worker.uptime_seconds), bytes(worker.rss_bytes), count(worker.in_flight),
        badge(worker.redis, REDIS[worker.redis]),
      ]);
      return [element("div", { class: "gateway" }, element("h3", {}, gateway.host), element("span", {}, tags)),
        table(`Workers of ${gateway.id}`, heads, rows)];
    });
    const other = (name) => new Set(gateways.flatMap((one) => one.workers.map((worker) => worker[name]))).size > 1;
    if (other("build")) made.push(element("p", { class: "note" }, badge("The workers run different builds.", "warn")));
    if (other("configuration")) {
      made.push(element("p", { class: "note" }, badge("The workers have different configurations.", "warn")));
    }
    return made;
  }

  function keysOf(keys) {
    const kinds = { fixed: "good", ok: "good", failing: "bad", "never loaded": "off" };
    return [table("Keys", ["Issuer", "State", "Loaded"], keys.map((one) => [
      one.issuer || "(any)",
      badge(one.state === "failing" ? `failing${inSome(one.failing_in, one.workers)}` : one.state, kinds[one.state]),
      one.state === "fixed" ? "from the configuration" : one.age_seconds === null ? "–" : `${duration(one.age_seconds)} ago`,
    ]), "stacked")];
  }

  function documentsOf(services) {
    const kinds = { current: "good", stale: "warn", unavailable: "bad", "not fetched": "off" };
    return [table("API documents", ["Service", "State", "Checked", "Failure"], services.map((one) => [
      one.service,
      element("span", {}, badge(one.state, kinds[one.state]), one.stale_since ? ` since ${time(one.stale_since)}` : ""),
      one.checked_seconds_ago === null ? "–" : `${duration(one.checked_seconds_ago)} ago`,
      one.failure || "–",
    ]), "stacked")];
  }

  function driftOf(drift) {
    if (!drift.compared) return [empty("No API document has been fetched yet, so there is nothing to compare with the configuration.")];
    if (!drift.count) return [empty(`${several(drift.compared, "document")} and the configuration agree.`)];
    const rows = drift.first.map((one) => [one.service, `${one.method} ${one.path}`.trim(), one.policy, one.what]);
    const made = [table("Drift", ["Service", "Operation", "Policy", "Difference"], rows, "stacked")];
    if (drift.count > rows.length) made.push(empty(`The first ${rows.length} of ${count(drift.count)} differences are shown.`));
    return made;
  }

  // {a: {b: 1}} → [["a.b", "1"]]. Keys that TOML must quote are quoted, as in `not_default`.
  function flat(tree, prefix = "") {
    return Object.entries(tree).flatMap(([key, value]) => {
      const part = /^[A-Za-z0-9_-]+$/.test(key) ? key : JSON.stringify(key);
      const name = prefix ? `${prefix}.${part}` : part;
      const isTable = value !== null && typeof value === "object" && !Array.isArray(value);
      if (isTable && Object.keys(value).length) return flat(value, name);
      if (Array.isArray(value) && value.some((one) => one !== null && typeof one === "object")) {
        return value.flatMap((one, index) => flat(one, `${name}[${index}]`));
      }
      return [[name, value === null ? "–" : JSON.stringify(value)]];
    });
  }

  function configurationOf([tree, notDefault]) {
    const values = flat(tree);
    const isSet = (name) => notDefault.some((one) => name === one || name.startsWith(`${one}.`) || name.startsWith(`${one}[`));
    const made = table("Configuration in force", ["Setting", "Value"],
      values.map(([name, value]) => [element("code", {}, name), element("code", {}, value)]), "pairs");
    made.querySelectorAll("tbody tr").forEach((row, index) => {
      if (!isSet(values[index][0])) return;
      row.className = "set";
      row.title = "not the default";
    });
    return [made];
  }

  function filter() {
    const wanted = byId("filter").value.toLowerCase();
    for (const row of byId("configuration").querySelectorAll("tbody tr")) {
      const isExcluded = byId("only-set").checked && row.className !== "set";
      row.hidden = isExcluded || !row.textContent.toLowerCase().includes(wanted);
    }
  }

  function showAll(status) {
    show("totals", totalsOf(status), tiles);
    show("services", bySeverity(status.services), (services) => services.map(cardOf));
    show("gateways", status.gateways, workersOf);
    show("keys", status.keys, keysOf);
    show("documents", status.documents.services, documentsOf);
    show("drift", status.documents.drift, driftOf);
    show("configuration", [status.configuration, status.not_default], configurationOf);
    filter();
    byId("to-docs").hidden = !status.configuration.docs.enabled;
    byId("as-of").textContent = `as of ${time(status.time)}, the last 15 minutes`;
    showNotice(status.note);
  }

  // A live region for screen readers, which would read the same text again if it were set again.
  function showNotice(text) {
    if (byId("trouble").textContent !== text) byId("trouble").textContent = text;
  }

  async function fetchStatus() {
    const options = { headers: { Accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
    const response = await fetch("status", options);
    if (!response.ok) throw new Error(`status ${response.status}`);
    return response.json();
  }

  async function update() {
    clearTimeout(timer);
    if (isFetching) return;
    isFetching = true;
    try {
      showAll(await fetchStatus());
      unreachableSince = null;
      byId("main").classList.remove("old");
    } catch (error) {
      unreachableSince = unreachableSince || new Date();
      const reason = error instanceof TypeError || error.name === "TimeoutError" ? "no response" : error.message;
      const clock = unreachableSince.toLocaleTimeString();
      showNotice(`The gateway can't be reached since ${clock} (${reason}). The figures are from before.`);
      byId("main").classList.add("old");
    }
    isFetching = false;
    // A hidden page fetches nothing; `visibilitychange` continues.
    if (!document.hidden) timer = setTimeout(update, UPDATE_MS);
  }

  byId("filter").addEventListener("input", filter);
  byId("only-set").addEventListener("change", filter);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) update();
  });
  update();
})();
