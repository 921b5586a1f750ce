"""The services' API documents: fetched by one worker for all, shared through Redis, merged and rendered in advance.

- `sources` fetches and parses one service's document; `document_state` has what is known of it.
- `refresher` fetches due documents in a background thread; an `early_refresh` fetches a document before it is due.
- `fetch_lock` lets one worker at a time fetch a document; `store` shares documents through Redis.
- `catalog` has the merged and rendered documents (`gateway.openapi` merges them); `operation_index` says which requests
  a document describes.

Nothing here knows Flask; `gateway.routes.docs` serves the documents. `factory` builds everything from the
configuration.
"""
