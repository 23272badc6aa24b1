"""Mutants, each without one mechanism, and the tests that must see that it is gone.

mutants       what is taken away, and who sees it
sample        small mutants of a fixed sample, and which test kills each of them
mutant_runs   a copy of the tree with one mutant, its tests run, what became of them
"""
