#!/usr/bin/env bash
# On a bare Debian machine, as root: installs QGIS and rsseg, and runs what is tested in QGIS, without a screen.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== QGIS"
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --quiet --yes --no-install-recommends qgis qgis-providers python3-qgis python3-venv

echo "== rsseg, apart from it"
"${PYTHON:-python3}" -m venv "$work/rsseg"
"$work/rsseg/bin/pip" install --quiet -c constraints.txt -e ".[test]"

echo "== rsseg in QGIS"
RSSEG_QGIS_PYTHON=/usr/bin/python3 "$work/rsseg/bin/pytest" -v --durations=0 "$@" tests/qgis
