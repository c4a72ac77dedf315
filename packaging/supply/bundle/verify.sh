#!/bin/sh
# Is this bundle the one that was made, and who made it? Needs sh, find, sort, grep, sha256sum and openssl; no network.
#   sh verify.sh --key KEY.pem    with the public key that came by another way: this is the check
#   sh verify.sh                  with the key in the bundle: shows damage, not who made it
#   sh verify.sh --key KEY.pem --image busmap:VERSION    and: the image that podman or docker has by that name is
#                                 the one in here; before each start, as ExecStartPre= of a unit
# Ends with 0 only where everything is as it was signed.
set -u
LC_ALL=C
export LC_ALL
here=$(cd "$(dirname "$0")" && pwd) || exit 2
key=$here/keys/public.pem
trusted=no
image=
while [ $# -gt 0 ]; do
  case $1 in
    --key)
      [ $# -ge 2 ] || { echo "verify: --key takes a file" >&2; exit 2; }
      case $2 in /*) key=$2 ;; *) key=$(pwd)/$2 ;; esac
      trusted=yes
      shift 2 ;;
    --image)
      [ $# -ge 2 ] || { echo "verify: --image takes a name" >&2; exit 2; }
      image=$2
      shift 2 ;;
    *) echo "verify: unknown argument $1; known: --key KEY.pem, --image NAME" >&2; exit 2 ;;
  esac
done
for program in openssl sha256sum find sort grep; do
  command -v "$program" >/dev/null 2>&1 || { echo "verify: $program is not installed" >&2; exit 2; }
done
[ -r "$key" ] || { echo "verify: the key $key cannot be read" >&2; exit 2; }
cd "$here" || exit 2
wrong=0
tell() { echo "WRONG: $1" >&2; wrong=1; }

# 1. The list of sums is the one that was signed. Without that nothing below means anything.
if ! openssl dgst -sha256 -verify "$key" -signature SHA256SUMS.sig SHA256SUMS >/dev/null 2>&1; then
  tell "SHA256SUMS: its signature SHA256SUMS.sig was not made with the key $key, or one of the files was changed"
fi

# 2. Every file of the list is here, byte for byte.
found=$(sha256sum --quiet -c SHA256SUMS 2>&1) || tell "these files of SHA256SUMS are missing or were changed:
$(echo "$found" | grep -v '^sha256sum: WARNING')"

# 3. Nothing else is here: a file, a link or a device that the list does not have.
listed=$(sed 's/^[0-9a-f]*  //' SHA256SUMS 2>/dev/null)
added=$(find . ! -type d ! -path ./SHA256SUMS ! -path ./SHA256SUMS.sig | sed 's|^\./||' | sort |
  while IFS= read -r name; do
    printf '%s\n' "$listed" | grep -qxF -e "$name" || printf '%s\n' "$name"
  done)
[ -z "$added" ] || tell "these were added:
$added"
links=$(find . -type l)
[ -z "$links" ] || tell "these are links, which a bundle does not have:
$links"

# 4. The engine's image of that name has one of the two digests that an engine may call it by.
if [ -n "$image" ]; then
  engine=$(command -v podman || command -v docker) || { echo "verify: neither podman nor docker is installed" >&2; exit 2; }
  if id=$("$engine" image inspect --format '{{.Id}}' "$image" 2>/dev/null); then
    grep -qxE "(manifest|config) +sha256:${id#sha256:}" image/digests.txt ||
      tell "the image $image of ${engine##*/} is $id, which is not the one of this bundle"
  else
    tell "${engine##*/} has no image $image: load it first"
  fi
fi

fingerprint=$(openssl pkey -pubin -in "$key" -outform DER 2>/dev/null | openssl dgst -sha256 2>/dev/null | sed 's/.* //')
if [ "$wrong" -ne 0 ]; then
  echo "NOT VERIFIED. Do not install from this folder." >&2
  exit 1
fi
echo "Whole: every file is as it was signed, and no other is here."
echo "Key: $fingerprint"
[ -z "$image" ] || echo "Image: $image is the one of this bundle."
if [ "$trusted" = no ]; then
  echo "The key came with the bundle: compare its fingerprint with the one that you were told, or give --key." >&2
fi
