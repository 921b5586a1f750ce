"use strict";
// Swagger UI shows a response once it has ended, but a stream may never end. Such operations show a curl command.
const StreamCommands = (() => {
  const STREAMS = /^(text\/event-stream|application\/(jsonl|x-ndjson|json-seq))\b/i;
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

  function typeOf(responses) {
    const types = responses ? responses.valueSeq().flatMap((one) => one?.get?.("content")?.keySeq?.() ?? []) : [];
    return types.find((type) => STREAMS.test(type));
  }

  function commandOf({ path, method }, type, security) {
    // The page and the documents are at the root of the gateway.
    const url = new URL(".", window.location.href).href.replace(/\/$/, "") + path;
    const parts = ["curl -N", ...(method === "get" ? [] : [`-X ${method.toUpperCase()}`]), `-H ${quoted(`Accept: ${type}`)}`];
    if (security && security.size) parts.push('-H "Authorization: Bearer $TOKEN"');
    return [...parts, quoted(url)].join(" ");
  }

  return (system) => ({
    wrapComponents: {
      responses: (Original) => function ResponsesOrStream(props) {
        const { createElement } = system.React;
        const type = typeOf(props.responses);
        const original = createElement(Original, props);
        if (!type) return original;
        const operation = system.specSelectors.specJson().getIn(props.specPath.slice(0, -1));
        return createElement("div", null,
          createElement("div", { className: "stream" },
            createElement("p", null, "This operation streams its response. \"Try it out\" shows the response once it has ended; this command shows it as it arrives:"),
            createElement("pre", null, commandOf(props, type, operation?.get?.("security")))),
          original);
      },
    },
  });
})();
