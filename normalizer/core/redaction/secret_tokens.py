"""Recognizes tokens in any text by their published prefixes.

For example, a personal access token of GitHub begins with `ghp_`. The patterns state the shortest
possible length of each token, so longer ones match too. Source: docs/spec/wire-shapes.md#r3, and
the rules that gitleaks and detect-secrets publish.
"""

import re
from typing import Final

_HEX_BEGINS: Final = ("0", *"abcdef", *(f"{first}0" for first in "abcdef"))
"""The beginnings of hexadecimal digits, with 0 for each of 1 to 9."""

_AWS: Final = "(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}(?![A-Za-z0-9])"
_GITLAB: Final = (
    "gl(?:pat|dt|ft|ffct|rt|ptt|soat|agent|oas|imt|cbt)-[A-Za-z0-9_.-]{16,}"
    "|GR1348941[A-Za-z0-9_-]{16,}"
)

TOKEN_PATTERNS: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (("akia", "asia", "abia", "acca", "a0t"), _AWS),
    (("absk",), "ABSK[A-Za-z0-9+/]{60,}={0,2}"),
    (("ghp", "gho", "ghu", "ghs", "ghr"), "gh[pousr]_[A-Za-z0-9]{20,}"),
    (("hubpat",), "github_pat_[A-Za-z0-9_]{20,}"),
    (
        (
            *("glpat", "gldt", "glft", "glffct", "glrt", "glptt", "glsoat", "glagent", "gloas"),
            *("glimt", "glcbt", "gr00000"),
        ),
        _GITLAB,
    ),
    (("xox",), "xox[a-z](?:\\.xox[a-z])?-[A-Za-z0-9-]{8,}"),
    (("xapp",), "xapp-[A-Za-z0-9-]{16,}"),
    (("hooks.s",), "hooks\\.slack\\.com/[a-z]+/[A-Za-z0-9+/_-]{8,}"),
    (("i/webh",), "discord(?:app)?\\.com/api/webhooks/[0-9]+/[A-Za-z0-9_-]{16,}"),
    (("webhook.o",), "webhook\\.office\\.com/[A-Za-z0-9/@_-]{16,}"),
    (
        ("sklive", "sktest", "skprod", "rklive", "rktest", "rkprod"),
        "[sr]k_(?:live|test|prod)_[A-Za-z0-9]{10,}",
    ),
    (("whsec",), "whsec_[A-Za-z0-9+/=]{16,}"),
    (("aiza",), "AIza[A-Za-z0-9_-]{30,}"),
    (("ya00.",), "ya29\\.[A-Za-z0-9_-]{20,}"),
    (("0//0",), "1//0[A-Za-z0-9_-]{30,}"),
    (("sg.",), "SG\\.[A-Za-z0-9_.=-]{20,}"),
    (("npm",), "npm_[A-Za-z0-9]{30,}"),
    (
        ("skproj", "skant", "sksvcacct", "skadmin", "skorv", "sklf"),
        "sk-(?:proj|ant|svcacct|admin|or-v1|lf)-[A-Za-z0-9_-]{16,}",
    ),
    (("t0blbkfj",), "sk-[A-Za-z0-9_-]{8,}T3BlbkFJ[A-Za-z0-9_-]{8,}"),
    (("hf", "apiorg"), "(?:hf|api_org)_[A-Za-z]{30,}"),
    (("pypiag",), "pypi-AgE[A-Za-z0-9_-]{20,}"),
    (("dopv0", "doov0", "dorv0"), "do[opr]_v1_[a-f0-9]{32,}"),
    (("hvs.", "hvb."), "hv[sb]\\.[A-Za-z0-9_-]{20,}"),
    (("linapi",), "lin_api_[A-Za-z0-9]{20,}"),
    (("glsa", "glc"), "gl(?:sa|c)_[A-Za-z0-9+/=_]{20,}"),
    (tuple(f"dapi{begin}" for begin in _HEX_BEGINS), "dapi[a-f0-9]{32}"),
    (("shpat", "shpca", "shppa", "shpss"), "shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{20,}"),
    (tuple(f"pul{begin}" for begin in _HEX_BEGINS), "pul-[a-f0-9]{40}"),
    (tuple(f"sgp{begin}" for begin in (*_HEX_BEGINS, "l")), "sgp_[A-Za-z0-9_]{40,}"),
    (tuple(f"sbp{begin}" for begin in _HEX_BEGINS), "sbp_[a-f0-9]{40}"),
    (tuple(f"key{begin}" for begin in _HEX_BEGINS if "0" in begin), "key-[a-f0-9]{32}"),
    (tuple(f"sk{begin}" for begin in _HEX_BEGINS if "0" in begin), "(?:SK|sk-)[0-9a-fA-F]{32,}"),
    (tuple(f"v0.0{begin}" for begin in _HEX_BEGINS), "v1\\.0-[a-f0-9]{24}-[a-f0-9]{100,}"),
    (("rubyg",), "rubygems_[a-f0-9]{30,}"),
    (("pmak",), "PMAK-[A-Fa-f0-9-]{20,}"),
    (("ntn0",), "ntn_[0-9]{11}[A-Za-z0-9]{30,}"),
    (("dp.pt.",), "dp\\.(?:pt|st|ct|scim|audit)\\.[A-Za-z0-9_.-]{30,}"),
    (("pscale",), "pscale_(?:tkn|oauth|pw)_[A-Za-z0-9_=.-]{20,}"),
    (("rdme",), "rdme_[a-z0-9]{40,}"),
    (("xkeysib", "xsmtpsib"), "x(?:key|smtp)sib-[A-Za-z0-9-]{40,}"),
    (("sntryu", "sntrys"), "sntry[us]_[A-Za-z0-9+/=_]{40,}"),
    (("shippo",), "shippo_(?:live|test)_[A-Fa-f0-9]{30,}"),
    (("secretkey",), "AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    (("ezak", "eztk"), "EZ[AT]K[A-Za-z0-9]{50,}"),
    (("sq0atp", "sq0csp", "eaaa"), "(?:sq0(?:atp|csp)-[\\w-]{20,}|EAAA[\\w-]{50,})"),
    (("eaac", "eaam"), "EAA[CM][A-Za-z0-9]{80,}"),
    (("ltai",), "LTAI[A-Za-z0-9]{16,}"),
    (("pplx",), "pplx-[A-Za-z0-9]{40,}"),
    (("hrku",), "HRKU-AA[A-Za-z0-9_-]{50,}"),
    (("fiou",), "fio-u-[A-Za-z0-9_=-]{50,}"),
    (("duffel",), "duffel_(?:test|live)_[A-Za-z0-9_=-]{40,}"),
    (("pnu",), "pnu_[A-Za-z0-9]{36}"),
    (("gsk",), "gsk_[A-Za-z0-9]{40,}"),
    (("sha000",), "sha256~[\\w-]{40,}"),
    (("fo0", "fm0"), "f(?:o1|m1[ar]|m2)_[A-Za-z0-9+/_-]{40,}={0,3}"),
    (("p0e",), "p8e-[A-Za-z0-9]{32}"),
    (("akcp",), "AKCp[A-Za-z0-9]{10,}"),
    (("cmvmd",), "cmVmd[A-Za-z0-9]{50,}"),
    (("0q",), "[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}"),
    (("dt0c00.",), "dt0c01\\.[A-Za-z0-9]{24}\\.[A-Za-z0-9]{40,}"),
    (("atlasv0",), "[A-Za-z0-9]{14}\\.atlasv1\\.[A-Za-z0-9_=-]{40,}"),
    (("atatt0", "atctt0"), "AT[AC]TT3[A-Za-z0-9_=-]{30,}"),
    (("dckrpat",), "dckr_pat_[A-Za-z0-9_-]{20,}"),
    (("nrak", "nrjs", "nrii"), "NR(?:AK|JS|II)-[A-Za-z0-9_-]{19,}"),
    (("clojars",), "CLOJARS_[A-Za-z0-9]{50,}"),
    (("flwseck",), "FLWSECK(?:_TEST)?-[A-Za-z0-9]{12,}"),
    (("figd",), "figd_[A-Za-z0-9_-]{20,}"),
    (("cfpat",), "CFPAT-[A-Za-z0-9_-]{30,}"),
    (("smaat", "smpat", "smsat"), "sm_[aps]at_[A-Za-z0-9]{16}"),
    (("tkus",), "tk-us-[\\w-]{40,}"),
    (("ss0t0",), "s-s4t2(?:ud|af)-[a-f0-9]{40,}"),
    (("dnkey",), "dnkey-[a-z0-9_=-]{26}-[a-z0-9_=-]{40,}"),
    (("us0",), "[a-f0-9]{32}-us[0-9]{1,2}"),
    (("0:aa",), "(?:bot)?[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}"),
    (("eyjrijoi",), "eyJrIjoi[A-Za-z0-9+/]{70,}={0,3}"),
    (("opseyj",), "ops_eyJ[A-Za-z0-9+/]{100,}={0,3}"),
)
"""The signs and the expression of each token. The prefilter searches for a sign first. A sign is
lower case, with 0 for each digit, and without `-`, `_`, `+`, and spaces."""

ANY_TOKEN_PATTERN: Final = re.compile(
    "(?<![A-Za-z0-9])(?:" + "|".join(pattern for _, pattern in TOKEN_PATTERNS) + ")", re.ASCII
)
"""Matches any of them, unless it begins within a word."""
