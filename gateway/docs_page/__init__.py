"""The page that shows the API document: its own parts. Swagger UI itself is served from its package."""
