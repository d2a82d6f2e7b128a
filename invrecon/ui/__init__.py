"""A page in the browser, by Gradio, for what the commands do. See README.md."""
