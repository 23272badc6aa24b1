"""The dashboard: index.html and the files that it loads.

index.html contains theme.js and loads page.css, and page.js, which opens a screen and draws it. It
also preloads dashboard.js, whose imports then load a round trip earlier. More preloads would
compete with page.css, and so delay the first paint.

    router.js windows.js   the address of the page: screen, filters; its window of time
    api.js state.js        polls the API; what the page knows while it is open
    header.js search.js banner.js actions.js    the bars at the top, and what the reader does
    dashboard.js           the panels of the dashboard; headline.js the tiles above
    *_panel.js             one panel or a few similar ones; panel_parts.js is what they share
    first_run.js           instead of figures while nothing was read
    lists.js errors.js quarantine.js retries.js playbooks.js wall.js    the other screens
    execution.js           one execution: event_view.js, json_tree.js
    format.js              numbers and times as text
    dom.js tables.js spark.js charts.js         HTML nodes, tables, small trends, charts
"""

import base64
import hashlib
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent
_LIBRARY: Final = ("uplot.js", "uplot.css")


def page_html() -> bytes:
    """Return index.html, with the version in each address, and with theme.js inside.

    A new version has new addresses, so browsers may cache the files permanently.
    """
    page = (_FOLDER / "index.html").read_text()
    page = page.replace(' src="/assets/theme.js">', f">{_theme()}")
    return page.replace('"/assets/', f'"/assets/{page_version()}/').encode()


def inline_script_hash() -> str:
    """Return the hash that lets a browser run theme.js inside the page, for script-src."""
    digest = hashlib.sha256(_theme().encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _theme() -> str:
    return (_FOLDER / "assets" / "theme.js").read_text()


def page_assets() -> dict[str, Path]:
    """Return every file that index.html and its scripts load, by its name under /assets/.

    The charting library is left out if the package was built without Maven (see setup.py).
    """
    library = (_FOLDER / "charts" / name for name in _LIBRARY)
    files = [*sorted((_FOLDER / "assets").iterdir()), *(path for path in library if path.exists())]
    return {path.name: path for path in files}


def page_version() -> str:
    """Return a hash of all files, which changes as soon as one of them does."""
    digest = hashlib.blake2b(digest_size=8)
    for name, path in page_assets().items():
        digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()
