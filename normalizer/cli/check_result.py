"""One line of the report of `normalizer check`."""

import msgspec


class CheckResult(msgspec.Struct, frozen=True):
    """One line of the report; `remedy`, what to do about it, is set where a check fails or warns.

    `warns`: the service works all the same, so the command does not fail.
    """

    about: str
    message: str
    remedy: str = ""
    warns: bool = False

    @property
    def failed(self) -> bool:
        """Whether the command has to exit with 1."""
        return bool(self.remedy) and not self.warns

    def __str__(self) -> str:
        if self.remedy:
            word = "warn" if self.warns else "FAIL"
            return f"{word}  {self.about}: {self.message}\n      {self.remedy}"
        return f"ok    {self.about}: {self.message}"
