"""Builds what a release consists of, each thing twice, and compares the bytes.

commands   runs commands; the error of a release that cannot be made
notes      the heading of the version in CHANGELOG.md
sources    copies of the commit, as two strangers would have them
packages   wheels, sdist, crate and chart of a copy
archives   archives whose bytes depend on their files alone
image      the container image, built by buildah
checks     what was built, tried out in an environment of its own
sbom       adds to a list of components what pip did not install

`python -m release` needs the standard library alone: it runs before anything is installed.
"""
