"""Password hashes accepted for /etc/shadow: each method by its exact format, with a limited cost."""

from __future__ import annotations

import pytest

from agent.config.model import AccountOptions, User
from agent.reader.common import password_hashes
from agent.reader.common.merge import Draft, PasswordForm

_43, _86 = "a" * 43, "a" * 86
#: Of the password "hunter2" by libxcrypt, one of each method.
TAKEN = {
    "yescrypt": "$y$j9T$$0GOrtxWCFCX6YC9gTnNp2y4QMz58oQSc9IBBSo6u0DB",
    "scrypt": "$7$CU..../....abcdefgh$g2zfZMM6gmsUWDn6gECAUVqrmH1vBgZEoNScK0/Y.y7",
    "bcrypt b": "$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.",
    "bcrypt y": "$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.",
    "SHA-512": "$6$saltsalt$8iYtNHxjWRl.NF6oNZ5tF.iKFlQREaXBLlSmZKP6dy9l5z3vsooWNW0/"
    "GZ6Nej73/TFug6pIPSqbJoCT6dfnj.",
    "SHA-512, rounds": "$6$rounds=1000$s$qYpFfYYcddYBQ3PRvguc9gyERLn55cQ17YvXkUGyUizAVWu1UfLwQK9LxIj0xWE1"
    ".yl9Df8hKrmZSI3teiKpc0",
    "SHA-256": "$5$rounds=5000$s$8uS02namDuX.ynTHhLj8Ywuo.IYeCAehEAF8JdncM46",
    "MD5": "$1$abc$9dV135Rc3U8Xbm2DxadgF0",
    "the dearest yescrypt": f"$y$jFT$YyDEnees8Fyal00o4zwfU.${_43}",
    "gost-yescrypt": f"$gy$j9T$zgX3NvzV.rND85/xbPWsF/${_43}",
    "the dearest scrypt": f"$7$GU..../....dlB5wYuU9gwfN7NTN7osr.${_43}",
    "a salt of other characters": f"$6$a-b_c(d)&${_86}",
    "the most rounds": f"$6$rounds=5000000$salt${_86}",
}
REFUSED = {
    "a plain password of 13 letters, or DES": "hunter2hunter",
    "DES": "ab0ozUNIgzCZ.",
    "BSDi": "_J9..saltujX2/vDcajk",
    "NT": "$3$$6608e4bc7b2b7a5f77ce3573570775af",
    "Sun's MD5": "$md5$salt$$6OpGMjkvtyue64V/KD6Pa/",
    "SHA-1": "$sha1$10$salt$kJ8pNuWExmvzi2D0DVj1Qu82IniZ",
    "MD5 cut short": "$1$abc$x",
    "SHA-512 cut short": f"$6$salt${'a' * 85}",
    "SHA-512 with more": f"$6$salt${'a' * 87}",
    "a salt alone": "$6$rounds=999999999$",
    "rounds of days": f"$6$rounds=999999999$salt${_86}",
    "rounds above the bound": f"$5$rounds=5000001$salt${_43}",
    "rounds below crypt's least": f"$6$rounds=999$salt${_86}",
    "rounds with a zero in front": f"$6$rounds=01000$salt${_86}",
    "rounds of other digits": f"$6$rounds=\u0661\u0660\u0660\u0660$salt${_86}",
    "bcrypt, cost of days": f"$2b$31${'a' * 53}",
    "bcrypt, cost too low": f"$2b$03${'a' * 53}",
    "bcrypt cut short": f"$2b$05${'a' * 52}",
    "yescrypt of 4 GiB": f"$y$jHT$salt${_43}",
    "yescrypt with more parameters": f"$y$j9T5$salt${_43}",
    "yescrypt without a flavour": f"$y$9T$salt${_43}",
    "scrypt of 4 GiB": f"$7$IU..../....salt${_43}",
    "scrypt, 63 in parallel": f"$7$CU....z....salt${_43}",
    "another field": f"$6$salt${_86}:0:0:root",
    "another line": f"$6$salt${_86}\n",
    "a lock": "*",
    "another lock": "!",
    "a locked hash": f"!$6$salt${_86}",
    "a colon in the salt": f"$6$sa:lt${_86}",
    "nothing but dollars": "$$$",
    "a megabyte": "$6$" + "a" * (1 << 20),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    assert password_hashes.checked(TAKEN[name]) == TAKEN[name]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_without_a_word_of_it(name: str) -> None:
    with pytest.raises(ValueError, match="mkpasswd") as caught:
        password_hashes.checked(REFUSED[name])
    assert len(str(caught.value)) < 200
    if len(REFUSED[name]) > 3:
        assert REFUSED[name] not in str(caught.value)


def test_a_lock_is_one_where_it_is_meant() -> None:
    assert password_hashes.shadow_field("*") == (None, True)
    assert password_hashes.shadow_field("!!") == (None, True)
    assert password_hashes.shadow_field("!" + TAKEN["SHA-512"]) == (TAKEN["SHA-512"], True)
    assert password_hashes.shadow_field(TAKEN["SHA-512"]) == (TAKEN["SHA-512"], False)
    with pytest.raises(ValueError, match="mkpasswd"):
        password_hashes.shadow_field("!hunter2")


def test_a_weak_method_is_a_warning() -> None:
    (warning,) = password_hashes.weak(
        [User("bob", TAKEN["MD5"]), User("eve", TAKEN["yescrypt"]), User("", None)]
    )
    assert warning.harmless
    assert "bob" in warning.path
    assert "MD5" in warning.message


@pytest.mark.parametrize(
    ("written", "form", "user", "secret"),
    [
        (TAKEN["SHA-512"], PasswordForm.EITHER, User("bob", TAKEN["SHA-512"]), None),
        (TAKEN["SHA-512"], PasswordForm.PLAIN, User("bob"), TAKEN["SHA-512"]),
        ("$6$rounds=999999999$salt$" + _86, PasswordForm.EITHER, None, None),
        ("hunter2", PasswordForm.EITHER, User("bob"), "hunter2"),
        ("$ecret", PasswordForm.EITHER, User("bob"), "$ecret"),
        ("hunter2", PasswordForm.HASH, None, None),
        ("hunter2hunter", PasswordForm.HASH, None, None),
        ("*", PasswordForm.HASH, User("bob", locked=True, options=AccountOptions(lock="*")), None),
        ("!", PasswordForm.PLAIN, User("bob"), "!"),
        ("!" + TAKEN["MD5"], PasswordForm.HASH, User("bob", TAKEN["MD5"], locked=True), None),
    ],
)
def test_a_password_of_a_drive(
    written: str, form: PasswordForm, user: User | None, secret: str | None
) -> None:
    draft = Draft("test")
    draft.add_password("bob", written, "here", form=form)
    reading = draft.reading()
    assert reading.config is not None
    assert reading.config.users == ((user,) if user else ())
    assert reading.secrets.get("bob") == secret
    assert [p.path for p in reading.problems if not p.harmless] == ([] if user else ["here"])
    assert "hunter2" not in str(reading.problems)


def test_a_lock_that_comes_later_is_not_lost() -> None:
    draft = Draft("test")
    draft.add_user(User("bob", groups=("adm",)))
    draft.add_password("bob", "*", "here", form=PasswordForm.HASH)
    draft.add_user(User("eve", TAKEN["yescrypt"]))
    draft.add_password("eve", "*", "here", form=PasswordForm.HASH)
    config = draft.reading().config
    assert config is not None
    assert [(user.name, user.locked) for user in config.users] == [("bob", True), ("eve", False)]
