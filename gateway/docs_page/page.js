"use strict";
// Chooses a document, hands the token to Swagger UI, and says of which services the document is old or missing.
(() => {
  const TOKEN = "gateway-token";
  const SCHEME = "gatewayBearer";
  const byId = (id) => document.getElementById(id);
  let ui = null;
  let services = [];

  const token = () => sessionStorage.getItem(TOKEN) || "";

  function labelOf(service) {
    if (service.state === "unavailable") return `${service.title} (unavailable)`;
    if (service.state === "stale") return `${service.title} (as of ${service["x-gateway-stale-since"]})`;
    return service.title;
  }

  function stateOf(chosen) {
    const concerned = services.filter((one) => (chosen === "" || one.name === chosen) && one.state !== "current");
    return concerned
      .map((one) => one.state === "unavailable"
        ? `The document of ${one.title} can't be had at the moment.`
        : `The document of ${one.title} could not be renewed since ${one["x-gateway-stale-since"]}.`)
      .join(" ");
  }

  function fill(select) {
    const chosen = select.value;
    select.replaceChildren(new Option("All services", ""));
    for (const service of services) {
      const option = new Option(labelOf(service), service.name);
      option.disabled = service.state === "unavailable";
      select.append(option);
    }
    select.value = services.some((one) => one.name === chosen) ? chosen : "";
  }

  function withToken(request) {
    // Documents may need the token, too. Requests of "Try it out" carry what was authorized for them.
    if (request.loadSpec && token()) request.headers.Authorization = `Bearer ${token()}`;
    return request;
  }

  function show(chosen) {
    // What was authorized for one document holds for the others: it is the same gateway.
    const authorized = ui ? ui.getSystem().authSelectors.authorized() : null;
    byId("state").textContent = stateOf(chosen);
    ui = SwaggerUIBundle({
      url: chosen === "" ? "openapi.json" : `openapi/${encodeURIComponent(chosen)}.json`,
      dom_id: "#ui",
      deepLinking: true,
      displayRequestDuration: true,
      validatorUrl: null,
      requestInterceptor: withToken,
      onComplete: () => {
        if (authorized && authorized.size) ui.getSystem().authActions.authorize(authorized.toJS());
        if (token()) ui.preauthorizeApiKey(SCHEME, token());
      },
    });
    window.ui = ui;
  }

  async function start() {
    const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
    const answer = await fetch("docs/services.json", { headers });
    if (answer.status === 401) {
      byId("state").textContent = "These documents need a token.";
      return;
    }
    if (answer.status === 503) {
      byId("state").textContent = "The documents are being made.";
      setTimeout(start, 1000 * (Number(answer.headers.get("Retry-After")) || 1));
      return;
    }
    if (!answer.ok) {
      byId("state").textContent = `The list of services can't be had (${answer.status}).`;
      return;
    }
    const index = await answer.json();
    services = index.services;
    document.title = index.title;
    byId("title").textContent = index.title;
    const select = byId("service");
    fill(select);
    show(select.value);
  }

  byId("service").addEventListener("change", (event) => show(event.target.value));
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, byId("token").value.trim().replace(/^Bearer\s+/i, ""));
    byId("token").value = "";
    start();
  });
  start();
})();
