"""Reports made from records: tables, charts, pages."""
