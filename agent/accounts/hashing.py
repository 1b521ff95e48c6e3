"""Hash a plain password for an image by this machine's crypt(3), by the method that the image would use."""

from __future__ import annotations

from agent.accounts import defaults
from agent.lib.errors import HostError
from agent.lib.text import lines, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes

    from agent.host.host import Host

#: Where PAM's method is: Debian, RPM systems.
_PAM = ("/etc/pam.d/common-password", "/etc/pam.d/system-auth", "/etc/pam.d/password-auth")
#: crypt(5): the prefix of each method's hashes. Another one becomes SHA-512, which each system verifies.
_PREFIX = {"yescrypt": b"$y$", "gost_yescrypt": b"$y$", "sha512": b"$6$"}
#: The library's names, of Debian and of RPM systems.
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
_REMEDY = "deliver a hash of the password, or run the command on a machine with libxcrypt"
#: Bytes of a setting and of a hash (CRYPT_GENSALT_OUTPUT_SIZE, CRYPT_OUTPUT_SIZE of crypt.h), and of the
#: memory that crypt_r(3) works in.
_SETTING, _DATA = 192, 1 << 17


def method(host: Host) -> str:
    """Return the method by which the image hashes passwords: that of PAM, else that of login.defs(5)."""
    for path in _PAM:
        for line in lines(host.read(path) or ""):
            kind, *rest = words(line) or [""]
            if kind in ("password", "-password") and any(word.endswith("pam_unix.so") for word in rest):
                return next((word for word in rest if word in _PREFIX), "sha512")
    said = defaults.word(host, "ENCRYPT_METHOD").lower()
    return said if said in _PREFIX else "sha512"


def hashed(host: Host, plain: str) -> str:
    """Return the hash of a plain password, with a new salt. Raise HostError if this machine has no libcrypt,
    or one without the method.
    """
    import ctypes

    prefix = _PREFIX[method(host)]
    crypt = _library()
    if not hasattr(crypt, "crypt_gensalt_rn"):  # that of glibc, on an old system
        raise HostError("crypt(3) of this machine makes no salts", hint=_REMEDY)
    setting = ctypes.create_string_buffer(_SETTING)
    crypt.crypt_gensalt_rn.restype = crypt.crypt_r.restype = ctypes.c_char_p
    made = crypt.crypt_gensalt_rn(prefix, ctypes.c_ulong(0), None, 0, setting, _SETTING)
    memory = ctypes.create_string_buffer(_DATA)
    found: bytes | None = made and crypt.crypt_r(plain.encode("utf-8", "surrogateescape"), setting, memory)
    if not found or not found.startswith(prefix):
        what = f"crypt(3) of this machine made no {prefix.decode()} hash of the password"
        raise HostError(what, hint=_REMEDY)
    return found.decode("ascii")


def _library() -> ctypes.CDLL:
    import ctypes  # late: only a plain password needs it

    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise HostError("this machine has no libcrypt", hint="install libcrypt1, or libxcrypt")
