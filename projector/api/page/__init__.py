"""The dashboard: index.html and the files that it loads.

index.html loads theme.js, page.css and page.js; page.js imports:

    router.js        the address of the page: window, filters, the open screen
    api.js           polls the API
    dashboard.js     the panels of the dashboard and their queries
    headline.js      the row of figures above the panels
    *_panel.js       one panel or a few similar ones; panel_parts.js is what they share
    lists.js         the lists of calls and executions behind a figure
    execution.js     one execution; coercions.js explains a coercion
    format.js        numbers and times as text
    dom.js charts.js HTML nodes, charts
"""

from pathlib import Path

_LIBRARY = ("uplot.js", "uplot.css")


def assets() -> dict[str, Path]:
    """Every file that index.html and its scripts load, by its name under /assets/.

    Without the charting library if it was installed without Maven: see setup.py.
    """
    folder = Path(__file__).parent
    library = (folder / "charts" / name for name in _LIBRARY)
    files = [*sorted((folder / "assets").iterdir()), *(path for path in library if path.exists())]
    return {path.name: path for path in files}
