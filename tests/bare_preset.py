"""The text of a preset that has the keys it must have, and no table: what tests of presets add to."""


def bare_preset(name: str, method: str = "cd") -> str:
    return f"""
name = "{name}"
summary = "s"
model = "m"
dataset = "d"
methods = ["{method}"]
steps = [2]
metrics = ["fid"]
"""
