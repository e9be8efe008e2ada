"""What secrets look like: a table of shapes, each with the literal text that all of its kind hold.

A text that holds none of a shape's literals is never searched for it, and its pattern is never compiled: looking
for a literal costs a tenth of a millisecond per megabyte. No pattern but that of a key block crosses a line end.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cached_property
from itertools import pairwise

#: The letters of a key block as it lies in a file, in JSON, in a diff, behind line numbers.
KEY_BODY = r"[A-Za-z0-9+/=,:\\ \t\r\n\"'.|>]"
#: Characters of a key block at most: an RSA key of 16384 bits has 12,800.
LONGEST_KEY = 20_000


class Shape:
    """One kind of secret. Its pattern begins at one of the `literals` (lower case when `any_case`), unless it is
    `loose`: then one of them is somewhere in it.

    Group `s` of the pattern, where there is one, is the secret; else all that matched. `random` says that it (or
    group `r`, what follows a token's prefix) must also look as if a machine had made it.
    """

    def __init__(
        self,
        kind: str,
        literals: str,
        source: str,
        *,
        any_case: bool = False,
        random: bool = False,
        loose: bool = False,
    ) -> None:
        self.kind, self.literals, self.source = kind, tuple(literals.split()), source
        self.any_case, self.random, self.loose = any_case, random, loose

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The pattern, compiled at its first use."""
        return re.compile(self.source, re.ASCII | (re.I if self.any_case else 0))

    def spans(self, text: str, lower: str) -> list[tuple[int, int, str]]:
        """Where secrets of this kind are in a text: begin, end, kind. `lower` is the text in lower case."""
        found: list[tuple[int, int, str]] = []
        searched = lower if self.any_case else text
        if self.loose or len(searched) != len(text):
            if any(literal in searched for literal in self.literals):
                for match in self.pattern.finditer(text):
                    self._judge(match, found)
            return found
        for literal in self.literals:
            at = searched.find(literal)
            while at >= 0:
                if here := self.pattern.match(text, at):
                    self._judge(here, found)
                at = searched.find(literal, here.end() if here else at + len(literal))
        return found

    def _judge(self, match: re.Match[str], found: list[tuple[int, int, str]]) -> None:
        groups = self.pattern.groupindex
        secret = "s" if "s" in groups else 0
        tested = match.group("r" if "r" in groups else secret)
        if not _is_template(tested) and (not self.random or looks_random(tested)):
            found.append((*match.span(secret), self.kind))


def _token(kind: str, prefixes: str, rest: str, *, random: bool = False) -> Shape:
    """Tokens that begin with one of these words; `rest` is the pattern of what follows."""
    words = "|".join(re.escape(word) for word in prefixes.split())
    return Shape(kind, prefixes, rf"(?<![A-Za-z0-9])(?:{words})(?P<r>{rest})", random=random)


# Names of things that hold a secret. What follows the word must be the end of the name: `token_type`, `password_field`
# and `secret_name` name something else.
_NAME = (
    r"(?:passw(?:or)?d|passphrase|secret|token|credentials?"
    # `find` looks for the last word only: `key` counts behind these.
    r"|(?:(?<=api)|(?<=access)|(?<=secret)|(?<=private)|(?<=auth)|(?<=account)|(?<=signing)|(?<=encryption)"
    r"|(?<=api[_.-])|(?<=access[_.-])|(?<=secret[_.-])|(?<=private[_.-])|(?<=auth[_.-])|(?<=account[_.-])"
    r"|(?<=signing[_.-])|(?<=encryption[_.-]))key)"
)
# `name = `, `name: `, `"name": `, `name: str = `, `["name"] = `, `name => `, `--name `, `<name>`.
_IS = (
    r"[\"'`\])]{0,3}[ \t]{0,8}"
    r"(?::[ \t]{0,3}[A-Za-z][\w\[\], .|]{0,40}?=|[:=]{1,3}>?|(?<=\w)[ \t]|>)[ \t]{0,8}[\[({]?[ \t]?[rbuf]?"
)

SHAPES: tuple[Shape, ...] = (
    Shape(
        "private key",
        "-----BEGIN",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
        # Code that names the first line only is left alone: letters of a key have to follow.
        rf"(?=(?:{KEY_BODY}|-(?!----)){{0,300}}?[A-Za-z0-9+/]{{24}})(?:{KEY_BODY}|-(?!----)){{0,{LONGEST_KEY}}}"
        r"(?:-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----)?",
    ),
    _token("AWS key", "AKIA ASIA ABIA ACCA", r"(?![A-Z0-9]{9}EXAMPLE)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _token("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{36,255}"),
    _token("GitHub token", "github_pat_", r"[A-Za-z0-9_]{22,255}"),
    _token(
        "GitLab token",
        "glpat- glptt- gldt- glrt- glcbt- glsoat- glft- glimt- glagent- gloas-",
        r"[A-Za-z0-9_=-]{20,320}(?:\.[A-Za-z0-9]{2,20}){0,2}",
        random=True,
    ),
    _token("Slack token", "xox", r"[a-eo-s]-[A-Za-z0-9%-]{10,400}", random=True),
    _token("Slack token", "xapp-", r"\d-[A-Za-z0-9-]{20,400}"),
    Shape(
        "webhook",
        "hooks.slack.com/ discord.com/api/webhooks/ discordapp.com/api/webhooks/",
        r"(?:hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/)"
        r"(?P<s>[A-Za-z0-9_/-]{20,200})",
        random=True,
    ),
    _token("npm token", "npm_", r"[A-Za-z0-9]{36}(?![A-Za-z0-9])", random=True),
    Shape("npm token", "_authToken", r"_authToken[ \t]{0,3}=[ \t]{0,3}\"?(?P<s>[A-Za-z0-9_=+/.-]{16,400})"),
    _token("PyPI token", "pypi-AgE", r"[A-Za-z0-9_-]{50,400}"),
    _token("Google key", "AIza", r"[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _token("Google key", "ya29. GOCSPX-", r"[A-Za-z0-9_-]{20,400}"),
    _token(
        "Stripe key", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"[A-Za-z0-9+/=]{16,250}", random=True
    ),
    _token("API key", "sk-", r"(?:[a-z]{2,10}[0-9]{0,2}-){0,3}[A-Za-z0-9_-]{20,400}", random=True),
    _token("Hugging Face token", "hf_", r"[A-Za-z0-9]{30,60}(?![A-Za-z0-9])", random=True),
    _token("SendGrid key", "SG.", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    _token("Twilio key", "SK", r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    _token("Mailgun key", "key-", r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    Shape(
        "Telegram token", ":AA", r"(?<![A-Za-z0-9])\d{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])", loose=True
    ),
    _token("DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", r"[0-9a-f]{64}"),
    _token("Databricks token", "dapi", r"[0-9a-f]{32}(?:-\d)?(?![A-Za-z0-9])"),
    _token("Docker token", "dckr_pat_ dckr_oat_", r"[A-Za-z0-9_-]{20,64}"),
    _token("Vault token", "hvs. hvb.", r"[A-Za-z0-9_-]{24,300}"),
    _token("age key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{58}"),
    _token("Atlassian token", "ATATT3 ATCTT3", r"[A-Za-z0-9_=-]{50,400}"),
    _token("Square token", "sq0", r"(?:atp|csp|idp)-[A-Za-z0-9_-]{22,60}", random=True),
    _token("Shopify token", "shp", r"(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    _token("Linear key", "lin_api_", r"[A-Za-z0-9]{32,64}"),
    _token("Grafana token", "glsa_ glc_", r"[A-Za-z0-9+/=_]{32,400}", random=True),
    _token("RubyGems key", "rubygems_", r"[0-9a-f]{48}"),
    _token("New Relic key", "NRAK-", r"[A-Z0-9]{27}"),
    _token("Artifactory token", "AKCp", r"[A-Za-z0-9]{60,80}(?![A-Za-z0-9])"),
    _token(
        "JSON web token",
        "eyJ",
        r"[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,8000}\.[A-Za-z0-9_-]{10,4000}"
        r"(?:\.[A-Za-z0-9_-]{10,4000}){0,2}",
    ),
    Shape(
        "Azure key",
        "AccountKey= SharedAccessKey=",
        r"(?:AccountKey|SharedAccessKey)=(?P<s>[A-Za-z0-9+/]{40,90}={0,2})",
    ),
    Shape("password in a URL", "://", r"://[^\s/:@\"'<>`?#]{0,64}:(?P<s>[^\s/@\"'<>`]{3,256})@[A-Za-z0-9\[]"),
)

#: Read out of what names a secret, not out of how it looks: a guess, and so not made of what the model itself writes.
NAMED: tuple[Shape, ...] = (
    Shape(
        "authorization",
        "authorization api-key private-token auth-token",
        r"(?:authorization|api-key|private-token|auth-token)[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?[ \t]{0,2}"
        r"(?:(?:bearer|basic|token|digest|apikey|negotiate)[ \t]{1,4})?(?P<s>[A-Za-z0-9._~+/=-]{8,8000})",
        any_case=True,
        random=True,
    ),
    Shape(
        "authorization",
        "bearer",
        r"(?<![a-z])bearer[ \t]{1,4}(?P<s>[A-Za-z0-9._~+/=-]{16,8000})",
        any_case=True,
        random=True,
    ),
    Shape(
        "secret",
        "passw passphrase secret token key credential",
        # Not before `(` or `[`: that is a call or a look-up, whose name is no secret.
        rf"{_NAME}{_IS}[\"'`]?(?P<s>(?:[A-Za-z0-9+/_=.!@#$%^*~?-]|&(?!\w+=)){{12,400}})(?![A-Za-z0-9+/_(\[{{-])",
        random=True,
        any_case=True,
    ),
)

# Rarely needed, so compiled by `re` at their first use.
_TEMPLATE = r"[$%#]\{|\{\{|%\(|<[A-Za-z_ -]+>|\*{4}|x{6}|X{6}|\.{3}|…|\[redacted|^\$|^%[a-z]$|^\{[\w.!:]*\}$"
#: What people write where a password would be.
_PLACEHOLDERS = frozenset(
    "pass passwd password pwd secret user username token foo bar baz test testing changeme example postgres root "
    "admin guest mysql redis rabbitmq mypassword mysecretpassword hunter2 dummy none null key apikey api_key".split()
)


def _is_template(value: str) -> bool:
    """Whether a value stands for one that is filled in elsewhere."""
    return value.lower() in _PLACEHOLDERS or (
        re.search(_TEMPLATE, value) is not None and "-----" not in value
    )


_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_SAYS_SO = r"(?i)example|placeholder|dummy|changeme|your[_-]|fake|sample|[_-]test[_-]|^test"


def looks_random(value: str) -> bool:
    """Whether a machine, or a password's rules, made a text: letters and digits that alternate, no words.

    What people write (identifiers, paths, phrases) stays in one class of characters for several in a row.
    """
    if len(value) < 12 or re.fullmatch(_UUID, value) or re.search(_SAYS_SO, value):
        return False
    classes = [_class(character) for character in value]
    kinds = set(classes)
    if "d" not in kinds or not kinds & {"u", "l"}:
        return False
    changes = sum(a != b for a, b in pairwise(classes)) / (len(value) - 1)
    if len(value) < 20:
        # A password of people: three kinds of characters, well mixed.
        return len(kinds) >= 3 and changes >= 0.4
    # Random letters and digits change class at every second character (hex: 0.47), names at every eighth.
    return changes >= 0.27 and _entropy(value) >= 3.0


def _class(character: str) -> str:
    if character.isdigit():
        return "d"
    if character.isalpha():
        return "u" if character.isupper() else "l"
    return "s"


def _entropy(value: str) -> float:
    """Bits per character."""
    total = len(value)
    return -sum(count / total * math.log2(count / total) for count in Counter(value).values())
