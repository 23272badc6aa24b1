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

from importlib.util import find_spec
from pathlib import Path


def assets() -> dict[str, Path]:
    """Every file that index.html and its scripts load, by its name under /assets/."""
    folder = Path(__file__).with_name("assets")
    own = {path.name: path for path in sorted(folder.iterdir())}
    return own | {"plotly.min.js": _of_package("plotly") / "package_data" / "plotly.min.js"}


def _of_package(name: str) -> Path:
    """The folder of a package, found without importing it."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
