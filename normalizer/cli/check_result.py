"""One line of the report of `normalizer check`."""

import msgspec


class CheckResult(msgspec.Struct, frozen=True):
    """One line of the report; `remedy`, what to do about it, is set where a check fails."""

    about: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        if self.remedy:
            return f"FAIL  {self.about}: {self.message}\n      {self.remedy}"
        return f"ok    {self.about}: {self.message}"
