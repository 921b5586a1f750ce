"""`/status` for operators: `views` serves it as a page or as JSON, `page/` holds the page's files."""
