"""The report of a folder of runs, as Markdown, CSV, LaTeX and a page: `python -m train.report`."""
