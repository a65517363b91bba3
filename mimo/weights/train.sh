#!/usr/bin/env bash
# How the weights in this folder were trained, from a folder of photographs:
#
#     mimo/weights/train.sh PHOTOS OUT small|large
#
# PHOTOS holds sharp/ (photographs to shake) and train-pairs/{blur,sharp} (real pairs). Every eleventh sharp photograph is
# held out: 12 pairs made from them choose the best weights, 24 are the synthetic test set. Run again, it continues.
set -euo pipefail
photos=$(realpath "$1") out=$2 which=$3
cd "$(dirname "$0")/../.."
mkdir -p "$out"/{train,held}

number=0
for photograph in "$photos"/sharp/*; do
    number=$((number + 1))
    ln -sf "$photograph" "$out/$([ $((number % 11)) = 0 ] && echo held || echo train)/"
done
mimo synthesize "$out/train" "$out/synth" --count 540 --seed 1
mimo synthesize "$out/held" "$out/synth-held" --count 36 --seed 7
number=0
for picture in "$out"/synth-held/blur/*; do
    number=$((number + 1))
    part=$([ $((number % 3)) = 0 ] && echo val || echo test)
    for side in blur sharp; do
        mkdir -p "$out/$part/$side"
        ln -sf "../../synth-held/$side/$(basename "$picture")" "$out/$part/$side/"
    done
done

data=(--data "$out/synth")
# Real pairs are few: eight times each, they are a fifth of what is seen.
for _ in 1 2 3 4 5 6 7 8; do data+=(--data "$photos/train-pairs"); done
common=(--val "$out/val" --patch-size 128 --batch-size 4 --schedule cosine --augment flips,rot90 --val-crop 320 --seed 1)

if [ -e "$out/$which/last.pt" ]; then
    exec mimo train --resume "$out/$which"
fi
case $which in
small) exec mimo train --model mimo-unet-small "${data[@]}" "${common[@]}" --out "$out/small" \
    --iterations 4500 --lr 6e-4 --warmup 100 --ema 0.998 --val-every 250 --save-every 100 ;;
large) exec mimo train --model mimo-unet --init "${INIT:-mimo/weights/mimo-unet.safetensors}" "${data[@]}" "${common[@]}" --out "$out/large" \
    --iterations 1500 --lr 2e-4 --warmup 50 --ema 0.995 --val-every 150 --save-every 50 ;;
*) echo "small or large, not $which" >&2; exit 2 ;;
esac
