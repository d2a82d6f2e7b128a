"""The page as a whole: its tabs and its looks."""

import gradio as gr

from invrecon.ui.edit import EditTab
from invrecon.ui.imagine import ImagineTab
from invrecon.ui.reconstruct import ReconstructTab
from invrecon.ui.tab import Desk
from invrecon.ui.verify import VerifyTab

TABS = {"Reconstruct": ReconstructTab, "Edit": EditTab, "Imagine": ImagineTab, "Verify": VerifyTab}

THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
"""Fonts that the machine has: none is fetched."""

_INTRODUCTION = "The model is `{}`. Photos and results stay on the machine that runs it, until it is stopped."

_HOUR = 3600  # seconds

CSS = """
.status ol { margin: 0; padding-left: 1.4em; list-style: decimal }
.status .finished { opacity: 0.6 }
.status progress { width: 40%; margin: 0 0.5em; vertical-align: middle }
.status [role=alert] { border-left: 4px solid #d33; padding: 0.5em 0.8em; overflow-wrap: anywhere }
.caption-label { max-width: 100% !important; white-space: normal !important }
.figures table { width: 100%; border: 0 !important; border-collapse: collapse; margin: 0.5em 0 }
.figures :is(th, td) { border: 0 !important; padding: 0.3em 0.2em !important; font-weight: normal }
.figures th { text-align: left }
.figures td { text-align: right; font-variant-numeric: tabular-nums }
.figures tr { border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important }
"""


def build_page(desk: Desk) -> gr.Blocks:
    """All tabs; not yet served."""

    def leave(request: gr.Request) -> None:
        desk.jobs.cancel(request.session_hash)

    with gr.Blocks(title="invrecon", analytics_enabled=False, delete_cache=(_HOUR, _HOUR * 24)) as page:
        gr.Markdown(f"# invrecon\n{_INTRODUCTION.format(desk.settings.model)}")
        with gr.Tabs(overflow_behavior="wrap"):  # so that a phone shows all
            for title, tab in TABS.items():
                with gr.Tab(title):
                    tab(desk)
        page.unload(leave)
    return page
