"""Every inversion method on the same photos, measured alike."""
