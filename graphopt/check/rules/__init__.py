"""The built-in rules, one file each; ``graphopt.check.codes`` is the map from code to file."""
