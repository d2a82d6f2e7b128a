"""The mathematics: schedule, denoiser, transition, latent bias optimization, sampling. No model library, no
files, no console.
"""
