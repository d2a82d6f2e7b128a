"""The recipe behind `mini`: prepare data, train the autoencoder and the denoiser, export.

Needs the extra `train`. Run it as `python -m invrecon.training --help`.
"""
