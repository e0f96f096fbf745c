#!/usr/bin/env bash
# From a recording to a pack, and the pack on that recording, without DDS.
#   examples/bag_to_pack.sh drive.mcap /camera/image_raw /lidar/points mug out/
set -euo pipefail
[ $# -eq 5 ] || { sed -n 2,3p "$0" >&2; exit 2; }
bag=$1 image=$2 points=$3 name=$4 out=$5

mkdir -p "$out"
geoseg train --name "$name" --images "$bag" --image "$image" --clouds "$bag" --points "$points" --out "$out/$name.pack"
geoseg replay "$bag" --packs "$out/$name.pack" --out "$out/found.mcap"
geoseg view "$out/found.mcap" --inputs "$bag" --screenshot "$out/found.png"
