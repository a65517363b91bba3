#!/usr/bin/env bash
# How the weights in this folder were trained, from a folder of photographs:
#
#     mimo/weights/train.sh PHOTOS OUT mimo-unet|mimo-unet-small 1|2|3 [INIT]
#
# PHOTOS holds sharp/ (photographs to shake) and train-pairs/{blur,sharp} (real pairs). The first stage learns from shaken
# photographs, mimo-unet-small from random weights and mimo-unet from INIT; the second adds averaged frames and more of the
# real pairs, and continues from INIT, by default the weights that ship; the third is the second at a lower rate, in two
# processes. Every eleventh sharp photograph is held out: a third of the pairs made from them chooses the best weights, the
# others are the synthetic test set. Run again, it continues.
set -euo pipefail
photos=$(realpath "$1") out=$(realpath -m "$2") network=$3 stage=$4 init=${5:+$(realpath "$5")}
cd "$(dirname "$0")/../.."
mkdir -p "$out"/{train,held}
run="$out/$network-$stage"

number=0
for photograph in "$photos"/sharp/*; do
    number=$((number + 1))
    ln -sf "$photograph" "$out/$([ $((number % 11)) = 0 ] && echo held || echo train)/"
done
mimo synthesize "$out/train" "$out/shake" --count 540 --seed 1
mimo synthesize "$out/held" "$out/shake-held" --count 36 --seed 7
mimo synthesize "$out/train" "$out/video" --style video --count 400 --seed 3
mimo synthesize "$out/held" "$out/video-held" --style video --count 36 --seed 9
for style in shake video; do
    number=0
    for picture in "$out/$style-held"/blur/*; do
        number=$((number + 1))
        part=$([ $((number % 3)) = 0 ] && echo val || echo test)
        for side in blur sharp; do
            mkdir -p "$out/$part-$style/$side" "$out/$part-both/$side"
            pair="../../$style-held/$side/$(basename "$picture")"
            ln -sf "$pair" "$out/$part-$style/$side/"
            ln -sf "$pair" "$out/$part-both/$side/${style}_$(basename "$picture")"
        done
    done
done

train=(mimo train) batch=4
if [ "$stage" = 3 ]; then
    train=(torchrun --nproc-per-node 2 -m mimo train) batch=2
fi
if [ -e "$run/last.pt" ]; then
    exec "${train[@]}" --resume "$run"
fi
# Real pairs are few: a folder given several times counts as often. They are a fifth, then a quarter of what is seen.
data=(--data "$out/shake")
real=8 val="$out/val-shake" seed=1
if [ "$stage" != 1 ]; then
    data+=(--data "$out/video" --data "$out/video")
    real=24 val="$out/val-both" seed=$stage
    init=${init:-mimo/weights/$network.safetensors}
fi
for ((number = 0; number < real; number++)); do data+=(--data "$photos/train-pairs"); done
case $network-$stage in
mimo-unet-1) options=(--iterations 1500 --lr 2e-4 --warmup 50 --ema 0.995 --val-crop 320 --val-every 150 --save-every 50) ;;
mimo-unet-small-1) options=(--iterations 4500 --lr 6e-4 --warmup 100 --ema 0.998 --val-crop 320 --val-every 250 --save-every 100) ;;
mimo-unet-2) options=(--iterations 850 --lr 3e-4 --warmup 30 --ema 0.995 --val-crop 256 --val-every 150 --save-every 50) ;;
mimo-unet-small-2) options=(--iterations 3000 --lr 5e-4 --warmup 50 --ema 0.998 --val-crop 256 --val-every 500 --save-every 100) ;;
mimo-unet-3) options=(--iterations 800 --lr 1.5e-4 --warmup 20 --ema 0.99 --val-crop 256 --val-every 250 --save-every 50) ;;
*) echo "mimo-unet 1, 2 or 3, or mimo-unet-small 1 or 2; not $network $stage" >&2; exit 2 ;;
esac
exec "${train[@]}" --batch-size "$batch" --model "$network" ${init:+--init "$init"} "${data[@]}" --val "$val" --out "$run" --patch-size 128 \
    --schedule cosine --augment flips,rot90 --seed "$seed" "${options[@]}"
