"""Finds passwords in command lines, by a table of each program's options.

The table is needed for options such as `-p`, which is a password for one program and a port for
another. An option whose name says what it is, such as `--password`, is found without the table.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from normalizer.core.redaction.secret_values import (
    RedactedTextBuilder,
    match_end,
    may_be_secret,
)

_COLON: Final = ":"


class _Command(NamedTuple):
    """How a program, or one of its subcommands, takes a password. Names are regular expressions."""

    name: str
    next: tuple[str, ...] = ()
    """Options that are followed by a password as the next word."""
    glued: tuple[str, ...] = ()
    """Options that are followed by a password in the same word."""
    user: Mapping[str, str] = {}
    """Options whose value is a user and a password, with the character between the two."""
    nth: Mapping[str, int] = {}
    """Words after which the n-th word that isn't an option is a password. "" stands for the program
    itself."""
    names_after: tuple[str, ...] = ()
    """Words that are followed by a name and its value. "" stands for the program itself."""


_COMMANDS: Final = (
    _Command(r"(?:mysql|mariadb)[\w\-]*", glued=("-p",)),
    _Command(r"sshpass|login", next=("-p",), glued=("-p",)),
    _Command(r"mongo\w*|cqlsh|rdesktop|tabcmd|twine|useradd|usermod", next=("-p",)),
    _Command(r"7z[arz]?|(?:un)?rar", glued=("-p",)),
    _Command(r"(?:un)?zip|ipmitool", next=("-P",), glued=("-P",)),
    _Command(r"sqlcmd|bcp|isql|osql", next=("-P",), glued=("-P",)),
    _Command(r"ldap[a-z]+", next=("-w",), glued=("-w",)),
    _Command(r"redis-cli", next=("-a",)),
    _Command(r"snmp[a-z]+", next=("-A", "-X")),
    _Command(r"openssl", next=("-k",)),
    _Command(r"secret", next=("-b", "--body")),
    _Command(r"doctl", next=("-t",)),
    _Command(r"[wx]freerdp", glued=("/p:",)),
    _Command(
        r"curl",
        user=dict.fromkeys(("-u", "-U", "--user", "--proxy-user"), _COLON)
        | dict.fromkeys(("-b", "--cookie"), "="),
    ),
    _Command(r"https?|httpie|xhs?", user={"-a": _COLON, "--auth": _COLON}),
    _Command(r"smbclient", user={"-U": "%"}),
    _Command(r"lftp", user={"-u": ","}),
    _Command(r"sqlplus|sqlldr|expdp|impdp", user={"": "/"}),
    _Command(r"vault", nth={"login": 1, "unseal": 1}),
    _Command(r"rabbitmqctl", nth=dict.fromkeys(("add_user", "change_password"), 2)),
    _Command(r"kubectl|oc", user={"--from-literal": "="}),
    _Command(r"htpasswd", nth={"": 3}),
    _Command(r"wpa_passphrase", nth={"": 2}),
    _Command(r"rclone", nth={"obscure": 1}),
    _Command(r"cf", nth={"auth": 2}),
    _Command(r"fly(?:ctl)?", nth={"token": 1}),
    _Command(r"mc", nth={"set": 4}),
    _Command(r"aws|npm|pnpm|yarn|pulumi|poetry|gcloud|heroku", names_after=("set",)),
    _Command(r"git", names_after=("config",)),
    _Command(r"setx|setenv|nmcli|ENV", names_after=("",)),
)
PASSWORD_PROGRAMS: Final = (
    *("mysql", "mariadb", "login", "mongo", "cqlsh", "rdesktop", "tabcmd", "twine", "useradd"),
    *("usermod", "rar", "zip", "ipmitool", "sqlcmd", "bcp", "isql", "osql", "ldap", "snmp"),
    *("openssl", "doctl", "freerdp", "curl", "httpie", "smbclient", "lftp"),
)
"""What names of programs with options begin or end with. It's a sign only if such an option
follows."""
COMMAND_OPTION_PATTERN_TEMPLATE: Final = (
    r"(?is)\A(?>.*?{}[\w\-]{{0,20}}(?=[\s\"',\\]))(?>.*?(?:[\s\"'=]|\\[nrt])"
    r"(?:-[A-Za-z]{{0,6}}[abkptuwx]|--(?:user|proxy-user|cookie|auth|body)|/p:))"
)
"""Matches a text with a program and, anywhere after it, an option of the table. The groups are
atomic, so that a text full of programs is read only once."""
_BETWEEN_ITEMS: Final = ('","', '",n"', '",rn"', '",nt"')
"""What the prefilter sees between two words of a JSON list. In JSON inside a text, a line feed is
`n`."""
PASSWORD_COMMAND_SIGNS: Final = (
    *("sshpass", "rediscli", "rabbitmqctl", "vaultlogin", "unseal", "obscure", "httpa", "httpsa"),
    *("httpget", "httppost", "httpput", "httpdelete", "httppatch", "sudos", "fromliteral"),
    *("withtoken", "mcalias", "netuse", "sqlplus", "sqlldr", "expdp", "impdp"),
    *(
        f"{program}{between}{word}"
        for program, word in (("vault", "login"), ("http", "a"), ("https", "a"), ("mc", "alias"))
        for between in _BETWEEN_ITEMS
    ),
    *(f'"0z{between}' for between in _BETWEEN_ITEMS),
)
"""Further signs, of programs that take a password without such an option."""

_ANY: Final = "|".join(f"({command.name})" for command in _COMMANDS)
_NAME: Final = re.compile(_ANY)
_PROGRAM: Final = re.compile(rf"""(?<![\w.\-=@:])(?:{_ANY})(?=["',\s])""")
_MOST_PROGRAMS: Final = 4
"""How many programs of one command line to check, as in `sudo docker login`. Without a limit, a
long command line would take long."""
_WORD: Final = re.compile(
    r"""(?>(?:"(?=[^\s,\])])(?:[^"\\\n]|\\.)*+"|'(?=[^\s,\])])[^'\n]*+'"""
    r"""|[^\s"'|;&\\]++|&(?=[^\s&])|\\+(?!\n)|["'])+)"""
)
"""A word of a shell. A quote before a blank ends the text that the whole command is in."""
_BLANKS: Final = re.compile(r"[ \t]*+(?:\\\n[ \t]*+)*+")
_REACH_WORDS: Final = 200
"""How many words of a command line to read. The limit is in words instead of characters, because a
single word may hold all the data that curl sends."""
_AROUND: Final = "\"'\\`[](),"
_USER_FLAG: Final = re.compile(r"-[A-Za-z]{0,6}?[uU]")
_FED: Final = re.compile(
    r"""\b(?:echo|printf)\s+(?:-[neE]+\s+|["']?%s(?:\\n)?["']?\s+)?["']?(?:[\w.\-]+:(?=[^|\n]{1,200}chpasswd))?(?P<value>[^\s|"']++)["']?"""
    r"""\s*\|[^\n|;]{0,100}?(?:-stdin|--with-token|sudo\s+-S|chpasswd)"""
    r"""|\bnet\s+use\s+(?:[A-Za-z*]:?\s+)?\\\\+\S+\s+(?P<share>[^\s/"']\S*)"""
    r"""|(?:-stdin|--with-token|chpasswd)\s*<<<\s*["']?(?P<here>[^\s"';|]++)"""
)

IsSecretValue = Callable[[str, str], bool]
"""Returns whether the value of a name is a secret."""
SecretLocation = tuple[int, int, int]
"""The index of a word, and where the secret in it starts and ends."""


def find_secrets_in_words(
    words: Sequence[str], is_secret: IsSecretValue
) -> Iterator[SecretLocation]:
    """Return where the words of a command line hold secrets."""
    programs = 0
    for at, word in enumerate(words):
        match = _NAME.fullmatch(word.rpartition("/")[2])
        if match is None or match.lastindex is None:
            continue
        yield from _find_secrets(_COMMANDS[match.lastindex - 1], words, at + 1, is_secret)
        programs += 1
        if programs == _MOST_PROGRAMS:
            return


def redact_command_passwords(text: str, is_secret: IsSecretValue) -> str:
    """Cut the passwords of command lines out of the text."""
    found: set[tuple[int, int]] = set()
    at = 0
    while program := _PROGRAM.search(text, at):
        spans = _words_from(text, program.start())
        at = max(program.end(), spans[-1][1])
        words = [text[start:end] for start, end in spans]
        for n, start, end in find_secrets_in_words(words, is_secret):
            found.add((spans[n][0] + start, spans[n][0] + end))
    found.update(match.span(match.lastgroup or 0) for match in _FED.finditer(text))
    cuts = RedactedTextBuilder(text)
    for begin, finish in sorted(found):
        if may_be_secret(text[begin:finish], loose=True):
            cuts.add(begin, finish)
    return cuts.text()


def _words_from(text: str, at: int) -> list[tuple[int, int]]:
    """Return where each word of a command line is, without quotes and brackets around it."""
    spans: list[tuple[int, int]] = []
    while len(spans) < _REACH_WORDS and (word := _WORD.match(text, at)):
        start = word.start() + len(word[0]) - len(word[0].lstrip(_AROUND))
        spans.append((start, max(start, word.start() + len(word[0].rstrip(_AROUND)))))
        at = match_end(_BLANKS, text, word.end())
    return spans


def _find_secrets(
    command: _Command, words: Sequence[str], first: int, is_secret: IsSecretValue
) -> Iterator[SecretLocation]:
    for at in range(first, len(words)):
        word, before = words[at], words[at - 1]
        if before in command.next and not word.startswith("-"):
            yield at, 0, len(word)
        elif glued := next((g for g in command.glued if word.startswith(g) and word != g), None):
            yield at, len(glued) + (word[len(glued)] in "\"'"), len(word)
        elif command.user:
            yield from _password_of_user(command.user, at, word, before)
    for after, n in command.nth.items():
        yield from _nth(words, _behind(words, first, after), n)
    for after in command.names_after:
        yield from _value_of_name(words, _behind(words, first, after), is_secret)


def _password_of_user(
    user: Mapping[str, str], at: int, word: str, before: str
) -> Iterator[SecretLocation]:
    """Return where the password is in `-u name:password`, in every form in which it's written."""
    option, sign, value = word.partition("=")
    if word.startswith("--"):
        separator = user.get(option) if sign else None
    elif word.startswith("-"):
        flags = _USER_FLAG.match(word)
        value = word[flags.end() :] if flags else ""
        separator = user.get("-u") if value else None
    else:
        is_flag = before not in user and _USER_FLAG.fullmatch(before)
        value, separator = word, user.get("-u" if is_flag else before, user.get(""))
    if separator is None:
        return
    name, found, password = value.partition(separator)
    if separator == "/":
        password = password.partition("@")[0] if name.isalnum() else ""
    if found and password:
        start = len(word) - len(value) + len(name) + 1
        yield at, start, start + len(password)


def _behind(words: Sequence[str], first: int, word: str) -> int:
    """Return the index after this word, or after all words if the word isn't there."""
    if not word:
        return first
    return words.index(word, first) + 1 if word in words[first:] else len(words)


def _nth(words: Sequence[str], first: int, n: int) -> Iterator[SecretLocation]:
    plain = [at for at in range(first, len(words)) if not words[at].startswith("-")]
    if len(plain) >= n and "=" not in words[plain[n - 1]]:
        yield plain[n - 1], 0, len(words[plain[n - 1]])


def _value_of_name(
    words: Sequence[str], first: int, is_secret: IsSecretValue
) -> Iterator[SecretLocation]:
    """Return the value after the first word that names a secret."""
    plain = [at for at in range(first, len(words)) if not words[at].startswith("-")]
    for name, value in pairwise(plain):
        if "=" not in words[name] and is_secret(words[name], words[value]):
            yield value, 0, len(words[value])
            return
