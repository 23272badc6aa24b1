"""The rules as machine code, compiled from their own sources where a C compiler is there.

core_finder  imports compiled modules in place of their sources, and tells which core runs
core_build   compiles the modules

`python -m normalizer.compiled` compiles; docs/decisions/0022-compiled-core.md says why.
"""
