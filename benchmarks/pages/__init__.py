"""The page that a report becomes: one self-contained HTML file."""
