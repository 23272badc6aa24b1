"""One line of the report of `normalizer check`."""

import msgspec


class CheckResult(msgspec.Struct, frozen=True):
    """One line of the report: what was checked, the result, and a remedy if there's a problem.

    With `warns`, the problem is only a warning: the service works in spite of it, so it doesn't
    make `normalizer check` fail.
    """

    about: str
    message: str
    remedy: str = ""
    warns: bool = False

    @property
    def is_failure(self) -> bool:
        """Return whether the command must exit with 1."""
        return bool(self.remedy) and not self.warns

    def __str__(self) -> str:
        if self.remedy:
            word = "warn" if self.warns else "FAIL"
            return f"{word}  {self.about}: {self.message}\n      {self.remedy}"
        return f"ok    {self.about}: {self.message}"
