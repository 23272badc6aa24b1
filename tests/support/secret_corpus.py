"""Secrets in every form in which events carry them, and harmless texts that look like secrets.

Each token is put together from parts, with a digest of its number, so no text here is a live secret
or looks like one to a scanner of repositories. The prefixes are those that gitleaks and
detect-secrets publish. secret_forms.ndjson has more forms, in which `{}` stands for the secret.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

_MORE_FORMS: Final = [
    json.loads(line)
    for line in Path(__file__).with_name("secret_forms.ndjson").read_text().splitlines()
]


class Secret(NamedTuple):
    """A JSON value that contains `secret` somewhere: it must not be found afterwards."""

    form: str
    value: Any
    secret: str


def _letters(number: int, length: int, alphabet: str) -> str:
    """Letters that look random and are the same in every run."""
    digest = hashlib.sha512(f"{number}/{length}".encode()).digest() * (length // 64 + 1)
    return "".join(alphabet[byte % len(alphabet)] for byte in digest[:length])


_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER: Final = _UPPER.lower()
_HEX: Final = "0123456789abcdef"
_ALNUM: Final = _UPPER + _LOWER + "0123456789"
_BASE32: Final = _UPPER + "234567"

PREFIXED: Final = (
    *(("AK" + "IA", _BASE32, 16), ("AS" + "IA", _BASE32, 16), ("AB" + "SK", _ALNUM, 120)),
    *(("gh" + "p_", _ALNUM, 36), ("gh" + "o_", _ALNUM, 36), ("gh" + "s_", _ALNUM, 36)),
    *(("gh" + "u_", _ALNUM, 36), ("gh" + "r_", _ALNUM, 36), ("github" + "_pat_", _ALNUM, 82)),
    *(("gl" + "pat-", _ALNUM, 20), ("gl" + "dt-", _ALNUM, 20), ("gl" + "rt-", _ALNUM, 20)),
    *(("gl" + "ptt-", _HEX, 40), ("gl" + "soat-", _ALNUM, 20), ("gl" + "agent-", _ALNUM, 50)),
    *(("xo" + "xb-1234567890-", _ALNUM, 24), ("xo" + "xp-1234567890-", _ALNUM, 30)),
    *(("xa" + "pp-1-A012345-12345-", _HEX, 40), ("xo" + "xe-1-", _ALNUM, 146)),
    *(("sk" + "_live_", _ALNUM, 24), ("rk" + "_live_", _ALNUM, 24), ("sk" + "_test_", _ALNUM, 24)),
    *(("AI" + "za", _ALNUM, 35), ("np" + "m_", _ALNUM, 36), ("SG" + ".", _ALNUM, 66)),
    *(("sk" + "-proj-", _ALNUM, 120), ("sk" + "-ant-api03-", _ALNUM, 93), ("hf" + "_", _LOWER, 34)),
    *(
        ("sk" + "-aB3xT9kLmN2pQr5vWz8YT3" + "BlbkFJ", _ALNUM, 20),
        ("py" + "pi-AgEIcHlwaS5vcmc", _ALNUM, 60),
    ),
    *(("do" + "p_v1_", _HEX, 64), ("hv" + "s.", _ALNUM, 92), ("lin" + "_api_", _ALNUM, 40)),
    *(("gl" + "sa_", _ALNUM, 32), ("gl" + "c_", _ALNUM, 40), ("da" + "pi", _HEX, 32)),
    *(("sh" + "pat_", _HEX, 32), ("sh" + "pss_", _HEX, 32), ("pu" + "l-", _HEX, 40)),
    *(("rubygems" + "_", _HEX, 48), ("PM" + "AK-", _HEX, 24), ("nt" + "n_12345678901", _ALNUM, 35)),
    *(("dp" + ".pt.", _ALNUM, 43), ("pscale" + "_tkn_", _ALNUM, 40), ("rd" + "me_", _LOWER, 70)),
    *(("xkey" + "sib-", _HEX, 64), ("sntry" + "u_", _HEX, 64), ("shippo" + "_live_", _HEX, 40)),
    *(("AGE-SECRET" + "-KEY-1", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58), ("EZ" + "AK", _ALNUM, 54)),
    *(("sq0" + "atp-", _ALNUM, 22), ("EA" + "AC", _ALNUM, 110), ("LT" + "AI", _ALNUM, 20)),
    *(("pplx" + "-", _ALNUM, 48), ("HRKU" + "-AA", _ALNUM, 58), ("fio" + "-u-", _ALNUM, 64)),
    *(("duffel" + "_live_", _ALNUM, 43), ("pn" + "u_", _ALNUM, 36), ("hv" + "b.", _ALNUM, 140)),
    *(("tok" + "en_", _ALNUM, 0), ("sgp" + "_", _HEX, 40), ("gsk" + "_", _ALNUM, 52)),
    *(("https://hooks.sla" + "ck.com/services/T0AAAAAAA/B0AAAAAAA/", _ALNUM, 24),),
    *(("https://disc" + "ord.com/api/webhooks/123456789012345678/", _ALNUM, 68),),
    *(("sha" + "256~", _ALNUM, 43), ("ya" + "29.", _ALNUM, 60), ("1//" + "0", _ALNUM, 60)),
)
"""How a published token begins, the letters of the rest, and their number."""

TEXTS: Final = (
    *("password={s}", "password: {s}", "Password = {s}", "password:{s}", "passwd={s}", "pwd={s}"),
    *("--password={s}", "--password {s}", "tool --password '{s}' --verbose", "run --token {s} now"),
    *("mysql -u root -p{s} orders", "mysqldump -p{s} --all", "sshpass -p {s} ssh host"),
    *("PASSWORD '{s}'", "alter user jane with password '{s}'", "create user u identified by '{s}'"),
    *("export TOKEN={s}", "export DB_PASSWORD='{s}'", 'API_KEY="{s}" ./run', "set SECRET={s}"),
    *("host=db port=5432 user=u password={s} dbname=x", "host=db password='{s} x' user=u"),
    *("jdbc:postgresql://db/x?user=u&password={s}&ssl=true", "jdbc:mysql://db/x?password={s}"),
    *("jdbc:sqlserver://db;user=u;password={s};encrypt=true", "jdbc:oracle:thin:u/{s}@db:1521:x"),
    *("Server=db;Database=x;User Id=u;Password={s};", "Server=db;Uid=u;Pwd={s};Encrypt=yes"),
    *("DefaultEndpointsProtocol=https;AccountName=a;AccountKey={s}==;EndpointSuffix=x",),
    *("Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey={s}=", "Data Source=d;Password={s}"),
    *("https://h/x?token={s}", "https://h/x?a=1&api_key={s}&b=2", "GET /x?access_token={s} 200"),
    *("https://h/x?sv=2024&sig={s}&se=1", "https://h/?X-Amz-Signature={s}&x=1", "?apikey={s}"),
    *("https://h/?X-Amz-Security-Token={s}", "https://h/?client_secret={s}", "/x?auth_token={s}#a"),
    *("https://{s}@github.com/x/y.git", "https://x-access-token:{s}@github.com/x", "a://:{s}@h"),
    *("postgres://u:{s}@db/x", "amqp://u:p/{s}@mq:5672/v", 'redis://u:p"{s}@h/0', "a://u:{s}#@h"),
    *("see https://u:{s}@h/x, then retry", "mongodb+srv://u:{s}@h/x", "ftp://u:{s}/x@h/"),
    *("Authorization: Bearer {s}", "got 401 for Authorization: Bearer {s} at /x", "Bearer {s}"),
    *("curl -H 'Authorization: Bearer {s}' https://h/x", "sent bearer {s} to h", "token {s}1aB=="),
    *('curl -H "Authorization: token {s}" https://h', "authorization: ApiKey {s}", "auth: {s}"),
    *("curl -H 'X-Api-Key: {s}' https://h", "X-Auth-Token: {s}", "Proxy-Authorization: Basic {s}="),
    *(
        "curl -u jane:{s} https://h",
        "curl --user 'jane:{s}' https://h",
        "curl -b 'sid={s}' https://h",
    ),
    *('curl -d \'{{"password":"{s}"}}\' https://h', "curl --data 'password={s}&x=1' https://h"),
    *(
        "Cookie: session={s}; theme=dark",
        "Cookie: theme=dark; sid={s}",
        "Set-Cookie: sid={s}; Path=/",
    ),
    *('body was {{"password":"{s}"}}', "{{'api_key': '{s}', 'n': 1}}", "secret: {s}", "secret={s}"),
    *('{{"a":{{"token":"{s}"}}}}', '[{{"password":["{s}"]}}]', ' {{"client_secret" : "{s}"}} '),
    *('said "{{\\"password\\":\\"{s}\\"}}"', 'log: \\"token\\":\\"{s}\\",', "password => '{s}'"),
    *(
        "<password>{s}</password>",
        '<add key="Password" value="{s}"/>',
        "<apiKey a='1'>{s}</apiKey>",
    ),
    *("- name: DB_PASSWORD\n  value: {s}\n", "db:\n  password: {s}\n  host: h", "token: '{s}'"),
    *("[db]\npasswd = {s}\n", "api key: {s}", "API Key is {s}", "the password is {s}", "pin: {s}"),
    *("machine h login u password {s}", "aws_secret_access_key = {s}", "client secret: {s}"),
    *("private key: {s}", "connection string: {s}", "passphrase: {s}", "password := {s}"),
    *("config.password = '{s}'", 'os.environ["API_TOKEN"] = "{s}"', "pass={s}", "DB_PASS={s}"),
    *(
        "?redirect=%2Fx%3Ftoken%3D{s}%26a%3D1",
        "access_key={s}",
        "refresh_token={s}",
        "id_token:{s}",
    ),
    *("//npm.example.com/:_authToken={s}", "requirepass {s}", "ENV SECRET_KEY={s}"),
    *("login failed (password={s})", "kwargs: password='{s}', user='u'", "encryption_key={s}"),
    *(
        "docker login -u u -p {s} registry",
        "psql 'host=h password={s}'",
        "PGPASSWORD={s} psql -h h",
    ),
    *("redis-cli -a {s} ping", "wget --http-password={s} https://h", "gcloud --access-token {s}"),
    *(
        "x-amz-security-token: {s}",
        "Ocp-Apim-Subscription-Key: {s}",
        "SharedAccessSignature sig={s}",
    ),
    *("AWS4-HMAC-SHA256 Credential=x/y, SignedHeaders=h, Signature={s}", "bot_token:{s}"),
    *('Authorization: Digest username="u", response="{s}"', "signing_key={s}", "master_key: {s}"),
)
"""{s} is the secret; all the text before and after it stays."""

KEYS: Final = (
    *("password", "Password", "PASSWORD", "db_password", "pass_word", "passWord", "userPassword"),
    *("passwd", "pwd", "dbPwd", "secret", "client_secret", "clientSecret", "clientsecret", "token"),
    *(
        "accessToken",
        "access_token",
        "accesstoken",
        "refresh-token",
        "api key",
        "api.key",
        "api_key",
    ),
    *(
        "API-KEY",
        "apiKey",
        "x-api-key",
        "Authorization",
        "proxy-authorization",
        "auth",
        "basic_auth",
    ),
    *("bearer", "credential", "credentials", "private_key", "privateKey", "connection_string"),
    *("ConnectionString", "gcp_key", "azureKey", "ssh_key", "sshkey", "passphrase", "pem", "cert"),
    *(
        "encryption_key",
        "decrypt_key",
        "masterKey",
        "PGPASSWORD",
        "cookie",
        "Set-Cookie",
        "pin_code",
    ),
    *("pass\u200bword", "pass\u00adword", "to\u2060ken", "api\ufeff_key", "DB_PASS", "smtp.pass"),
    *("\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44", "\uff54oken", "\U0001d429assword"),
    *("AccountKey", "SharedAccessKey", "aws_secret_access_key", "signing_key", "webhook_secret"),
    *("X-Amz-Security-Token", "x-amz-signature", "authtoken", "_authToken", "bot_token", "oauth"),
    *("password_hash", "secret_id", "user[password]", "spring.datasource.password", "a/password"),
    *("otp", "pin", "X-API-Key", "cookies", "set-cookie", "otp_code", "totp", "totp_secret"),
    *("mfa_code", "mfaSecret", "one_time_password", "oneTimeCode", "sas_token", "sasToken", "psk"),
    *("pre_shared_key", "wifi_psk", "wifiPassword", "recovery_code", "recovery_codes"),
    *("backup_codes", "securityCode", "private_key_pem", "privatekey", "rsa_private_key"),
    *("key_pem", "tls_key", "tls.key", "ssl_key", "client_key", "clientKey", "service_account_key"),
    *("serviceAccountKey", "keystore_password", "keystorePass", "truststore_pass", "storepass"),
    *("keypass", "webhook_token", "hook_secret", "shared_key", "sharedKey", "shared_access_key"),
    *("secret_access_key", "secretAccessKey", "SecretAccessKey", "session_token", "sessionToken"),
    *("SessionToken", "JSESSIONID", "PHPSESSID", "csrf_token", "csrftoken", "xsrf-token"),
    *("x-auth-token", "x-access-token", "x-vault-token", "private-token", "job-token"),
    *("deploy_token", "X-Gitlab-Token", "auth_header", "authHeader", "auth_key", "authkey"),
    *("auth-key", "auth_code", "authorization_code", "secretkey", "secret-key", "secretKey"),
    *("app_secret", "appSecret", "consumer_secret", "consumerSecret", "oauth_secret", "api_secret"),
    *("apiSecret", "apitoken", "api-token", "api_token", "admin_pass", "adminPass", "rootpw"),
    *("root_pw", "dbpw", "db_pw", "pw", "userpw", "userPass", "user_pass", "passwrd", "pswd"),
    *("encryptionKey", "encryption-key", "enc_key", "crypt_key", "master_secret", "masterkey"),
    *("root_token", "signingSecret", "hmac_secret", "hmacKey", "jwt_key", "jwtSecret", "jwtToken"),
    *("id_token", "refreshToken", "bearerToken", "bearer_token", "access_jwt", "connectionString"),
    *("aws_secret", "aws_secret_key", "awsSecretKey", "gcp_credentials", "google_credentials"),
    *("GOOGLE_APPLICATION_CREDENTIALS_JSON", "azure_client_secret", "credentials_json"),
    *("github_token", "personal_access_token", "npm_token", "npmToken", "pypi_token"),
    *("slack_bot_token", "discord_token", "telegram_bot_token", "twilio_auth_token", "stripe_key"),
    *("stripe_secret_key", "stripeApiKey", "sendgrid_key", "openai_key", "ssh_private_key"),
    *("sshPrivateKey", "pem_key", "certificate_password", "cert_password", "cert_key", "certKey"),
    *("p12_password", "pfx_password", "unseal_key", "unseal_keys", "vault_token", "vault_pass"),
    *("ansible_become_pass", "ansible_ssh_pass", "become_pass", "sudo_password", "Pass"),
    *("PassWord", "pAsSwOrD", "apiKeyValue", "API_KEY_1", "apikey2", "my-secret-value"),
    *("secretValue", "tokenValue", "token_1", "TOKEN_PROD", "prodToken", "x-token", "xtoken"),
    *("usertoken", "token2", "clientCredentials"),
)
"""Keys whose value is always a secret."""

PAIR_NAMES: Final = ("DB_PASSWORD", "api-key", "Authorization", "TOKEN", "clientSecret")

HARMLESS_KEYS: Final = (
    *("tokens", "max_tokens", "tokenizer", "authored_by", "has_password", "password_reset_at"),
    *("cert_count", "pembroke", "authentic", "oauth_provider", "secret_name", "secret_ref"),
    *("api_key_id", "unauthorized", "author", "authors", "authority", "authorized", "authorised"),
    *("certainty", "certified", "secretary", "author_name", "certain", "concert", "uncertain"),
    *("certificate", "next_page_token", "pageToken", "prompt_tokens_details", "mapping", "spinner"),
    *("authentication_method", "token_type", "token_count", "password_policy", "key", "keyword"),
    *("primary_key", "cache_key", "partition_key", "tokenize", "secretariat", "pinned", "opinion"),
    *("is_authenticated", "requires_auth", "credential_type", "private_key_path", "cert_path"),
    *("compass", "passenger", "passed", "pass_rate", "bypass", "encrypted", "authenticator_type"),
    *("access_level", "session", "monkey", "turkey", "public_key", "hash", "token_expires_at"),
    *(
        "certs_valid",
        "total_tokens",
        "completion_tokens",
        "stemper",
        "tempered",
        "user",
        "cookies_enabled",
    ),
)

HARMLESS_TEXTS: Final = (
    *("Basic training", "bearer certificates", "basic plan", "Basic authentication is required"),
    *("bearer of bad news", "The bearer token is missing", "Bearer authentication", "basic auth"),
    *("password is required", "invalid password", "password: required", "token: expired"),
    *("Unexpected token < in JSON at position 0", "Unexpected token: identifier", "token expired"),
    *('password authentication failed for user "jane"', "max_tokens=512", "total tokens: 118"),
    *(
        "https://example.com/a?b=c",
        "https://jane@example.com/",
        "http://h:8080/a@b",
        "git@h:x/y.git",
    ),
    *("jane:doe@example.com", "at 10:30@home", "ssh://git@github.com/x/y.git", "a://b at c@d"),
    *(
        "image: app@sha256:0123456789abcdef",
        "docker://alpine:3.18@sha256:0123abcd",
        "the secret token",
    ),
    *("token=null", "password=None", "password=${DB_PASSWORD}", "token: {{ secrets.TOKEN }}"),
    *("password=[REDACTED]", "password: ****", "api_key=<your key>", "auth=none", "tokens: 12"),
    *(
        "-----BEGIN PUBLIC KEY-----\nMIIEvQ\n-----END PUBLIC KEY-----",
        "cert: expired",
        "no auth: 401",
    ),
    *("-----BEGIN CERTIFICATE-----\nMIIEvQ\n-----END CERTIFICATE-----", "authored_by: jane"),
    *('secrets "db-creds" not found', "mkdir -p /x/y", "docker run -p 8080:80 x", "find . -print"),
    *(
        "mysql -h db -P 3306 orders",
        "5 passed, 1 failed",
        "pass: 12, fail: 3",
        "3f2504e0-4f89-11d3",
    ),
    *(
        "the cookie policy: accept all",
        "two passes, pass 2 of 3",
        "tokenizer: cl100k",
        "sk-learn model",
    ),
    *("task-force-of-many-words-in-a-row", "risk-assessment-for-the-project", "SG. is a country"),
    *('{"max_tokens": 512, "tokens": ["a"]}', '{"author":"jane", "n": 1.50}', "ghp_short", "AKIA"),
    *(
        "author: jane",
        "Authorization header is missing",
        "authorization failed",
        "eyJ",
        "secret santa",
    ),
    *(
        "certification: iso 27001",
        "tool --max-tokens 512 --tokenizer bpe",
        "a signature is missing",
    ),
    *("pin the version: 1.2.3", "mapping: a to b", "spinner=on", "pipeline: x", "keys: a, b"),
    *("select token_count from usage where id = 5", "password must be at least 8 characters"),
    *("usage: tool --password PASSWORD", "has_password=true", "password_reset_at=2026-07-10"),
)
"""None of these changes, as the text of a value."""


def _digest(number: int, length: int = 20) -> str:
    """A different secret for each number: letters in both cases, and digits."""
    return f"hK{number % 10}x" + _letters(number, length - 4, _ALNUM)


def secrets() -> Iterator[Secret]:
    """Every form once, each with a unique secret, numbered so that it's always the same."""
    number = 0
    for prefix, alphabet, length in PREFIXED:
        for around in ("{}", "rejected: {}, sorry", "x={};"):
            if length:
                number += 1
                rest = _letters(number, length, alphabet)
                yield Secret(f"{prefix}...", {"note": around.format(prefix + rest)}, rest)
    for text in TEXTS:
        number += 1
        secret = _digest(number)
        yield Secret(text, {"note": text.format(s=secret)}, secret)
    for key in KEYS:
        for value in ("{}", ["{}"], {"deep": "{}"}):
            number += 1
            secret = _digest(number)
            yield Secret(f"key {key}", _filled({key: value}, secret), secret)
    for form, value in _structures():
        number += 1
        secret = _digest(number)
        yield Secret(form, _filled(value, secret), secret)
    yield from _more_secrets(number)


def _more_secrets(number: int) -> Iterator[Secret]:
    """The forms of the file, with secrets that a program, `openssl rand -hex` or a person makes."""
    forms = [form["secret"] for form in _MORE_FORMS if "secret" in form]
    for at, form in enumerate(forms, number + 1):
        secret = (_digest(at), _letters(at, 40, _HEX), f"hunter{at}x")[at % 3]
        yield Secret(str(form), {"note": _filled(form, secret)}, secret)


def harmless() -> list[Any]:
    """JSON values that stay unchanged."""
    return [
        *({"note": text} for text in HARMLESS_TEXTS),
        *({key: "kept value"} for key in HARMLESS_KEYS),
        *({"list": ["x", text]} for text in HARMLESS_TEXTS[::3]),
        *({"name": key, "value": "kept value"} for key in HARMLESS_KEYS[::3]),
        {"args": ["--max-tokens", "512", "--output", "x"]},
        {"required": ["password", "token", "user"]},
        {"token": 5, "secret": True, "password": None},
        *({"note": form["harmless"]} for form in _MORE_FORMS if "harmless" in form),
    ]


def headers() -> list[tuple[str, bytes]]:
    """Headers, each with `hK` and a digest as its secret."""
    names = ("Authorization", "Cookie", "x-api-key", "X-Auth-Token", "note")
    values = ("Bearer {}", "sid={}; a=b", "{}", "{}", "see https://h/x?token={}")
    return [
        (name, value.format(_digest(90_000 + at)).encode())
        for at, (name, value) in enumerate(zip(names, values, strict=True))
    ]


HEADER_SECRETS: Final = tuple(_digest(90_000 + at) for at in range(5))


def shapes(value: Any, number: int = 5) -> list[dict[str, Any]]:
    """Events of the four producers with the value in each field that can hold one."""
    names = {"execution_id": 1000, "event_id": number, "created_at": "2026-07-10T09:00:00Z"}
    error = value if isinstance(value, str) else json.dumps(value)
    call: dict[str, Any] = {"event_type": "call.done"}
    step: dict[str, Any] = {"event_type": "step.exit", "step": "s"}
    return [
        {**names, **call, "node_name": "s", "status": "FAILED", "context": value, "error": error},
        {**names, **call, "result_kind": "data", "payload": value, "step": "t"},
        {"execution_id": 1000, **call, "payload": {"result": {"error": value}, "n": number}},
        {**names, **step, "status": "OK", "context": [value], "meta": {"m": value}},
        {**names, **step, "extra_key": value, "result": {"context": {"deep": value}}},
    ]


def _structures() -> Iterator[tuple[str, Any]]:
    """Values in which the structure shows that `{}` is a secret."""
    for name in PAIR_NAMES:
        yield "name, value", [{"name": name, "value": "{}"}]
        yield "key, value", {"key": name, "value": "{}"}
        yield "Name, Value", {"Name": name, "Value": "{}", "Type": "String"}
        yield "header as a pair", {"headers": [[name, "{}"]]}
    yield "arguments", ["tool", "--password", "{}"]
    yield "arguments", ["tool", "--token", "{}", "--verbose"]
    yield "arguments", ["tool", "--password={}"]
    yield "arguments", ["mysql", "-u", "root", "-p{}"]
    yield "arguments", ["curl", "-u", "jane:{}", "https://h"]
    yield "arguments", ["curl", "-H", "Authorization: Bearer {}"]
    yield "arguments", ["env", "DB_PASSWORD={}", "run"]
    yield "arguments", ["sshpass", "-p", "{}", "ssh"]
    yield "key with bearer", {"Bearer {}": 1}
    yield "key with basic", {"Basic {}==": 1}
    yield "key with PEM", {_PEM: 1}
    yield "key with url", {"a://u:{}@h": 1}
    yield "key with assignment", {"https://h/?token={}": 1}
    yield "PEM", _PEM
    yield "PEM in a sentence", f"cannot read {_PEM} of host"
    yield "PEM cut off", _PEM[: _PEM.index("{}") + 2]
    yield "PEM in one line", _PEM.replace("\n", "\\n")
    yield "PGP", _PEM.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK")
    jwt = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
    yield "JWT", f"{jwt}.{{}}{{}}.{{}}"
    yield "JWT in a sentence", f"rejected {jwt}.{{}}{{}}.{{}}, sorry"
    yield "JSON in a string", json.dumps({"a": {"password": "{}"}})
    yield "JSON in a string", json.dumps([{"name": "TOKEN", "value": "{}"}])
    yield "JSON in a string in a string", json.dumps({"body": json.dumps({"password": "{}"})})


_PEM: Final = "-----BEGIN RSA " + "PRIVATE KEY-----\n{}\n-----END RSA " + "PRIVATE KEY-----"


def _filled(value: Any, secret: str) -> Any:
    match value:
        case str():
            return value.replace("{}", secret)
        case list():
            return [_filled(item, secret) for item in value]
        case dict():
            return {_filled(key, secret): _filled(item, secret) for key, item in value.items()}
        case _:
            return value
