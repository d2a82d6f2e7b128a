"""Every way of editing, on cut-outs whose background is to change its colour."""
