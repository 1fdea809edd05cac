"""Tables on the screen, Markdown tables, charts and HTML pages."""
