"""The audit's report, one page to read in a browser."""

from invrecon.audit.methods.report.page import write_report

__all__ = ["write_report"]
