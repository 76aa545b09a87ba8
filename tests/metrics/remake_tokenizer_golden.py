"""Writes tests/metrics/golden/tokenizer.jsonl: hostile strings and what the reference tokenizer makes of them.

    python tests/metrics/remake_tokenizer_golden.py      # needs Java

First line: origin. Then one line a string: [string, tokens], read between two lines of a plain word, so that no string
touches another. Last, whole files: {"captions": [...], "lines": [...]}, read in one piece: lines look at the next.
"""

import datetime
import hashlib
import json
import random
import re
import subprocess
import tempfile
from pathlib import Path

from pycocoevalcap.tokenizer import ptbtokenizer

JAR = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
GOLDEN = Path(__file__).with_name("golden") / "tokenizer.jsonl"
GUARD = "zqguardqz"

# Pieces, apart by spaces, "␣" standing for a space within one.
PIECES = r"""
a dog I The man's don't Don't DON'T can't cannot Cannot gonna Gotta gimme lemme WANNA cannots 'tis 'Twas 'tisn't
y'all
o'clock O'Brien l'amour d'Artagnan c'est C'mon ma'am li'l rock'n'roll 'n' n' 'em 'til 'cause 'cos ol' ol'man
somethin'
nothin' ain't shouldn't've I'd've he'll we're they've it's its' dogs' boss's s' 's 'S e'er ne'er Qur'an n't N'T
an't
’s don’t it’s ’90s '90s '90 90's 1990s 5'11" 6' don‘t don`t it`s O‘Neil y’all ’tis ‘tis jack-o'-lantern
five-o'clock
" "hi" 'hi' “hi” ‘hi’ „hi“ «hi» ‹hi› ``hi'' `hi' "hi "5 "$5 "( ''' '' ` `` “” ’’ ‘“ "'a'" 'a 'ab 'a-b' x'y aa'aa
éa'é
- -- --- ---- ----- ------ – — ― – a-b a--b a-␣b well-known K-9 -5 −5 x- -x pro- anti-war t-shirt 7-11 a‐b a‑b
a֊b a–b
( ) [ ] { } < > (a) [b] {c} (a (-_-) (^.^) (--) (>_<) ( ) -lrb- -RRB- (555)␣123-4567 (020)␣7946␣0958
. .. ... .... ..... ...... ........ … .␣.␣. .␣.␣.␣. a... ...a a…b wait... .5 5. 1... a. b. A. Z. I.␣The
J.␣K.␣Rowling
mr. Mr.␣X Mrs. dr. St. st.␣The inc. Inc.␣The Inc.␣the Inc.␣␣x inc.a inc.T inc.-a etc. etc.,␣and u.s. U.S.␣The
U.S.␣Army
U.S.-based U.S.'s u.s U.S.A. a.m. 5␣p.m.␣He p.m. 5p.m. e.g. i.e., Ph.D.␣The ph.d vs. No.␣5 no.␣no no.5 No.
Nos.␣1 fig.␣3
art.␣5 art. pp.␣5-6 ca.␣1900 ca. prop. Mass. mass. Miss.␣River miss. Ill. ill. mfg. MFG. Pty. PTY. jan. Jan.␣1
sat. sept.
1 10 1,000 1,000.5 1.000,5 1/2 ½ 1½ ¼ ¾ ⅓ ⅔ ⅛ 1␣1/2 1-1/2 1/2/3 1⁄2 1\/2 2nd 10% 100%. $5 $5.50 US$5 A$ HK$5 R$
£5 €5
5€ ¢5 ¥5 #1 #tag #5a 3:30 3:30pm 10am 12/25/2010 12/25-10 555-1234 555␣123␣4567 +1␣555␣123␣4567 +44␣20␣7946␣0958
555.123.4567
+5 -5.5 +.5 1.5.2 1:2:3 1,a a,1 1.a a.1 1,-1 1.-1 1e5 0x1F 3x 4k 1080p 9mm 5x5 1+1 1+1=2 1*2 ٣٤ ٣٫٥ १२ ² x² m³
10⁻² x₊₁ y¹₂z ₂³ ⁺ ₋ ⁻₁ ₊⁵ ⁺⁺²
H₂O 10° 20°C
and/or he/she w/ w/o n/a a/b/c a/b/c/d 24/7 a/ /a a//b a\b c:\foo\bar \* \*\* a\/b
http://www.foo.com/bar?x=1&y=2 https://a.b/c. HTTP://AA.com http://a www.foo.com foo.com foo.com/bar foo.org/
foo.net/a/b,
foo.co.uk/x foo@bar.com <foo@bar.com> a@b @name @ @@ a@ # ## #é C# c++ F# C++. .NET node.js x.y.z Hello.World
end.Start
a!b a?b a!b.c Yahoo!'s foo.txt foo.mp4 1.h 1.jpg, 1.tar.gz 5.c. my_file.jpg a_b _a a_ __ ___ _ a__b -_- ^_^ >_<
x_x o_O
:-) :) :( ;) :D :P :p: :-/ :] :[ :{ :} :| :@ :\ :'( =) =D 8) <3 </3 <:) >:( :o :o) ^^ (: :-)) :)a ;-; T_T \o/ XD
&amp; &lt; &gt; &quot; &quot;hi&quot; &apos; &nbsp; &AMP; &md; &ht; &#39; &#x27; &auml; f&uuml;r &copy; & &&
AT&T R&B r&b A&B&C A+B
<b> </b> <br/> <br␣/> <a␣href="x␣y"> <a␣href=x> <!--␣c␣--> <!DOCTYPE␣x> <?xml?> <1> <a <a␣b␣c> a<b a>b << >> <<<
<_> <b␣x='1'>
* ** *** **** + ++ = == ~ ~~ ^ | || % %% $ $$ ! !! !!! ? ?! !?!? ?!!! , ,, ; ;; : :: :a a:b a,b a;b a;, a., 1.,
a.: é.;
café naïve über Ñandú ŒUVRE straße ẞ İstanbul ΣΊΣΥΦΟΣ ΑΣ. привет. ДОМ 日本語 日本語。 中文，字 한국어 ภาษาไทย
हिन्दी नमस्ते مرحبا، שלום É.A. a.é
é's É'É ÉCOLE e\u0301te\u0301 \u0301a 1\u0301 a1\u0301b so\u00adft \u00ad 1\u00ad1 a-\u00adb \u00ada-b
zero\u200bwidth a\u200db \ufeffa a\ufffdb
\ud83d\ude00 \ud83d\udc4d\ud83c\udffd a\ud83d\ude00b \u2764\ufe0f \ud83c\uddeb\ud83c\uddf7 \ud835\udc00
\ud801\udc00x \ud840\udc00 http://a\ud83d\ude00 ☃ ♥ ★ → ™ ® © § ¶ • · ¿ ¡ « ﬁ Ⅷ Å K ſ
no\u00a0break 1\u00a01/2 555\u00a0123\u00a04567 U.S.\u00a0The .\u00a0.\u00a0. thin\u2009space ideo\u3000graphic
tab\tted 'a\u2003 http://aa\u2003b a@b\u2003c
ctl\u0001char a\u007fb a\u0080 a\u0085b \u0091hi\u0092 \u0093hi\u0094 it\u0092s a\u0096b a\u0097b a\u0099
a\rb a\r\r a\u000bb a\u000cb a\u2028b a\u2029b U.S.\rThe\r No.\u20285 'a\u000b http://aa\u000bb <a␣b="\r">
"""

# Captions that are read as one file: what a line is can depend on the next one, and on the end of the file.
FILES = [
    [
        "made in the U.S.",
        "The end",
        "by J.",
        "",
        "  ",
        "He left",
        "by J.",
        "he left",
        "see no.",
        "5 men",
        "modern art.",
        "5 men",
    ],
    [
        "Inc.",
        "The end",
        "Inc.",
        "the end",
        "plan b.",
        "A plan",
        "plan b.",
        "An",
        "plan b.",
        "Another",
        "U.S.",
        "<b> bold",
    ],
    ["", "", "a", "", " ", "\t", "b", ""],
    ["", "a", "b"],
    ["a '90"],
    ["a '90", "x"],
    ["a :)"],
    ["a :)", "x"],
    ["file 1.h"],
    ["by J.", "The"],
    ["by J.", "The", "x"],
    ["by J. The"],
    ["Inc."],
    ["Inc. "],
    ["Inc.a"],
    ["it's", "can", "not", "555", "123-4567", "1", "1/2", ".", ".", ".", "http://foo.com/a", "b"],
    ["one\ntwo", "a\n\nb", "\n", "c\n"],
    [" leading", "trailing ", "  both  ", "in   side"],
    ["x"],
    [" "],
]


def hostile_strings(count: int, seed: int) -> list[str]:
    """All pieces, and random joins of up to four of them, until there are `count` different strings."""
    pieces = [_unescaped(p.replace("␣", " ")) for p in PIECES.split()]
    chance = random.Random(seed)
    strings = dict.fromkeys(pieces)
    while len(strings) < count:
        joined = chance.choice(pieces)
        for _ in range(chance.choice((1, 1, 2, 3))):
            joined += chance.choice(
                ("", "", " ", " ", " ", "-", ".", ", ", ". ", "'", '"', "/", " the ")
            ) + chance.choice(pieces)
        if len(joined) < 48:
            strings[joined] = None
    return list(strings)


def _unescaped(piece: str) -> str:
    """Only \\uXXXX, \\r and \\t are escapes; other backslashes are what they are."""
    for escape, meant in (("\\r", "\r"), ("\\t", "\t")):
        piece = piece.replace(escape, meant)
    parts = piece.split("\\u")
    text = parts[0] + "".join(chr(int(p[:4], 16)) + p[4:] for p in parts[1:])
    return text.encode("utf-16", "surrogatepass").decode("utf-16")


def reference(text: str) -> str:
    """The reference's output for a file, called as pycocoevalcap calls it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "captions"
        file.write_bytes(text.encode())
        options = ["-preserveLines", "-lowerCase"]
        command = ["java", "-cp", str(JAR), "edu.stanford.nlp.process.PTBTokenizer", *options, str(file)]
        return subprocess.run(command, capture_output=True, check=True).stdout.decode()


def apart(strings: list[str]) -> list[str]:
    """The reference's tokens of each string, joined by spaces; line ends that it saw within one are spaces, too."""
    output = reference("".join(f"{GUARD}\n{string}\n" for string in strings) + f"{GUARD}\n")
    answers = output.split(f"{GUARD}\n")[1:-1]
    if len(answers) != len(strings):
        raise SystemExit(f"{len(strings)} strings, {len(answers)} answers: a string swallowed its guard")
    return [re.sub("[\n ]+", " ", answer).strip(" ") for answer in answers]


def main() -> None:
    strings = hostile_strings(2600, seed=20240714)
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
    origin = {
        "origin": "the answers of Stanford CoreNLP's PTBTokenizer to strings of our own",
        "command": "python tests/metrics/remake_tokenizer_golden.py",
        "jar": JAR.name,
        "sha256": hashlib.sha256(JAR.read_bytes()).hexdigest(),
        "java": java,
        "charset": "UTF-8, Java's default there",
        "date": datetime.date.today().isoformat(),
    }
    rows: list[object] = [origin, *map(list, zip(strings, apart(strings), strict=True))]
    for captions in FILES:
        lines = reference("\n".join(c.replace("\n", " ") for c in captions)).split("\n")
        rows.append({"captions": captions, "lines": lines})
    GOLDEN.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
