"""The dashboard: index.html and the files that it loads.

index.html loads theme.js, page.css and page.js; page.js opens a screen and draws:

    router.js windows.js   the address of the page: screen, filters; its window of time
    api.js state.js        polls the API; what the page knows while it is open
    header.js search.js banner.js actions.js    the bars at the top, and what the reader does
    dashboard.js           the panels of the dashboard; headline.js the tiles above
    *_panel.js             one panel or a few similar ones; panel_parts.js is what they share
    lists.js errors.js quarantine.js retries.js wall.js first_run.js    the other screens
    execution.js           one execution: timeline.js, event_view.js, json_tree.js, coercions.js
    format.js              numbers and times as text
    dom.js tables.js spark.js charts.js         HTML nodes, tables, small trends, charts
"""

from pathlib import Path

_LIBRARY = ("uplot.js", "uplot.css")
_LOADED_BY_ITSELF = ("theme.js", "page.js", "uplot.js")


def index(names: list[str]) -> bytes:
    """index.html, with a preload for each module, so that they come in one round trip."""
    modules = [name for name in names if name.endswith(".js") and name not in _LOADED_BY_ITSELF]
    lines = [f'<link rel="modulepreload" href="/assets/{name}">' for name in modules]
    page = Path(__file__).with_name("index.html").read_text()
    return page.replace("</head>", "\n".join([*lines, "</head>"])).encode()


def assets() -> dict[str, Path]:
    """Every file that index.html and its scripts load, by its name under /assets/.

    Without the charting library if it was installed without Maven: see setup.py.
    """
    folder = Path(__file__).parent
    library = (folder / "charts" / name for name in _LIBRARY)
    files = [*sorted((folder / "assets").iterdir()), *(path for path in library if path.exists())]
    return {path.name: path for path in files}
