"""Names chosen to harm programs that read them: labels of filesystems, names of processes."""

from __future__ import annotations

import re

#: What may reach a terminal: lines of characters that Python calls printable (no control, format, private,
#: unassigned or blank ones but the space).
HARMLESS = re.compile(
    "(?:[^\x00-\x09\x0b-\x1f\x7f-\xa0\xad\u061c\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff\ue000-\uf8ff])*"
)


#: Sixty labels: each is written as it is into a superblock of a filesystem that has room for it.
LABELS = (
    # Control characters and what a terminal obeys.
    b"\x01\x02\x03",
    b"a\tb",
    b"a\nb",
    b"a\rb",
    b"a\x0bb",
    b"a\x0cb",
    b"\x07\x07\x07",
    b"a\x08\x08b",
    b"\x7f\x7f",
    b"\x1b[2J\x1b[H",
    b"\x1b[31mred",
    b"\x1b]0;title\x07",
    b"\x1b]52;c;eA==\x07",
    b"\x1bc",
    b"\x1b[?1049h",
    b"\x1bP$qm\x1b\\",
    b"\x9b31m",
    b"\xc2\x9b31m",
    b"\xc2\x85next",
    b"\x1c\x1d\x1e\x1f",
    # Lines that look like the agent's.
    b"x\nchanged: sda",
    b"x\r\nfailed: y",
    b"x\nend 0\n",
    b"x\n- ok",
    b"x\n.\n",
    # Direction, format and blanks that are not seen.
    b"\xe2\x80\xaeabc",
    b"\xe2\x81\xa6a\xe2\x81\xa9",
    b"\xe2\x80\xa8a\xe2\x80\xa9b",
    b"\xe2\x80\x8b\xe2\x80\x8d",
    b"\xef\xbb\xbfbom",
    b"\xc2\xa0nbsp",
    b"\xc2\xadshy",
    b"\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d",
    b"\xd8\xb9\xd8\xb1\xd8\xa8",
    b"\xf3\xa0\x80\x81tag",
    # No UTF-8.
    b"\xff\xfe\xfd",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xc0\xaf..",
    b"\xf4\x90\x80\x80",
    b"a\xe2\x82",
    b"\x80\x81\x9f",
    # Paths, options and shells.
    b"../..",
    b".",
    b"..",
    b"/etc",
    b"-rf",
    b"--help",
    b".hidden",
    b"lost+found",
    b"$(reboot)",
    b"`id`;#&|<>",
    b"%n%s%x",
    b"'\"\\",
    b"~root/*?[]",
    b"{a,b}$IFS",
    b"C:\\x25",
    # Blanks, width and length.
    b"   ",
    b"e\xcc\x81\xcc\x82\xcc\x83\xcc\x84\xcc\x85",
    b"\xf0\x9f\x92\xa3\xf0\x9f\x87\xab\xf0\x9f\x87\xb7",
    (b"\x1b[5m" + b"\xe2\x80\xae" * 80)[:255],
)

#: Fifty names of processes and of their files: /proc spells nothing but a newline.
PROCESSES = (
    *(label[:15] for label in LABELS[:41] if b"/" not in label),
    b"a\rb c d e f g",
    b"\rx y 0 z:z 1 a",
    b"x (1): /a; init",
    b"sh (0)",
    b") R 1 1 1",
    b"\\012",
    b"\\",
    b"zz:zz",
    b"(deleted)",
)
