/**
 * A certificate for `localhost`, `mail.test` and 127.0.0.1 that nobody trusts unless told to, valid for a hundred years.
 * The key is public by being here: for peers in tests, and nothing else.
 */
export const LOCALHOST = {
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQr4uUSSKewHxQYRw
wsJ+OHRuOEQXjAUOZurHVDEi09ehRANCAAQGVe5S5Mw8HAhy8svbDqXClrwrj8Gy
FXeVyKIHsLPgMJ4VS1VYcPqqa2lAzKGg9ZeVkBup7TgsryiAMskK3j4h
-----END PRIVATE KEY-----`,
  cert: `-----BEGIN CERTIFICATE-----
MIIBpTCCAUygAwIBAgIUQ+R/NRW8gBVKbzBBsbYQwG3e1+wwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTAzMjA1MVoYDzIxMjYxMDI4
MDMyMDUxWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQGVe5S5Mw8HAhy8svbDqXClrwrj8GyFXeVyKIHsLPgMJ4VS1VYcPqq
a2lAzKGg9ZeVkBup7TgsryiAMskK3j4ho3oweDAdBgNVHQ4EFgQUMcOuzfqNVtMM
ivftSSdnXsF5sUkwHwYDVR0jBBgwFoAUMcOuzfqNVtMMivftSSdnXsF5sUkwJQYD
VR0RBB4wHIIJbG9jYWxob3N0ggltYWlsLnRlc3SHBH8AAAEwDwYDVR0TAQH/BAUw
AwEB/zAKBggqhkjOPQQDAgNHADBEAiAP2+V/KalNenUunG9SEmIRz38vKrm0pHO8
Lig9X6Fn1AIgdDaRrpipauEpXDsZKoqqEHjQ1ZtJhQziTo88Q8OXHyA=
-----END CERTIFICATE-----`,
};
