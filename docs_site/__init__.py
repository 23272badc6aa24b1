"""The documentation site: `make docs` builds it from docs/, the code, and two contract files.

mkdocs.yml     navigation and look of the site
hooks.py       adds pages from outside of docs/ and the generated ones, and makes links fit
reference.py   the generated pages: commands, settings, HTTP API, views, metrics, alerts
openapi.py     docs/openapi.json, the contract of the HTTP API, which a test compares
"""
