"""Every inversion method on the same photos, latents, prompt and grid, measured alike."""
