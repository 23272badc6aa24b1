"""Builds everything that a release consists of, each thing twice, and compares the bytes.

commands   runs commands, and the error of a release that can't be made
notes      the heading of the version in CHANGELOG.md
sources    copies of the commit, as two strangers would have them
packages   wheels, sdist, crate and chart of a copy
archives   archives whose bytes depend only on their files
image      the container image, built by buildah
checks     tries what was built in a separate environment
sbom       adds to a list of components what pip did not install

`python -m release` uses only the standard library, because it runs before anything is installed.
"""
