"""The page: Summary in, one self-contained HTML file out."""
