#!/usr/bin/env bash
# Makes the texts that docs/results.md measures on, from Debian's packages:
#   examples/texts.sh DIR       DIR/handbook.txt, DIR/jargon.txt and DIR/anarch.txt
# Needs apt-get, dpkg-deb and python3. Says so where a text is not the one that was measured.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/shell.sh"
[[ $# == 1 && $1 != -h && $1 != --help ]] || { sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
for tool in apt-get dpkg-deb python3; do
  command -v "$tool" >/dev/null || fail "$tool is missing"
done

mkdir -p "$1"
out=$(cd -- "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
cd "$work"
say "fetching debian-handbook, jargon-text and anarchism"
fetch() { quietly apt-get download debian-handbook jargon-text anarchism; }
fetch || { ((EUID == 0)) && quietly apt-get update && fetch; } || fail "apt-get could not fetch the packages"
for package in *.deb; do
  dpkg-deb --extract "$package" root
done

say "converting"
python3 - root/usr/share/doc "$out" <<'PYTHON'
import glob, gzip, html, re, sys
doc, out = sys.argv[1:]

def pages(pattern):
    for path in sorted(glob.glob(f"{doc}/{pattern}")):
        with open(path, encoding="utf-8", errors="replace") as file:
            yield html.unescape(re.sub(r"<[^>]+>", "", file.read()))

def write(name, text):
    with open(f"{out}/{name}.txt", "w", encoding="utf-8") as file:
        file.write(text)

write("handbook", "\n".join(re.sub(r"[ \t]+", " ", re.sub(r"\n\s*\n+", "\n\n", page))
                            for page in pages("debian-handbook/html/en-US/*.html")))
write("anarch", "\n".join(re.sub(r"\s+", " ", page) for page in pages("anarchism/html/sec[A-J]*.html")))
with gzip.open(f"{doc}/jargon-text/jargon.txt.gz", "rt", encoding="utf-8", errors="replace") as file:
    write("jargon", file.read())
PYTHON

(cd "$out" && md5sum --check --quiet) <<'SUMS' || say "other versions of the packages: figures will differ"
ad9d3ffdbb8e3119e412de0baf4e0561  handbook.txt
0e02690e4a1e50803d7a5a9766b34207  jargon.txt
b099a19f9eae0c37ff5097d6056d0a80  anarch.txt
SUMS
say "$out/handbook.txt, jargon.txt, anarch.txt"
