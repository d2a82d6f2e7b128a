"""Many photos on many machines: which inputs there are, what of them is done, who does the rest, and where
results go. See README.md.
"""
