"""Editing: two branches leave one seed, the source under its own prompt, the target under another, which the
source holds on to.
"""
