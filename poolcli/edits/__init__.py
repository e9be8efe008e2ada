"""Edits as models write them, applied to texts exactly as meant or not at all.

Pure functions: text in, text or a refusal out. Nothing here knows files, tools or runs. `formats` reads any
shape of edit, `apply` applies it to several texts at once, `replace` to one; `ladder` finds the place.
"""
