"""The services' API documents: fetched by one worker for all, kept in Redis, merged and ready to be sent.

`refresher` fetches and refreshes in the background, with what is shared in the `store`; `catalog` has the finished
documents, made by `gateway.openapi`; `turns` says which worker fetches, a `renewal` fetches before the time;
`undocumented` knows which requests no document has. No Flask here: `gateway.docs` joins it to that.
"""
