"""What came of a job, for people: tables on the terminal, a self-contained page, a model card.

All of it is made from one plain result (``concordat.report.result``) by code without input or output.
"""

from concordat.report.card import card_json, card_markdown
from concordat.report.page import html
from concordat.report.result import Result, check, schema
from concordat.report.terminal import text

__all__ = ["Result", "card_json", "card_markdown", "check", "html", "schema", "text"]
