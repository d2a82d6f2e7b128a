"""How well invrecon does, measured: `methods` of inversion side by side, `edits` of cut-outs, and `speed`."""
