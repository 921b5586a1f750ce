"use strict";
// Loads the chosen document, checks the token, and shows which documents are missing or outdated.
(() => {
  const TOKEN = "gateway-token";
  const SCHEME = "gatewayBearer";
  const byId = (id) => document.getElementById(id);
  let ui = null;
  let services = [];
  let checked = "";

  const token = () => sessionStorage.getItem(TOKEN) || "";
  const bare = (text) => text.trim().replace(/^Bearer\s+/i, "");
  const withBearer = (bearer) => (bearer ? { Authorization: `Bearer ${bearer}` } : {});
  const say = (text) => { byId("state").textContent = text; };

  function moment(text) {
    const time = new Date(text);
    const isToday = time.toDateString() === new Date().toDateString();
    return time.toLocaleString([], isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
  }

  function labelOf(service) {
    if (service.state === "none") return `${service.title} (no document)`;
    if (service.state === "unavailable") return `${service.title} (unavailable)`;
    if (service.state === "stale") return `${service.title} (copy of ${moment(service["x-gateway-stale-since"])})`;
    return service.title;
  }

  function stateOf(chosen) {
    const concerned = services.filter((one) => chosen === "" || one.name === chosen);
    return concerned
      .map((one) => {
        if (one.state === "unavailable") return `The document of ${one.title} is not available at the moment.`;
        if (one.state !== "stale") return "";
        return `The document of ${one.title} is not available at the moment: showing the copy of ${moment(one["x-gateway-stale-since"])}.`;
      })
      .filter(Boolean)
      .join(" ");
  }

  function fill(select) {
    const chosen = select.value;
    select.replaceChildren(new Option("All services", ""));
    for (const service of services) {
      const option = new Option(labelOf(service), service.name);
      option.disabled = service.state === "unavailable" || service.state === "none";
      select.append(option);
    }
    select.value = services.some((one) => one.name === chosen) ? chosen : "";
  }

  async function reasonOf(answer) {
    try {
      return (await answer.json()).detail || `status ${answer.status}`;
    } catch {
      return `status ${answer.status}`;
    }
  }

  // Whether the gateway accepts the token; if not, the page shows the reason.
  async function isAccepted(bearer) {
    const answer = await fetch("docs/token", { headers: withBearer(bearer) });
    byId("trouble").textContent = answer.ok ? "" : `The gateway does not accept this token: ${await reasonOf(answer)}.`;
    return answer.status !== 401;
  }

  async function check(names, bearer) {
    if (bearer === checked) return;
    checked = bearer;
    // The reader may have entered another token in the meantime.
    if ((await isAccepted(bearer)) || bearer !== checked) return;
    // A token for the scheme of one service may be valid for that service only.
    if (!names.includes(SCHEME)) return;
    sessionStorage.removeItem(TOKEN);
    ui.authActions.logout([SCHEME]);
  }

  function showForget() {
    byId("forget").hidden = !token() && !ui?.getSystem().authSelectors.authorized()?.size;
  }

  // Tokens are entered at "Authorize"; the gateway's token is stored until the tab is closed.
  const RememberToken = () => ({
    statePlugins: {
      auth: {
        wrapActions: {
          authorize: (original) => (given) => {
            const own = given[SCHEME];
            const bearer = typeof own?.value === "string" ? bare(own.value) : "";
            const result = original(own ? { ...given, [SCHEME]: { ...own, value: bearer } } : given);
            if (bearer) {
              sessionStorage.setItem(TOKEN, bearer);
              check([SCHEME], bearer);
            }
            showForget();
            return result;
          },
          authorizeOauth2: (original) => (given) => {
            const result = original(given);
            if (given.token?.access_token) check([], given.token.access_token);
            showForget();
            return result;
          },
          logout: (original) => (names) => {
            const result = original(names);
            if (names.includes(SCHEME)) {
              sessionStorage.removeItem(TOKEN);
              checked = "";
            }
            showForget();
            return result;
          },
        },
      },
    },
  });

  const showLoadingState = (chosen) => () => ({
    statePlugins: {
      spec: {
        wrapActions: {
          updateLoadingStatus: (original) => (status) => {
            say(status === "loading" ? "Loading…" : status === "success" ? stateOf(chosen) : "The document is not available.");
            return original(status);
          },
        },
      },
    },
  });

  function prepare(request) {
    // Documents may require the token, too. Swagger UI adds the token to requests of "Try it out".
    if (request.loadSpec) Object.assign(request.headers, withBearer(token()));
    else if (/text\/event-stream/i.test(request.headers.Accept || request.headers.accept)) request.curlOptions = ["-N"];
    return request;
  }

  function show(chosen) {
    // An authorization for one document is valid for the others: they belong to the same gateway.
    const authorized = ui ? ui.getSystem().authSelectors.authorized() : null;
    ui = SwaggerUIBundle({
      url: chosen === "" ? "openapi.json" : `openapi/${encodeURIComponent(chosen)}.json`,
      dom_id: "#ui",
      deepLinking: true,
      displayRequestDuration: true,
      validatorUrl: null,
      plugins: [StreamCommands, RememberToken, showLoadingState(chosen)],
      requestInterceptor: prepare,
      onComplete: () => {
        if (authorized && authorized.size) ui.getSystem().authActions.authorize(authorized.toJS());
        if (token()) {
          // This call bypasses the plugin, which Swagger UI loads later.
          ui.preauthorizeApiKey(SCHEME, token());
          check([SCHEME], token());
        }
        showForget();
      },
    });
    window.ui = ui;
  }

  async function start() {
    const answer = await fetch("docs/services.json", { headers: withBearer(token()) });
    byId("token-form").hidden = answer.status !== 401;
    if (answer.status === 401) {
      if (token()) byId("trouble").textContent = `The gateway does not accept this token: ${await reasonOf(answer)}.`;
      sessionStorage.removeItem(TOKEN);
      say("These documents require a token.");
      showForget();
      return;
    }
    if (answer.status === 503) {
      say("The documents are being fetched.");
      setTimeout(start, 1000 * (Number(answer.headers.get("Retry-After")) || 1));
      return;
    }
    if (!answer.ok) {
      say(`The list of services is not available (${answer.status}).`);
      return;
    }
    const index = await answer.json();
    services = index.services;
    document.title = index.title;
    byId("title").textContent = index.title;
    byId("trouble").textContent = "";
    const select = byId("service");
    fill(select);
    show(select.value);
  }

  const night = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = () => document.documentElement.classList.toggle("dark-mode", night.matches);
  night.addEventListener("change", colour);
  colour();

  byId("service").addEventListener("change", (event) => show(event.target.value));
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, bare(byId("token").value));
    byId("token").value = "";
    start();
  });
  byId("forget").addEventListener("click", () => {
    sessionStorage.removeItem(TOKEN);
    // Only a reload also removes responses, requests and documents from the memory of Swagger UI.
    window.location.reload();
  });
  start();
})();
