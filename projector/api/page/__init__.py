"""The dashboard: index.html and the files that it loads.

theme.js, page.css and page.js are what index.html names; page.js imports:

    router.js      the address of the page: window, filters, what is open
    api.js         queries the API again and again
    dashboard.js   the panels; lists.js the lists behind a cell; execution.js one execution
    format.js dom.js charts.js
                   numbers and times as text, HTML nodes, charts
"""

from importlib.util import find_spec
from pathlib import Path


def assets() -> dict[str, Path]:
    """Every file that index.html loads, by the name that it has under /assets/."""
    folder = Path(__file__).with_name("assets")
    own = {path.name: path for path in sorted(folder.iterdir())}
    return own | {"plotly.min.js": _of_package("plotly") / "package_data" / "plotly.min.js"}


def _of_package(name: str) -> Path:
    """Its folder, found without running it: nothing here needs its Python."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
