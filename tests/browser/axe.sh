#!/bin/sh
# Say where axe-core is; fetch it from npm's registry where it is missing, this version with this checksum and no other.
# Fails, with a line, where it cannot be had: the tests that need it are skipped then, and say so.
set -eu
version=4.14.1
checksum=e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
folder=${1:-.venv/axe-core-$version}
if [ ! -s "$folder/axe.min.js" ]; then
  command -v npm >/dev/null || { echo "no axe-core: npm fetches it, and is not here" >&2; exit 1; }
  mkdir -p "$folder"
  aside=$(mktemp -d "$folder/fetched-XXXXXX")
  trap 'rm -rf "$aside"' EXIT
  (cd "$aside" && npm pack --silent --fetch-timeout=30000 --fetch-retries=1 "axe-core@$version" >/dev/null) \
    || { echo "no axe-core: npm pack axe-core@$version failed" >&2; exit 1; }
  echo "$checksum  $aside/axe-core-$version.tgz" | sha256sum --check --quiet - >&2 \
    || { echo "no axe-core: what npm fetched is not what was looked at" >&2; exit 1; }
  tar -xzf "$aside/axe-core-$version.tgz" -C "$aside" package/axe.min.js
  mv "$aside/package/axe.min.js" "$folder/axe.min.js"
fi
echo "$folder/axe.min.js"
