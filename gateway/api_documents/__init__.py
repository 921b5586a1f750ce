"""The services' API documents: fetched by one worker for all, shared through Redis, merged and rendered in advance.

- `sources`: where each service's document comes from. `document_state`: what is known of one document.
- `refresher`: fetches due documents in a background thread; an `early_refresh` fetches one before it is due.
- `fetch_lock` lets one worker at a time fetch a document; `store` shares it through Redis.
- `catalog`: the merged and rendered documents (`gateway.openapi` merges them). `operation_index`: which requests a
  document describes.

Nothing here knows Flask; `gateway.routes.docs` serves the documents. `factory` builds everything from the
configuration.
"""
