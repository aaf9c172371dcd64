"""One HTML file from results.json: it opens offline, prints, and draws its own charts. Ends at a string."""

from accrete.evaluate.report.page import html

__all__ = ["html"]
