"""The program `invrecon`: commands that parse, load, run and save."""
