"""The API document and `/docs`, the page that shows it: `views` serves both, `page/` holds the page's files."""
